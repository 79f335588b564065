//! Converts rank files to another number of ranks: `cargo run --example convert -- SOURCE DIRECTORY RANKS [MODEL]`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use ckpt_convert::{CancelToken, Event, Job, Observer, Outcome};

/// Prints notes, and how much is written whenever something ends.
#[derive(Default)]
struct Console {
    written: AtomicU64,
}

impl Observer for Console {
    fn note(&self, text: &str) {
        eprintln!("note: {text}");
    }

    fn begins(&self, what: &'static str, _: Option<u64>) {
        self.written.store(0, Ordering::Relaxed);
        eprintln!("{what} ...");
    }

    fn event(&self, event: Event) {
        if let Event::Written { bytes } = event {
            self.written.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn ends(&self, complete: bool) {
        let written = self.written.load(Ordering::Relaxed);
        eprintln!("{written} bytes{}", if complete { "" } else { ", not complete" });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, target, ranks, model) = match arguments.as_slice() {
        [source, target, ranks] => (source, target, ranks.parse()?, None),
        [source, target, ranks, model] => (source, target, ranks.parse()?, Some(model)),
        _ => return Err("give SOURCE DIRECTORY RANKS [MODEL]".into()),
    };
    let mut job = Job::transfer(source, target).ranks(ranks);
    if let Some(model) = model {
        job = job.model(model);
    }
    let planned = job.plan_with(&Console::default())?;
    print!("{}", planned.report()?.text());
    // Another thread, or a signal handler, may cancel a clone of it.
    match planned.run(&Console::default(), &CancelToken::default())? {
        Outcome::Published(summary) => print!("{}", summary.text()),
        other => println!("{other:?}"),
    }
    Ok(())
}
