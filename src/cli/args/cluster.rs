//! Heading *Several machines*, and `merge-manifest`.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

/// Options of a conversion on several machines. Without them the launcher's environment decides.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Several machines")]
pub(in crate::cli) struct ClusterArgs {
    /// Number of machines (or processes) that take part
    ///
    /// 1: this one alone, whatever a launcher says. Default: as the rank table or the launcher says.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65536),
        hide_short_help = true
    )]
    pub(in crate::cli) nodes: Option<u32>,
    /// Which machine (or process) this is, counted from 0
    ///
    /// Default: as the rank table or the launcher says.
    #[arg(long = "node-rank", alias = "node_rank", value_name = "I", hide_short_help = true)]
    pub(in crate::cli) node_rank: Option<u32>,
    /// Rank table: each machine takes the ranks of its own cards
    ///
    /// A table that only the environment names ($RANK_TABLE_FILE, $RANKTABLEFILE) is not used; ckpt_convert_for_16p.sh gives it
    /// with this option.
    #[arg(long = "rank-table", alias = "rank_table", value_name = "FILE", hide_short_help = true)]
    pub(in crate::cli) rank_table: Option<String>,
    /// Every process that the launcher starts takes a share (the default)
    #[arg(long = "per-process", conflicts_with = "per_node", hide_short_help = true)]
    pub(in crate::cli) per_process: bool,
    /// The first process of each machine does the machine's whole share
    ///
    /// The other processes end at once.
    #[arg(long = "per-node", hide_short_help = true)]
    pub(in crate::cli) per_node: bool,
    /// No shared storage: each machine writes its own ranks to its own -dc
    ///
    /// Each machine writes a manifest of its own, for merge-manifest.
    #[arg(long = "local-output", hide_short_help = true)]
    pub(in crate::cli) local_output: bool,
    /// Seconds without a sign of life after which a machine counts as dead
    ///
    /// A machine has ten times as long to begin.
    #[arg(
        long = "stale-after",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds,
        hide_short_help = true
    )]
    pub(in crate::cli) stale_after: Duration,
    /// Save finished files in groups of at least this size
    ///
    /// A machine that dies loses the group that it works on, at most.
    #[arg(long = "secure-every", value_name = "SIZE", default_value = "16GiB", hide_short_help = true)]
    pub(in crate::cli) secure_every: ByteSize,
}

/// Options of `merge-manifest`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct MergeArgs {
    /// Directories that --local-output wrote, or their manifests
    ///
    /// In a directory, the lengths of the files are checked too.
    #[arg(required = true, help_heading = "Where")]
    pub(in crate::cli) parts: Vec<PathBuf>,
    /// File for the joined manifest [default: standard output]
    ///
    /// An existing file is replaced only if it is a manifest.
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Where")]
    pub(in crate::cli) output: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.1..=86400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be a number from 0.1 to 86400".to_owned())
    }
}
