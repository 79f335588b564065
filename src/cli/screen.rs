//! What a job says, on standard error: notes, and the progress of whatever takes a while.

use std::sync::{PoisonError, RwLock};

use super::environment;
use super::run_args::OutputArgs;
use crate::Error;
use crate::job::Observer;
use crate::report::{self, Progress, ProgressMode};
use crate::{CancelToken, Event};

/// The terminal, or whatever else standard error leads to.
#[derive(Debug)]
pub(super) struct Screen {
    mode: ProgressMode,
    progress: RwLock<Option<Progress>>,
    cancel: CancelToken,
}

impl Screen {
    /// As it is asked for.
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

    /// What Ctrl-C and SIGTERM cancel, from the moment on at which something is written.
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

    /// Until here a signal may end the program as it likes. A second one ends it at once.
    fn before_writing(&self) -> Result<(), Error> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, self.cancel.flag())
                .and_then(|_| signal_hook::flag::register(signal, self.cancel.flag()));
            registered.map_err(|e| Error::Usage(format!("cannot watch for signal {signal}: {e}")))?;
        }
        Ok(())
    }
}

/// Prints a note.
pub(super) fn note(text: &str) {
    report::say(&format!("note: {}", report::plain(text)));
}
