//! Heading *Calibration*: `-f quant_weight -d … -dp …`.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::Args;

/// How activations are observed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Calibration")]
pub(in crate::cli) struct CalibrateArgs {
    /// Data set: boolq, squad1.1 or wikitext2
    ///
    /// The model is run on it to gather the statistics that --stats would give (quant_weight).
    #[arg(short = 'd', long = "dataset_name", alias = "dataset-name", value_name = "NAME", hide_short_help = true)]
    pub(in crate::cli) dataset_name: Option<String>,
    /// File of the data set
    #[arg(long = "dataset_path", alias = "dataset-path", value_name = "PATH", hide_short_help = true)]
    pub(in crate::cli) dataset_path: Option<PathBuf>,
    /// The model's tokenizer.json
    ///
    /// Default: the one in the source's directory, or in the directory above.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(in crate::cli) tokenizer: Option<PathBuf>,
    /// Most samples that are run [default: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), hide_short_help = true)]
    pub(in crate::cli) samples: Option<u32>,
    /// Tokens of a sample
    ///
    /// For wikitext2 the exact number (default 512), for the other data sets the most (default 4096).
    #[arg(
        long = "seq-length",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(2..=131_072),
        hide_short_help = true
    )]
    pub(in crate::cli) seq_length: Option<u32>,
    /// Base of the rotary embedding
    ///
    /// Default: as the yaml, the built-in model or the config.json beside the tokenizer says.
    #[arg(long = "rope-theta", value_name = "NUMBER", value_parser = positive, hide_short_help = true)]
    pub(in crate::cli) rope_theta: Option<f64>,
    /// Epsilon of the norms (rms_norm_eps)
    ///
    /// Default: as for --rope-theta.
    #[arg(long = "norm-eps", value_name = "NUMBER", value_parser = positive, hide_short_help = true)]
    pub(in crate::cli) norm_eps: Option<f64>,
    /// Token that begins a text; '' for none
    ///
    /// Default: as the tokenizer_config.json beside the tokenizer says.
    #[arg(long = "bos-token", value_name = "TOKEN", hide_short_help = true)]
    pub(in crate::cli) bos_token: Option<String>,
    /// Token that ends a text; '' for none
    ///
    /// Default: as for --bos-token.
    #[arg(long = "eos-token", value_name = "TOKEN", hide_short_help = true)]
    pub(in crate::cli) eos_token: Option<String>,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (1e-30..1e30).contains(&value) { Ok(value) } else { Err("must be a positive number".to_owned()) }
}
