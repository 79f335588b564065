//! What a model is: families of models as tables, and one interpreter of them.
//!
//! A [`Family`] names the axes of a model, its parameters as products of axes, and the [`Scheme`]s (dialects of names) in which
//! files hold them. One rule covers every rank and every fused form: *a file holds the pack of the rank's own share of each part*
//! ([`Family::stored`]). The tables are the text files under `families/`; a family is added there and nowhere else.

mod companion;
mod configuration;
mod cut;
mod dialect;
mod error;
mod family;
mod file;
mod layout;
mod model;
mod pack;
mod param;
mod pattern;
mod recognise;
mod row_check;
mod size;

pub use companion::{Companion, Of, OwnSizes, companions};
pub use configuration::SpecError;
pub use dialect::{Dialect, Join, Place, Stored};
pub use error::{FamilyFileError, ModelError};
pub use family::{Family, Named, Row, Scheme, builtin_families, builtin_family};
pub use layout::{Canonical, WholeTensor};
pub use model::Model;
pub use pack::{Share, StoredPart, StoredTensor};
pub use param::{Axis, Cut, Mesh, Param, ParamId, Role, Sizes, When};
pub use pattern::{Captures, Pattern};
pub use recognise::{Recognition, recognise};
pub use size::{Configuration, Expression, Value};

#[cfg(test)]
mod peers;
