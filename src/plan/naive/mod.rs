//! Plans held against naive slicing: random models in random arrangements, converted in memory. The files' elements are their own
//! numbers, a plan is carried out run by run, and what it makes must be what slicing the whole tensors makes. What is impossible
//! must be refused.
//!
//! Nothing here uses `layout` or `pieces`: `cut` says what a device holds in its own words, from the definitions of strategy files.
//! `PLAN_SEEDS=0..1000000 cargo test --release --lib plan::naive` tries more cases; `PLAN_SEEDS=38..39` the one that a failure names.

mod case;
mod convert;
mod cut;
mod execute;
mod fault;
mod files;
mod foreign;
mod placement;
mod random;
mod replicated;
mod templates;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use case::Case;
use fault::FAULTS;
use files::{Contents, File};
use foreign::ForeignCase;
use random::Random;

/// The seeds that are tried: those of the environment, or so many from 0 on.
fn seeds(count: u64) -> Range<u64> {
    let Ok(range) = std::env::var("PLAN_SEEDS") else { return 0..count };
    let (from, to) = range.split_once("..").expect("PLAN_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// The files of a conversion. They are laid out alike, so that copies of a file are.
fn files(seed: u64, contents: &[Contents]) -> Vec<File> {
    contents.iter().map(|contents| File::new(&mut Random::new(seed), contents)).collect()
}

/// Runs `check`; where it panics, says of what.
fn of<T>(seed: u64, text: impl FnOnce() -> String, check: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        eprintln!("PLAN_SEEDS={seed}..{}: {}", seed + 1, text());
        resume_unwind(panic)
    })
}

#[test]
fn plans_make_what_naive_slicing_makes() {
    let seeds = seeds(800);
    let (mut met, count) = (BTreeMap::new(), seeds.end - seeds.start);
    for seed in seeds {
        let random = &mut Random::new(seed);
        let case = Case::random(random);
        of(
            seed,
            || case.text(),
            || {
                let files = files(seed, &case.files);
                let plan = convert::plan(&files, &case.source, &case.target, &case.request);
                let plan = plan.unwrap_or_else(|error| panic!("a possible conversion is refused: {error}"));
                let expected = execute::of_ranks(&case.model, &case.target);
                execute::check(&plan, &files, (case.model.dtype, &case.request), expected, case.counter.as_ref());
            },
        );
        case.kinds().for_each(|kind| *met.entry(kind).or_insert(0) += 1);
    }
    // No kind of conversion is left out.
    let rare: Vec<_> = met.iter().filter(|(_, met)| **met < count / 50).collect();
    assert!(met.len() == 18 && (rare.is_empty() || count < 1000), "{met:?}");
}

#[test]
fn what_cannot_be_converted_is_refused() {
    for seed in seeds(420) {
        let random = &mut Random::new(seed);
        let (name, fault, errors) = FAULTS[usize::try_from(seed).expect("small") % FAULTS.len()];
        // Not every conversion can have every fault.
        let with_fault = |_| {
            let mut case = Case::random(random);
            fault(&mut case, random).map(|()| case)
        };
        let case = (0..1000).find_map(with_fault).unwrap_or_else(|| panic!("no conversion can have {name}"));
        let plan = || convert::plan(&files(seed, &case.files), &case.source, &case.target, &case.request);
        of(
            seed,
            || case.text(),
            || match plan() {
                Ok(_) => panic!("{name} is planned"),
                Err(error) => {
                    let text = format!("{error:?}");
                    assert!(errors.iter().any(|known| text.starts_with(known)), "{name} is called {text}");
                }
            },
        );
    }
}

#[test]
fn foreign_checkpoints_are_read_and_written_as_naive_slicing_has_them() {
    let seeds = seeds(400);
    let (mut met, count) = (BTreeSet::new(), seeds.end - seeds.start);
    for seed in seeds {
        let random = &mut Random::new(seed);
        let is_source = random.one_in(2);
        let case = if is_source { ForeignCase::from(random) } else { ForeignCase::to(random) };
        met.insert((is_source, case.kind()));
        of(
            seed,
            || case.text(),
            || {
                let files = files(seed, &case.files);
                let plan = if is_source { convert::plan_from(&files, &case) } else { convert::plan_to(&files, &case) };
                let plan = plan.unwrap_or_else(|error| panic!("a possible conversion is refused: {error}"));
                let ranks = || execute::of_ranks(&case.model, &case.ranks);
                let expected = if is_source { ranks() } else { vec![case.expected()] };
                execute::check(&plan, &files, (case.dtype(), &case.request), expected, None);
            },
        );
    }
    // Hugging Face's llama, Qwen 2 and Qwen 3, Baichuan 2 and InternLM 2 both ways, and Meta's of one shard and of several.
    assert!(met.len() == 12 || count < 400, "{met:?}");
}
