//! Progress: a bar on a terminal, a line now and then elsewhere.
//!
//! One thread draws, and looks before each drawing whether the terminal is ours: a job in the background prints lines, as it
//! would paint over the prompt of the shell otherwise. Events only count.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::screen::{Screen, say};
use super::units;
use crate::engine::Event;
use crate::sys::in_foreground;

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar if standard error is a terminal and this its foreground job, lines otherwise.
    Auto,
    /// Lines.
    Lines,
    /// Nowhere.
    Quiet,
}

/// How often memory is measured, and the bar drawn.
const TICK: Duration = Duration::from_millis(50);
/// How often a line is printed where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The narrowest bar that is worth its columns.
const NARROWEST: usize = 10;

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    done: AtomicU64,
    started: AtomicBool,
    flushing: AtomicBool,
    refused: AtomicBool,
    stop: AtomicBool,
    complete: AtomicBool,
}

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    counters: Arc<Counters>,
    /// Whether the total is that of several runs.
    whole: bool,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins. `what` is done: "converting", "comparing". Each run that is observed has a total of its own.
    pub fn start(mode: ProgressMode, what: &'static str) -> Self {
        Self::begin(mode, what, None)
    }

    /// Begins the progress of several runs, which move so many bytes together.
    pub fn start_whole(mode: ProgressMode, what: &'static str, bytes: u64) -> Self {
        Self::begin(mode, what, Some(bytes))
    }

    fn begin(mode: ProgressMode, what: &'static str, whole: Option<u64>) -> Self {
        let counters = Arc::new(Counters::default());
        if let Some(bytes) = whole {
            counters.total.store(bytes, Ordering::Relaxed);
        }
        let shared = Arc::clone(&counters);
        let ticker = move || Ticker::new(&shared, mode, what).run();
        let ticker = std::thread::Builder::new().name("progress".to_owned()).spawn(ticker).ok();
        Self { counters, whole: whole.is_some(), ticker }
    }

    /// Ends what went well.
    pub fn finish(mut self) {
        self.counters.complete.store(true, Ordering::Relaxed);
        self.stop();
        let done = self.counters.done.load(Ordering::Relaxed);
        debug_assert_eq!(done, self.counters.total.load(Ordering::Relaxed), "what is done is all that was to be done");
    }

    fn wake(&self) {
        if let Some(ticker) = &self.ticker {
            ticker.thread().unpark();
        }
    }

    fn stop(&mut self) {
        self.counters.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(ticker) = self.ticker.take() {
            // It only counts and draws; a panic there is no reason to fail.
            let _ = ticker.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Progress {
    /// Receives what goes on.
    pub fn event(&self, event: Event) {
        let counters = &self.counters;
        match event {
            Event::Started { bytes } => {
                if !self.whole {
                    counters.done.store(0, Ordering::Relaxed);
                    counters.total.store(bytes, Ordering::Relaxed);
                }
                counters.flushing.store(false, Ordering::Relaxed);
                counters.started.store(true, Ordering::Relaxed);
                self.wake();
            }
            Event::Written { bytes } => {
                counters.done.fetch_add(bytes, Ordering::Relaxed);
            }
            Event::UringRefused => counters.refused.store(true, Ordering::Relaxed),
            Event::Flushing => {
                counters.flushing.store(true, Ordering::Relaxed);
                self.wake();
            }
        }
    }
}

/// The thread that draws.
struct Ticker<'a> {
    counters: &'a Counters,
    mode: ProgressMode,
    what: &'static str,
    begun: Instant,
    /// When the last line was printed, if any was.
    said: Option<Instant>,
    told_of_uring: bool,
    bar: Option<ProgressBar>,
    /// What is around the bar.
    line: Arc<Mutex<Line>>,
}

impl<'a> Ticker<'a> {
    fn new(counters: &'a Counters, mode: ProgressMode, what: &'static str) -> Self {
        Self {
            counters,
            mode,
            what,
            begun: Instant::now(),
            said: None,
            told_of_uring: false,
            bar: None,
            line: Arc::default(),
        }
    }

    fn run(mut self) {
        loop {
            let stop = self.counters.stop.load(Ordering::Relaxed);
            if self.mode != ProgressMode::Quiet {
                self.show(stop);
            }
            if stop {
                break;
            }
            // Woken when something begins or ends, so that a short run need not wait for it.
            std::thread::park_timeout(TICK);
        }
    }

    fn show(&mut self, last: bool) {
        let ours = self.mode == ProgressMode::Auto && in_foreground();
        if self.counters.refused.load(Ordering::Relaxed) && !self.told_of_uring {
            self.told_of_uring = true;
            let text = "note: the kernel refuses io_uring; writing with pwrite instead";
            match self.bar.as_ref().filter(|_| ours) {
                Some(bar) => bar.println(text),
                None => say(text),
            }
        }
        if !self.counters.started.load(Ordering::Relaxed) {
            return;
        }
        let state = self.state();
        if state.total == 0 {
            return;
        }
        let complete = last && self.counters.complete.load(Ordering::Relaxed);
        if ours {
            if complete || !last {
                self.draw(&state);
            }
            if last && let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            return;
        }
        if last && let Some(bar) = &self.bar {
            // It would clear itself.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let due = self.said.unwrap_or(self.begun).elapsed() >= LINE_EVERY;
        if !last && due || complete && self.said.is_some() {
            self.said = Some(Instant::now());
            say(&state.line(self.begun.elapsed()));
        }
    }

    fn state(&self) -> State {
        let total = self.counters.total.load(Ordering::Relaxed);
        let flushing = self.counters.flushing.load(Ordering::Relaxed);
        State {
            what: if flushing { "flushing" } else { self.what },
            done: self.counters.done.load(Ordering::Relaxed).min(total),
            total,
        }
    }

    fn draw(&mut self, state: &State) {
        let line = Arc::clone(&self.line);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(state.total), ProgressDrawTarget::hidden());
            bar.set_style(style(&line));
            bar.set_draw_target(ProgressDrawTarget::term_like_with_hz(Box::new(Screen), 20));
            bar
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
        let rate = bar.per_sec() as u64;
        let drawn = state.bar(Screen::columns(), rate, bar.eta());
        let restyled = {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            let restyled = line.has_bar != drawn.has_bar;
            *line = drawn;
            restyled
        };
        if restyled {
            bar.set_style(style(&line));
        }
        if bar.length() != Some(state.total) {
            bar.set_length(state.total);
        }
        bar.set_position(state.done);
        bar.force_draw();
    }
}

/// The bar between what is around it. Its parts are taken when it is drawn, so that they fit together.
fn style(line: &Arc<Mutex<Line>>) -> ProgressStyle {
    let has_bar = line.lock().unwrap_or_else(PoisonError::into_inner).has_bar;
    let template = if has_bar { "{before} [{wide_bar}]{after}" } else { "{before}" };
    let part = |of: fn(&Line) -> &str| {
        let line = Arc::clone(line);
        move |_: &ProgressState, to: &mut dyn std::fmt::Write| {
            // A bar that cannot be drawn is no failure.
            let _ = to.write_str(of(&line.lock().unwrap_or_else(PoisonError::into_inner)));
        }
    };
    // In ASCII: blocks are two columns wide on some terminals.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("before", part(|line| &line.before))
        .with_key("after", part(|line| &line.after))
}

/// How far a run is.
struct State {
    what: &'static str,
    done: u64,
    total: u64,
}

/// What is around a bar.
#[derive(Debug, Default)]
struct Line {
    before: String,
    has_bar: bool,
    after: String,
}

impl State {
    /// Whole percents that are done: 100 only when all is.
    fn percent(&self) -> u128 {
        if self.total == 0 { 100 } else { u128::from(self.done) * 100 / u128::from(self.total) }
    }

    /// As much of it as the columns of a terminal hold.
    fn bar(&self, columns: usize, rate: u64, eta: Duration) -> Line {
        let percent = format!("{:>3}%", self.percent());
        let mut line = Line { before: format!("{} {percent}", self.what), has_bar: true, after: String::new() };
        if line.before.len() > columns {
            line.before = percent;
        }
        // A space and brackets.
        let around = line.before.len() + 3;
        if around + NARROWEST > columns {
            line.has_bar = false;
            return line;
        }
        let mut parts = vec![format!(" {}/{}", units::bytes(self.done), units::bytes(self.total))];
        if self.done < self.total && rate > 0 {
            parts.push(format!(" {}", units::rate(rate, Duration::from_secs(1))));
            parts.push(format!(" ETA {:#}", HumanDuration(eta)));
        }
        for part in parts {
            if around + NARROWEST + line.after.len() + part.len() > columns {
                break;
            }
            line.after.push_str(&part);
        }
        line
    }

    /// In a line of its own.
    fn line(&self, time: Duration) -> String {
        let (done, total) = (units::bytes(self.done), units::bytes(self.total));
        let line = format!("{}: {} %, {done} of {total}, {}", self.what, self.percent(), units::rate(self.done, time));
        if self.done == 0 || self.done >= self.total {
            return line;
        }
        let left = u128::from(self.total - self.done);
        let eta = u64::try_from(time.as_millis() * left / u128::from(self.done)).unwrap_or(u64::MAX);
        format!("{line}, {} to go", units::duration(Duration::from_millis(eta)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: State = State { what: "checking the source", done: 67_999_999_999, total: 136_000_000_000 };

    #[test]
    fn a_line_of_any_width_has_a_percentage_and_fits() {
        let mut lengths = Vec::new();
        for columns in 4..=200 {
            let line = HALF.bar(columns, 1_234_567_890, Duration::from_secs(55));
            let bar = if line.has_bar { 3 + NARROWEST } else { 0 };
            assert!(line.before.len() + bar + line.after.len() <= columns, "{columns}: {line:?}");
            assert!(line.before.ends_with(" 49%"), "{columns}: {line:?}");
            lengths.push(line.before.len() + bar + line.after.len());
        }
        assert!(lengths.is_sorted(), "more columns hold no less: {lengths:?}");
        let wide = HALF.bar(200, 1_234_567_890, Duration::from_secs(55));
        assert_eq!(wide.after, " 68.00 GB/136.00 GB 1.23 GB/s ETA 55s");
        assert!(HALF.bar(80, 1, Duration::ZERO).after.starts_with(" 68.00 GB"));
    }

    #[test]
    fn a_hundred_percent_is_all_of_it() {
        let of = |done, total| State { what: "", done, total }.percent();
        assert_eq!((of(0, 0), of(999_999, 1_000_000), of(u64::MAX, u64::MAX)), (100, 99, 100));
    }

    #[test]
    fn lines_say_how_much_is_to_go_while_something_is() {
        let line = State { what: "converting", done: 1_000_000, total: 4_000_000 }.line(Duration::from_secs(2));
        assert_eq!(line, "converting: 25 %, 1.00 MB of 4.00 MB, 500.00 kB/s, 6.00 s to go");
        let line = State { what: "flushing", done: 4_000_000, total: 4_000_000 }.line(Duration::from_secs(2));
        assert_eq!(line, "flushing: 100 %, 4.00 MB of 4.00 MB, 2.00 MB/s");
    }
}
