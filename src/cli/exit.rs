//! Exit statuses.

use std::process::ExitCode;

use crate::ErrorKind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done; or the two checkpoints are the same.
    Done,
    /// The input is at fault; or the two checkpoints differ.
    Input,
    /// The machine is at fault, or the program.
    Machine,
    /// Interrupted, as a shell reports SIGINT.
    Interrupted,
}

impl From<ErrorKind> for ExitStatus {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Input | ErrorKind::Unsupported => Self::Input,
            ErrorKind::Environment | ErrorKind::Internal => Self::Machine,
            ErrorKind::Cancelled => Self::Interrupted,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Done => 0,
            ExitStatus::Input => 1,
            ExitStatus::Machine => 2,
            ExitStatus::Interrupted => 130,
        })
    }
}
