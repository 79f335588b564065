//! Heading *Files*: what is read from files and written to them.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;

use crate::job::{CkptRecords, Format};

/// What is read from files and written to them.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files")]
pub(in crate::cli) struct FilesArgs {
    /// Format of the target [default: that of the source]
    #[arg(long, value_enum, hide_short_help = true)]
    pub(in crate::cli) format: Option<Format>,
    /// Leave out parameters whose names match (with * and ?)
    ///
    /// Files that are carried along are left out, too. May be given several times.
    #[arg(long, value_name = "PATTERN", hide_short_help = true)]
    pub(in crate::cli) ignore: Vec<String>,
    /// Most bytes of tensors in one file of a whole model
    ///
    /// For ms_to_pt (default 5GB), and for -w 1 with safetensors, which then writes several files with an index.
    #[arg(long = "max-shard-size", value_name = "SIZE", hide_short_help = true)]
    pub(in crate::cli) max_shard_size: Option<ByteSize>,
    /// Directory with the model's config.json and tokenizer (ms_to_pt)
    ///
    /// Needed where the source has none beside it.
    #[arg(long = "hf-config", value_name = "DIR", hide_short_help = true)]
    pub(in crate::cli) hf_config: Option<PathBuf>,
    /// Layout of .ckpt files
    #[arg(long = "ckpt-records", value_enum, value_name = "LAYOUT", default_value = "aligned", hide_short_help = true)]
    pub(in crate::cli) ckpt_records: CkptRecords,
    /// Write MindSpore's CRC trailer (.ckpt only)
    #[arg(long, hide_short_help = true)]
    pub(in crate::cli) crc: bool,
    /// Do not check the CRCs that the source's files state
    ///
    /// The check reads these files once more.
    #[arg(long = "no-crc-check", hide_short_help = true)]
    pub(in crate::cli) no_crc_check: bool,
    /// Compare the source with the checksums in its manifest.json
    ///
    /// The manifest is that of the conversion that made the source. The check reads the source once more.
    #[arg(long = "check-source", hide_short_help = true)]
    pub(in crate::cli) check_source: bool,
    /// Compare the replicas of large parameters too
    ///
    /// Small ones are always compared. The check reads the large ones once more.
    #[arg(long = "check-replicas", hide_short_help = true)]
    pub(in crate::cli) check_replicas: bool,
}
