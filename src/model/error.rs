//! What can be wrong with a family file, or with what one is asked about a model.

/// Why a family file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyFileError {
    /// The file is not a family file at all.
    #[error("the family file `{file}` is not readable: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why, with the line.
        why: String,
    },
    /// A family that is extended is unknown.
    #[error("the family file `{file}` extends `{base}`, which is not a family")]
    UnknownBase {
        /// The file.
        file: String,
        /// The family that it names.
        base: String,
    },
    /// A place in the file says something that cannot be.
    #[error("the family file `{file}`: {place}: {why}")]
    Entry {
        /// The file.
        file: String,
        /// Where: `params q`, `schemes hf model.norm.weight`.
        place: String,
        /// What is wrong.
        why: String,
    },
}

/// Why a family does not say where a tensor's elements are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A size, a number of layers or a flag that the configuration does not give.
    #[error("the configuration of the {family} model does not state {what} (`{expression}`)")]
    NotStated {
        /// The family.
        family: String,
        /// The axis, the layers or the parameter.
        what: String,
        /// The expression over the configuration's fields.
        expression: String,
    },
    /// An expression with a value that is no size.
    #[error("`{expression}` for {axis} of the {family} model is {value}, which is not a positive whole number")]
    BadSize {
        /// The family.
        family: String,
        /// The axis.
        axis: String,
        /// The expression over the configuration's fields.
        expression: String,
        /// Its value.
        value: String,
    },
    /// Ranks that do not divide an axis.
    #[error("{ranks} ranks do not divide {axis}, which is {size}")]
    DoesNotDivide {
        /// The number of ranks.
        ranks: u64,
        /// The axis.
        axis: String,
        /// Its size.
        size: u64,
    },
    /// Products of sizes beyond 64 bits.
    #[error("the dimensions of `{0}` are too large to be a tensor")]
    TooLarge(String),
    /// A layout of a strategy that does not fit the tensor.
    #[error(transparent)]
    Layout(#[from] crate::layout::LayoutError),
    /// Blocks of columns that a rank's share is not made of.
    #[error("the {columns} columns of `{param}` that a rank holds are not whole blocks of {by}")]
    Blocks {
        /// The parameter.
        param: String,
        /// Columns of the rank.
        columns: u64,
        /// Columns of a block.
        by: u64,
    },
    /// Columns of which a rank holds several ranges, where blocks need one.
    #[error("the columns of `{param}` are cut inside, so that blocks of them are not one range")]
    CutInside {
        /// The parameter.
        param: String,
    },
}
