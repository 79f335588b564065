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
    #[error("the family file `{file}`, line {line}: it extends `{base}`, which is not a family")]
    UnknownBase {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// The family that it names.
        base: String,
    },
    /// A place in the file says something that cannot be.
    #[error("the family file `{file}`, line {line}: {place}: {why}")]
    Entry {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// Where: `params q`, `schemes hf model.norm.weight`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A row of a family that it extends does not fit what the file says.
    #[error("the family file `{file}`: {place}, which it inherits, does not fit its parameters: {why}")]
    Inherited {
        /// The file.
        file: String,
        /// Where: `schemes hf model.norm.weight`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// Two families of which a configuration may be by the same word.
    #[error("the family file `{file}`: the model type `{model_type}` is that of the family `{other}` too")]
    SameType {
        /// The file.
        file: String,
        /// The `model_type`.
        model_type: String,
        /// The other family.
        other: String,
    },
}

impl FamilyFileError {
    /// The line, where there is one.
    pub(super) fn line(&self) -> Option<u64> {
        match self {
            Self::UnknownBase { line, .. } | Self::Entry { line, .. } => Some(*line),
            Self::Unreadable { .. } | Self::Inherited { .. } | Self::SameType { .. } => None,
        }
    }
}

/// All that is wrong with family files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyFileErrors(pub Vec<FamilyFileError>);

impl From<FamilyFileError> for FamilyFileErrors {
    fn from(error: FamilyFileError) -> Self {
        Self(vec![error])
    }
}

impl std::fmt::Display for FamilyFileErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join("\n"))
    }
}

impl std::error::Error for FamilyFileErrors {}

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
    /// Shapes that no one model has.
    #[error("{tensor} does not go with {others}: {what} is {found} in the first, {expected} by the rest")]
    ShapesClash {
        /// A tensor, or what is stated.
        tensor: Box<str>,
        /// The others.
        others: Box<str>,
        /// The axes of which two sizes follow.
        what: Box<str>,
        /// Their size in the tensor.
        found: Box<str>,
        /// Their size by the others.
        expected: Box<str>,
    },
    /// Shapes from which a size follows that is none.
    #[error("{what} of the {family} model would be {value} by {by}, which is not a positive whole number")]
    ShapesNotWhole {
        /// The family.
        family: Box<str>,
        /// The axis.
        what: Box<str>,
        /// What it would be.
        value: Box<str>,
        /// The tensors from which it follows.
        by: Box<str>,
    },
    /// A joined tensor whose parts no other tensor shows.
    #[error("{tensor} joins {what}, and no other tensor shows how large each part is")]
    ShapesUndecided {
        /// The tensor.
        tensor: String,
        /// The axes of each part.
        what: String,
    },
    /// Another number of dimensions than the family has.
    #[error("{tensor} has {found} dimensions; a {family} model has {expected}")]
    WrongDimensions {
        /// The tensor.
        tensor: String,
        /// Its number of dimensions.
        found: usize,
        /// That of the family.
        expected: usize,
        /// The family.
        family: String,
    },
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
    /// Blocks of rows that a rank's share, or a part of a joined tensor, is not made of.
    #[error("the {rows} rows of `{param}` that a rank holds are not whole blocks of {by}")]
    RowBlocks {
        /// The parameter.
        param: String,
        /// Rows of the rank.
        rows: u64,
        /// Rows of a block.
        by: u64,
    },
    /// Blocks of rows of a parameter that are none of the rows of the file.
    #[error("the rows of `{param}` are in another order in `{name}`, so that blocks of {by} are not the same rows")]
    BlocksApart {
        /// The parameter.
        param: String,
        /// The names.
        name: String,
        /// Rows of a block.
        by: u64,
    },
    /// Columns of which a rank holds several ranges, where blocks need one.
    #[error("the columns of `{param}` are cut inside, so that blocks of them are not one range")]
    CutInside {
        /// The parameter.
        param: String,
    },
}

/// Why dimensions make no model, or cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number is missing.
    #[error("the model configuration has no `{0}`")]
    Missing(String),
    /// A value is of the wrong kind or out of range.
    #[error("`{field}` of the model configuration is {value}, which is not {wanted}")]
    BadValue {
        /// The field.
        field: String,
        /// What is there.
        value: String,
        /// What should be there.
        wanted: String,
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
    /// An architecture of no family.
    #[error("the model configuration is of `{0}`, which is of no family that is known")]
    Unsupported(String),
    /// An architecture of several families, whose conditions do not decide.
    #[error("the model configuration is of `{found}`, which is of several families: {families}")]
    SeveralFamilies {
        /// The architecture.
        found: String,
        /// The families.
        families: String,
    },
    /// An architecture of the family's name whose layers hold other parameters.
    #[error("the model configuration is of {what} (`{field}`), which is not supported")]
    OtherLayers {
        /// What it is.
        what: String,
        /// The field that says so.
        field: String,
    },
    /// A model that another tool quantised.
    #[error("the model configuration is of a quantised model (`{field}`{})", method_text(.method.as_deref()))]
    Quantised {
        /// The field that says so.
        field: String,
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
        field: String,
        /// What there is, and what is not.
        why: String,
    },
    /// A number that the ranks do not divide.
    #[error("{ranks} ranks do not divide the {count} {what}")]
    DoesNotDivide {
        /// The number of ranks.
        ranks: u64,
        /// How many there are.
        count: u64,
        /// Of what.
        what: String,
        /// The greatest number of ranks that divides the heads, the kv heads and the ffn rows.
        most: u64,
    },
}

fn method_text(method: Option<&str>) -> String {
    method.map_or_else(String::new, |method| format!(", {method}"))
}
