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
mod placement;
mod random;
mod replicated;
mod templates;
mod whole;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Plan, PlanError};
use case::Case;
use fault::FAULTS;
use files::File;
use random::Random;

/// The seeds that are tried: those of the environment, or so many from 0 on.
fn seeds(count: u64) -> Range<u64> {
    let Ok(range) = std::env::var("PLAN_SEEDS") else { return 0..count };
    let (from, to) = range.split_once("..").expect("PLAN_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn planned(seed: u64, case: &Case) -> (Vec<File>, Result<Plan, PlanError>) {
    // The same for each file, so that copies of a file are alike.
    let files: Vec<File> = case.files.iter().map(|contents| File::new(&mut Random::new(seed), contents)).collect();
    let plan = convert::plan(&files, &case.source, &case.target, &case.request);
    (files, plan)
}

/// Runs `check`; where it panics, says of what.
fn of<T>(seed: u64, case: &Case, check: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        eprintln!("PLAN_SEEDS={seed}..{}: {}", seed + 1, case.text());
        resume_unwind(panic)
    })
}

#[test]
fn plans_make_what_naive_slicing_makes() {
    let seeds = seeds(1000);
    let (mut met, count) = (BTreeMap::new(), seeds.end - seeds.start);
    for seed in seeds {
        let random = &mut Random::new(seed);
        let case = Case::random(random);
        let (files, plan) = of(seed, &case, || planned(seed, &case));
        of(seed, &case, || {
            let plan = plan.unwrap_or_else(|error| panic!("a possible conversion is refused: {error}"));
            execute::check(&plan, &files, &case);
        });
        case.kinds().for_each(|kind| *met.entry(kind).or_insert(0) += 1);
    }
    // No kind of conversion is left out.
    let rare: Vec<_> = met.iter().filter(|(_, met)| **met < count / 50).collect();
    assert!(met.len() == 16 && (rare.is_empty() || count < 1000), "{met:?}");
}

#[test]
fn what_cannot_be_converted_is_refused() {
    for seed in seeds(500) {
        let random = &mut Random::new(seed);
        let (name, fault, errors) = FAULTS[usize::try_from(seed).expect("small") % FAULTS.len()];
        // Not every conversion can have every fault.
        let with_fault = |_| {
            let mut case = Case::random(random);
            fault(&mut case, random).map(|()| case)
        };
        let case = (0..1000).find_map(with_fault).unwrap_or_else(|| panic!("no conversion can have {name}"));
        of(seed, &case, || match planned(seed, &case).1 {
            Ok(_) => panic!("{name} is planned"),
            Err(error) => {
                let text = format!("{error:?}");
                assert!(errors.iter().any(|known| text.starts_with(known)), "{name} is called {text}");
            }
        });
    }
}
