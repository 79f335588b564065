//! Progress: a bar on a terminal, a line now and then elsewhere. Also notes how much memory was used on the way.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units;
use crate::engine::{Event, Observer};
use crate::sys::anonymous_memory;

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar if standard error is a terminal, lines otherwise.
    Auto,
    /// Nowhere.
    Quiet,
}

/// How often memory is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    done: AtomicU64,
    peak_memory: AtomicU64,
    stop: AtomicBool,
    refused: AtomicBool,
}

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    counters: Arc<Counters>,
    bar: OnceLock<ProgressBar>,
    mode: ProgressMode,
    what: &'static str,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins. `what` is done: "converting", "comparing".
    pub fn start(mode: ProgressMode, what: &'static str) -> Self {
        let counters = Arc::new(Counters::default());
        let lines = mode == ProgressMode::Auto && !std::io::stderr().is_terminal();
        let shared = Arc::clone(&counters);
        let ticker =
            std::thread::Builder::new().name("progress".to_owned()).spawn(move || tick(&shared, lines, what)).ok();
        Self { counters, bar: OnceLock::new(), mode, what, ticker }
    }

    /// Ends. Answers the most anonymous memory that was seen, in bytes.
    pub fn finish(mut self) -> u64 {
        self.stop();
        self.counters.peak_memory.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.counters.stop.store(true, Ordering::Relaxed);
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // It only counts; a panic there is no reason to fail.
            let _ = ticker.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Started { bytes } => {
                self.counters.total.store(bytes, Ordering::Relaxed);
                if self.mode == ProgressMode::Auto && std::io::stderr().is_terminal() {
                    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(10));
                    let style =
                        "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ETA {eta}";
                    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_message(self.what);
                    // Only the first run of a progress has a bar.
                    let _ = self.bar.set(bar);
                }
            }
            Event::Written { bytes } => {
                self.counters.done.fetch_add(bytes, Ordering::Relaxed);
                if let Some(bar) = self.bar.get() {
                    bar.inc(bytes);
                }
            }
            Event::UringRefused => {
                if !self.counters.refused.swap(true, Ordering::Relaxed) && self.mode == ProgressMode::Auto {
                    let text = "note: the kernel refuses io_uring; writing with pwrite instead";
                    match self.bar.get() {
                        Some(bar) => bar.println(text),
                        None => say(text),
                    }
                }
            }
            Event::Flushing => {
                if let Some(bar) = self.bar.get() {
                    bar.set_message("flushing");
                }
            }
        }
    }
}

fn tick(counters: &Counters, lines: bool, what: &str) {
    let begun = Instant::now();
    let mut said = begun;
    while !counters.stop.load(Ordering::Relaxed) {
        counters.peak_memory.fetch_max(anonymous_memory().unwrap_or(0), Ordering::Relaxed);
        if lines && said.elapsed() >= LINE_EVERY {
            said = Instant::now();
            let (done, total) = (counters.done.load(Ordering::Relaxed), counters.total.load(Ordering::Relaxed));
            let left = total.saturating_sub(done);
            let eta = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(left) / done.max(1);
            say(&format!(
                "{what}: {} of {}, {}, {} to go",
                units::bytes(done),
                units::bytes(total),
                units::rate(done, begun.elapsed()),
                units::duration(Duration::from_millis(eta)),
            ));
        }
        // Woken at the end, so that a short run need not wait for it.
        std::thread::park_timeout(TICK);
    }
}

fn say(line: &str) {
    // Progress that cannot be shown is no failure.
    let _ = writeln!(std::io::stderr(), "{line}");
}
