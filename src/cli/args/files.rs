//! Heading *Files*: what is read from files and written to them.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// MindSpore's protobuf.
    Ckpt,
    /// Hugging Face's safetensors.
    Safetensors,
    /// PyTorch's pickled .bin (ms_to_pt).
    Bin,
}

/// How .ckpt files are laid out. Both are the same parameters to MindSpore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CkptRecordsArg {
    /// With padding that lets data go straight from source to target.
    Aligned,
    /// Byte for byte as MindSpore writes them.
    Canonical,
}

/// What is read from files and written to them.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FilesArgs {
    /// Format of the target [default: that of the source]
    #[arg(long, value_enum, hide_short_help = true)]
    pub(crate) format: Option<FormatArg>,
    /// Leave out parameters whose names match (with * and ?)
    ///
    /// Files that are carried along are left out, too. May be given several times.
    #[arg(long, value_name = "PATTERN", hide_short_help = true)]
    pub(crate) ignore: Vec<String>,
    /// Most bytes of tensors in one file of a whole model
    ///
    /// For ms_to_pt (default 5GB), and for -w 1 with safetensors, which then writes several files with an index.
    #[arg(long = "max-shard-size", value_name = "SIZE", hide_short_help = true)]
    pub(crate) max_shard_size: Option<ByteSize>,
    /// Directory with the model's config.json and tokenizer (ms_to_pt)
    ///
    /// Needed where the source has none beside it.
    #[arg(long = "hf-config", value_name = "DIR", hide_short_help = true)]
    pub(crate) hf_config: Option<PathBuf>,
    /// Layout of .ckpt files
    #[arg(long = "ckpt-records", value_enum, value_name = "LAYOUT", default_value = "aligned", hide_short_help = true)]
    pub(crate) ckpt_records: CkptRecordsArg,
    /// Write MindSpore's CRC trailer (.ckpt only)
    #[arg(long, hide_short_help = true)]
    pub(crate) crc: bool,
    /// Do not check the CRCs that the source's files state
    ///
    /// The check reads these files once more.
    #[arg(long = "no-crc-check", hide_short_help = true)]
    pub(crate) no_crc_check: bool,
    /// Compare the source with the checksums in its manifest.json
    ///
    /// The manifest is that of the conversion that made the source. The check reads the source once more.
    #[arg(long = "check-source", hide_short_help = true)]
    pub(crate) check_source: bool,
    /// Compare the replicas of large parameters too
    ///
    /// Small ones are always compared. The check reads the large ones once more.
    #[arg(long = "check-replicas", hide_short_help = true)]
    pub(crate) check_replicas: bool,
}
