//! Options of `mount`: those of a conversion, but for those that say how a target is written.

use std::path::PathBuf;

use clap::Args;

use super::convert::ConvertArgs;

/// Options of a conversion that mean nothing where none is written, by their names in clap.
pub(in crate::cli) const UNUSED: [&str; 17] = [
    "dry_run",
    "dst_ckpt_path",
    "rank",
    "infer_strategy_file",
    "overwrite",
    "writes",
    "writer",
    "reflink",
    "no_sync",
    "nodes",
    "node_rank",
    "rank_table",
    "per_process",
    "per_node",
    "local_output",
    "stale_after",
    "secure_every",
];

/// Options of `mount`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("function", |arg| arg.help("What to do, as without `mount`").long_help(None)))]
#[command(mut_args(|arg| {
    let unused = UNUSED.iter().any(|name| arg.get_id() == *name);
    if unused { arg.hide(true) } else { arg }
}))]
pub(in crate::cli) struct MountArgs {
    /// The conversion.
    #[command(flatten)]
    pub(in crate::cli) convert: ConvertArgs,
    /// Mount point: an empty directory
    #[arg(value_name = "MOUNT_POINT", help_heading = "Where")]
    pub(in crate::cli) at: PathBuf,
    /// Let other users read it, too
    #[arg(long = "allow-other", help_heading = "Output")]
    pub(in crate::cli) allow_other: bool,
}
