//! How property tests run.

use proptest::test_runner::{Config, FileFailurePersistence};

/// So many cases. `regressions`: the file in which failures are kept, to be tried first from then on.
pub(crate) fn cases(cases: u32, regressions: &'static str) -> Config {
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: 200,
        ..Config::default()
    }
}
