//! Patterns of names, with `*` and `?`.

use crate::Error;

/// Patterns of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Vec<glob::Pattern>);

impl Patterns {
    /// Those of an option, which is named where one is no pattern.
    pub(super) fn of(option: &str, patterns: &[String]) -> Result<Self, Error> {
        let compile =
            |text: &String| glob::Pattern::new(text).map_err(|e| Error::Usage(format!("{option} {text}: {e}")));
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}
