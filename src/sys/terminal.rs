//! The terminal that standard error leads to.

use std::io::{IsTerminal, stderr};

use rustix::process::getpgrp;
use rustix::termios::{tcgetpgrp, tcgetwinsize};

/// Whether standard error is a terminal.
pub fn on_terminal() -> bool {
    stderr().is_terminal()
}

/// Whether standard error is a terminal, and this process in its foreground. A shell starts a job with `&` in a process group of
/// its own, and `fg` and `bg` change the terminal's; a terminal of another session has no foreground for us.
pub fn in_foreground() -> bool {
    on_terminal() && tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp())
}

/// The columns of the terminal, where it says.
pub fn columns() -> Option<usize> {
    tcgetwinsize(stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}
