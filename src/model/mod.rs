//! What a model is: families of models as tables, and one interpreter of them.
//!
//! A [`Family`] names the axes of a model, its parameters as products of axes, and the [`Scheme`]s (dialects of names) in which
//! files hold them. One rule covers every rank and every fused form: *a file holds the pack of the rank's own share of each part*
//! ([`Family::stored`]). The tables are the text files under `families/`; a family is added there and nowhere else.

mod builtin;
mod builtin_families;
mod companion;
mod companion_pack;
mod config_text;
mod configuration;
mod cut;
mod dialect;
mod equations;
mod error;
mod family;
mod fields;
mod file;
mod foreign;
mod fusion;
mod gguf;
mod in_order;
mod index;
mod layout;
mod lookup;
#[expect(clippy::module_inception, reason = "what a model is, and a model")]
mod model;
pub mod naming;
mod pack;
mod param;
mod params_json;
mod pattern;
mod quantity;
mod recognise;
mod registry;
mod row_check;
mod rules;
mod running;
mod scheme;
mod signs;
mod size;
mod solve;
mod texts;
mod version;
mod yaml_text;

pub use builtin::{Dense, builtin, builtin_names};
pub use builtin_families::{builtin_families, builtin_family};
pub use companion::{Companion, Of, OwnSizes, companions};
pub use config_text::ConfigText;
pub use configuration::{from_config_json, from_yaml, lora_alpha};
pub use dialect::{Dialect, Join, Place, Stored};
pub use error::{FamilyFileError, FamilyFileErrors, ModelError, SpecError};
pub use family::Family;
pub use foreign::{NamingError, Origin, check_adapters, origin};
pub use fusion::FusionLayout;
pub use gguf::{GgufModel, from_gguf};
pub use layout::{Canonical, WholeTensor};
pub use model::Model;
pub use pack::{Share, StoredPart, StoredTensor};
pub use param::{Axis, Cut, Mesh, Param, ParamId, Role, Sizes, When};
pub use params_json::{from_params_json, name_in_meta_release};
pub use pattern::{Captures, MAX_LAYERS, Pattern};
pub use quantity::{GROUP_SIZES, LoraFactor, QuantNames, Quantity};
pub use recognise::{Recognition, recognise};
pub use registry::{FamilyFile, Registered, add_families, families, family, registered};
pub use running::RunFacts;
pub use scheme::{Named, Row, Scheme};
pub use signs::{QuantSigns, QuantTool};
pub use size::{Configuration, Expression, Value};
pub use solve::{Fact, Solved};
pub use version::{VersionSign, version_sign};
pub use yaml_text::MAX_CONFIG_BYTES;

#[cfg(test)]
mod peers;
