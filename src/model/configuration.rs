//! What a model's configuration can have wrong.

use super::error::ModelError;

/// Why dimensions make no model, or cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number is missing.
    #[error("the model configuration has no `{0}`")]
    Missing(&'static str),
    /// A value is of the wrong kind or out of range.
    #[error("`{field}` of the model configuration is {value}, which is not {wanted}")]
    BadValue {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What should stand there.
        wanted: &'static str,
    },
    /// The family's rules make nothing of it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file is no YAML mapping, or no JSON object.
    #[error("the model configuration is not readable: {0}")]
    Unreadable(String),
    /// A model that this program does not know.
    #[error("`{0}` is neither a file nor a built-in model")]
    UnknownModel(String),
    /// An architecture with other parameter names.
    #[error("the model configuration is of `{0}`, which is not of the llama family")]
    Unsupported(String),
    /// An architecture of the family's name whose layers hold other parameters.
    #[error("the model configuration is of {what} (`{field}`), which is not supported")]
    OtherLayers {
        /// What it is.
        what: &'static str,
        /// The field that says so.
        field: &'static str,
    },
    /// A model that another tool quantised.
    #[error("the model configuration is of a quantised model (`{field}`{})", method_text(.method.as_deref()))]
    Quantised {
        /// The field that says so.
        field: &'static str,
        /// The `quant_method` in it.
        method: Option<String>,
    },
    /// A `config.json` of a model type that this program does not know.
    #[error("the model configuration is of type `{found}`; known are {known}")]
    UnknownType {
        /// The type.
        found: String,
        /// Those that are known.
        known: String,
    },
    /// A part of the model that mindformers' network does not have.
    #[error("`{field}` of the model configuration: {why}")]
    NoPlace {
        /// The field that says so.
        field: &'static str,
        /// What there is, and what is not.
        why: &'static str,
    },
    /// A number that the ranks do not divide.
    #[error("{ranks} ranks do not divide the {count} {what}")]
    DoesNotDivide {
        /// The number of ranks.
        ranks: u64,
        /// How many there are.
        count: u64,
        /// Of what.
        what: &'static str,
        /// The greatest number of ranks that divides the heads, the kv heads and the ffn rows.
        most: u64,
    },
}

fn method_text(method: Option<&str>) -> String {
    method.map_or_else(String::new, |method| format!(", {method}"))
}
