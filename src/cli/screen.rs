//! What a job says, on standard error: notes, and the progress of whatever takes a while.

use std::sync::{Arc, PoisonError, RwLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
use signal_hook::flag;

use super::environment;
use super::run_args::OutputArgs;
use crate::Error;
use crate::job::Observer;
use crate::report::{self, Progress, ProgressMode};
use crate::sys::is_ignored;
use crate::{CancelToken, Event};

/// A signal that ends a run.
struct End {
    signal: i32,
    /// Whether a run that was started with this signal ignored goes on: `nohup`, and a shell's background.
    unless_ignored: bool,
    /// Whether a second one ends the program at once, and leaves what is unfinished. Some come several times by themselves: SIGHUP
    /// of the terminal and of its shell, SIGXCPU each second.
    second_ends_at_once: bool,
}

/// All signals that end a program by default and mean that a user or a limit requests it.
const END: [End; 5] = [
    End { signal: SIGINT, unless_ignored: false, second_ends_at_once: true },
    End { signal: SIGTERM, unless_ignored: false, second_ends_at_once: true },
    End { signal: SIGQUIT, unless_ignored: true, second_ends_at_once: true },
    End { signal: SIGHUP, unless_ignored: true, second_ends_at_once: false },
    End { signal: SIGXCPU, unless_ignored: true, second_ends_at_once: false },
];

/// Makes a file that grows beyond its limit (`ulimit -f`) an error of the write, which says which file, rather than the end.
pub(super) fn survive_file_limit() {
    // Writers get an error; where the signal cannot be caught it ends the program, as it would without this.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// The terminal, or whatever else standard error leads to.
#[derive(Debug)]
pub(super) struct Screen {
    mode: ProgressMode,
    progress: RwLock<Option<Progress>>,
    cancel: CancelToken,
}

impl Screen {
    /// As requested.
    pub(super) fn new(output: &OutputArgs) -> Self {
        Self::with(if output.quiet {
            ProgressMode::Quiet
        } else if environment::is_capable() {
            ProgressMode::Auto
        } else {
            ProgressMode::Lines
        })
    }

    /// Notes only.
    pub(super) fn of_notes() -> Self {
        Self::with(ProgressMode::Quiet)
    }

    fn with(mode: ProgressMode) -> Self {
        Self { mode, progress: RwLock::new(None), cancel: CancelToken::default() }
    }

    /// What [`END`] cancels, from the moment on at which something is written.
    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    fn take(&self) -> Option<Progress> {
        self.progress.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Observer for Screen {
    fn note(&self, text: &str) {
        note(text);
    }

    fn begins(&self, what: &'static str, bytes: Option<u64>) {
        let progress = match bytes {
            None => Progress::start(self.mode, what),
            Some(bytes) => Progress::start_whole(self.mode, what, bytes),
        };
        *self.progress.write().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    fn event(&self, event: Event) {
        if let Some(progress) = &*self.progress.read().unwrap_or_else(PoisonError::into_inner) {
            progress.event(event);
        }
    }

    fn ends(&self, complete: bool) {
        if let Some(progress) = self.take().filter(|_| complete) {
            progress.finish();
        }
    }

    /// Until here a signal may end the program at any point.
    fn before_writing(&self) -> Result<(), Error> {
        for end in END {
            let signal = end.signal;
            if end.unless_ignored && is_ignored(signal) {
                continue;
            }
            let second = if end.second_ends_at_once {
                flag::register_conditional_shutdown(signal, 130, self.cancel.flag()).map(|_| ())
            } else {
                Ok(())
            };
            let registered = second.and_then(|()| flag::register(signal, self.cancel.flag()));
            registered.map_err(|e| Error::Usage(format!("cannot watch for signal {signal}: {e}")))?;
        }
        Ok(())
    }
}

/// Prints a note.
pub(super) fn note(text: &str) {
    report::say(&format!("note: {}", report::plain(text)));
}
