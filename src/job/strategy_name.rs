//! What the strategy file of a rank is called.

use std::path::Path;

/// What the name of a rank's strategy file begins with.
const STRATEGY: &str = "ckpt_strategy_rank_";

/// Whether a name is that of a rank's strategy file.
pub(super) fn is_strategy_name(name: &str) -> bool {
    name.starts_with(STRATEGY)
}

/// The name of a rank's strategy file.
pub(super) fn strategy_name(rank: impl std::fmt::Display) -> String {
    format!("{STRATEGY}{rank}.ckpt")
}

/// The rank that the name of a strategy file gives.
pub(super) fn strategy_rank(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix(STRATEGY)?.parse().ok()
}
