//! What was typed about several machines.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

/// Options of a conversion on several machines. Without them the launcher's environment decides.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Several machines")]
pub(in crate::cli) struct ClusterArgs {
    /// Which machine (or process) this is, from 0 on. Default: as the rank table or the launcher says.
    #[arg(long = "node-rank", alias = "node_rank", value_name = "I")]
    pub(in crate::cli) node_rank: Option<u32>,
    /// How many machines (or processes) take part; 1: this one alone, whatever a launcher says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(in crate::cli) nodes: Option<u32>,
    /// Rank table: each machine takes the ranks of its own cards. One that the environment names ($RANK_TABLE_FILE,
    /// $RANKTABLEFILE) is not used unless it is given here; ckpt_convert_for_16p.sh does that.
    #[arg(long = "rank-table", alias = "rank_table", value_name = "FILE")]
    pub(in crate::cli) rank_table: Option<String>,
    /// Every process that the launcher starts takes a share (the default).
    #[arg(long = "per-process", conflicts_with = "per_node")]
    pub(in crate::cli) per_process: bool,
    /// The first process of each machine does all of the machine's share; the others end at once.
    #[arg(long = "per-node")]
    pub(in crate::cli) per_node: bool,
    /// No shared storage: each machine publishes its own ranks at its own -dc, with a manifest of its own for merge-manifest.
    #[arg(long = "local-output")]
    pub(in crate::cli) local_output: bool,
    /// Seconds without a sign of life after which a machine is taken for dead. Ten times as long is waited for one to begin.
    #[arg(long = "stale-after", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(in crate::cli) stale_after: Duration,
    /// Finished files are secured in groups of at least this size: what a machine that dies loses at most.
    #[arg(long = "secure-every", value_name = "SIZE", default_value = "16GiB")]
    pub(in crate::cli) secure_every: ByteSize,
}

/// Options of `merge-manifest`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct MergeArgs {
    /// The parts: directories that --local-output made, or their manifests. Of a directory the files' lengths are checked too.
    #[arg(required = true)]
    pub(in crate::cli) parts: Vec<PathBuf>,
    /// Where the manifest of the whole goes; of files that exist only a manifest is replaced. Default: standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=86400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("0.1 to 86400".to_owned())
    }
}
