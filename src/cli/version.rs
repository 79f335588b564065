//! What `--version` prints: the version, and what it was built from, for and with (see `build.rs`).

/// The text of `--version`; `-V` prints the version alone.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("CKPT_CONVERT_COMMIT"),
    "\ntarget: ",
    env!("CKPT_CONVERT_TARGET"),
    "\nfeatures: ",
    env!("CKPT_CONVERT_FEATURES"),
);
