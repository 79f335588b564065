//! The text of a yaml to a tree of values, within limits.
//!
//! A yaml comes from elsewhere, and a few kilobytes of aliases, or of merge keys, name billions of values. The reader is
//! `serde-saphyr`, for its budgets (and it has no unsafe code): `serde_yaml` and its successors on libyaml, `yaml_serde`
//! among them, copy what an alias names each time, without a limit that helps.
//!
//! Values are those of `PyYAML`, which mindformers reads its files with, but for the words on which the versions of YAML differ:
//!
//! | text | here | `PyYAML` |
//! |---|---|---|
//! | `1e-5` | a number | a text |
//! | `yes`, `on`, `no`, `off` | a text, which no flag takes | True, False |
//! | `010` | a text, which no number takes | 8 |
//! | a key that is there twice | an error | the last one counts |
//! | `!!python/tuple` and other tags | passed over | an error |

use serde_json::Value;
use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, Options};

use super::error::SpecError;

/// Bytes of the largest configuration that is read. The real ones have about 8 KiB.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// Values, those that aliases and merge keys repeat included. The real files have up to 459.
const MAX_VALUES: usize = 100_000;
/// Levels. The real files have up to 5.
const MAX_DEPTH: usize = 64;
/// Aliases. The real files have up to 2.
const MAX_ALIASES: usize = 1_000;
/// Merge keys: each is compared with the keys around it.
const MAX_MERGES: usize = 100;
/// Bytes of all texts, those that aliases repeat included.
const MAX_TEXT_BYTES: usize = 4 * MAX_CONFIG_BYTES;

/// The whole document, its aliases and merge keys expanded.
pub(super) fn read(text: &str) -> Result<Value, SpecError> {
    check_size(text.len())?;
    read_as(text).map_err(SpecError::Unreadable)
}

/// The document as any type, or what is wrong with it.
pub(super) fn read_as<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str_with_options(text, options()).map_err(|e| explain(&e))
}

/// Whether a configuration is not too large to be read.
pub(super) fn check_size(len: usize) -> Result<(), SpecError> {
    if len > MAX_CONFIG_BYTES {
        return Err(SpecError::Unreadable(format!("{len} bytes, more than {MAX_CONFIG_BYTES}")));
    }
    Ok(())
}

fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 3 * MAX_VALUES,
            max_aliases: MAX_ALIASES,
            max_merge_keys: MAX_MERGES,
            max_recorded_anchor_events: MAX_VALUES,
            max_total_scalar_bytes: MAX_TEXT_BYTES,
            max_documents: 1,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MAX_VALUES },
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        leading_zero_numbers_as_strings: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// What is wrong and where, in one line.
fn explain(error: &Error) -> String {
    let mut inner = error.without_snippet();
    while let Error::AliasError { error, .. } = inner {
        inner = error.without_snippet();
    }
    let what = match inner {
        Error::Budget { breach, .. } => limit(breach),
        Error::AliasReplayLimitExceeded { .. } => too_many_values(),
        Error::AliasReplayStackDepthExceeded { .. } => too_deep(),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias names what it is in".to_owned(),
        // The scanner's own limit, which is the same number.
        other if other.to_string().starts_with("recursion limit exceeded") => too_deep(),
        _ => return error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    };
    match error.location() {
        Some(at) => format!("{what}, at line {}, column {}", at.line(), at.column()),
        None => what,
    }
}

/// The limit that was met, in words.
fn limit(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } | BudgetBreach::RecordedAnchorEvents { .. } => {
            too_many_values()
        }
        BudgetBreach::Aliases { .. } => format!("more than {MAX_ALIASES} aliases (*name)"),
        BudgetBreach::MergeKeys { .. } => format!("more than {MAX_MERGES} merge keys (<<)"),
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            format!("more than {MAX_TEXT_BYTES} bytes of text, aliases included")
        }
        BudgetBreach::Documents { .. } => "more than one document (---)".to_owned(),
        other => format!("more than is read of it ({other:?})"),
    }
}

fn too_many_values() -> String {
    format!("more than {MAX_VALUES} values, aliases and merge keys (<<) included")
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} levels")
}

#[cfg(test)]
#[path = "yaml_text_tests.rs"]
mod tests;
