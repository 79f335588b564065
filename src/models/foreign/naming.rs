//! From a foreign name to ours and back.

use super::super::ModelSpec;
use super::super::naming::{numbered_layer, role};
use super::tables::{EMBEDDING, HEAD, JOINED_PARTS, NORM, Table, is_buffer, reorder, table};
use super::{Family, Join, Reorder};
use crate::model::{Dialect, Origin};
use crate::tensor::Shape;

/// What a foreign name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of our unfused parameters.
    Parameter {
        /// Our name.
        name: String,
        /// How the rows stand.
        transform: Reorder,
    },
    /// Several of our unfused parameters in one.
    Parts {
        /// Our names, in the order of the parts: q, k, v.
        names: Vec<String>,
        /// How the rows stand.
        how: Join,
    },
    /// A buffer that holds nothing of the model.
    Dropped,
    /// A name that the family does not have.
    Unknown,
}

impl Place {
    /// Our names that it has: one, several or none.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Parameter { name, .. } => std::slice::from_ref(name),
            Self::Parts { names, .. } => names,
            Self::Dropped | Self::Unknown => &[],
        }
    }
}

/// Whether the names of a Hugging Face checkpoint begin with `model.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// They do, as those of every whole model.
    Model,
    /// They do not: the model was saved without its head (`LlamaModel` instead of `LlamaForCausalLM`).
    Bare,
}

/// The names of one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    family: Family,
    prefix: Prefix,
}

impl Naming {
    /// The names of a family, as whole models have them.
    pub const fn new(family: Family) -> Self {
        Self { family, prefix: Prefix::Model }
    }

    /// The names of a dialect. `None`: they are not known here.
    pub fn of_dialect(dialect: &Dialect) -> Option<Self> {
        let family = match dialect.family().name.as_str() {
            _ if dialect.is_meta() => Family::Meta,
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "baichuan2" => Family::Baichuan2,
            "internlm2" => Family::InternLm2,
            _ => return None,
        };
        Some(Self { family, prefix: if dialect.is_bare() { Prefix::Bare } else { Prefix::Model } })
    }

    /// The family.
    pub const fn family(self) -> Family {
        self.family
    }

    /// Whether the names begin with `model.`.
    pub const fn prefix(self) -> Prefix {
        self.prefix
    }

    /// What a foreign name is.
    pub fn place(self, foreign: &str) -> Place {
        if is_buffer(foreign) {
            return Place::Dropped;
        }
        if foreign == self.table().head {
            return Place::Parameter { name: HEAD.to_owned(), transform: Reorder::Plain };
        }
        self.below_prefix(foreign)
    }

    /// The foreign parameter that is one of our unfused parameters, or holds it: [`Self::place`] of the answer tells
    /// which. `None`: the family has none for it.
    pub fn foreign_name(self, ours: &str) -> Option<String> {
        let (table, prefix) = (self.table(), self.prefix_text());
        match ours {
            EMBEDDING => return Some(format!("{prefix}{}", table.embedding)),
            NORM => return Some(format!("{prefix}{}", table.norm)),
            HEAD => return Some(table.head.to_owned()),
            _ => {}
        }
        let role = role(ours)?;
        Some(format!("{prefix}layers.{}.{}", role.layer?, table.theirs(role.suffix)?))
    }

    /// The foreign parameters of a whole model, each once, layer by layer. `None`: a parameter of the model has no
    /// place in the family (biases of q, k and v anywhere but in Qwen 2).
    pub fn foreign_names(self, spec: &ModelSpec) -> Option<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for ours in spec.required() {
            let name = self.foreign_name(&ours)?;
            // q, k and v follow each other, so a joined parameter would repeat at once.
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        Some(names)
    }

    /// The full shape of a foreign parameter, or `None` for one that the model does not have.
    pub fn foreign_shape(self, spec: &ModelSpec, foreign: &str) -> Option<Shape> {
        let place = self.place(foreign);
        let shapes: Vec<Shape> = place.names().iter().map(|name| spec.shape(name)).collect::<Option<_>>()?;
        let rows = shapes.iter().try_fold(0u64, |sum, shape| sum.checked_add(*shape.dims().first()?))?;
        shapes.first()?.with_dim(0, rows).ok()
    }

    /// [`Self::place`] for what stands below the prefix.
    fn below_prefix(self, foreign: &str) -> Place {
        let table = self.table();
        let plain = |name: String| Place::Parameter { name, transform: Reorder::Plain };
        let Some(rest) = foreign.strip_prefix(self.prefix_text()) else { return Place::Unknown };
        if rest == table.embedding {
            return plain(EMBEDDING.to_owned());
        }
        if rest == table.norm {
            return plain(NORM.to_owned());
        }
        let Some((layer, suffix)) = rest.strip_prefix("layers.").and_then(numbered_layer) else {
            return Place::Unknown;
        };
        let ours = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        match table.ours(suffix) {
            Some(suffix) => Place::Parameter { name: ours(suffix), transform: reorder(self.family, suffix) },
            None => match table.joined {
                Some((joined, how)) if joined == suffix => Place::Parts { names: JOINED_PARTS.map(ours).into(), how },
                _ => Place::Unknown,
            },
        }
    }

    fn table(self) -> &'static Table {
        table(self.family)
    }

    fn prefix_text(self) -> &'static str {
        match self.prefix {
            Prefix::Model => self.table().prefix,
            Prefix::Bare => "",
        }
    }
}

/// Whose names these are. `None`: no name says.
pub fn recognise<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Origin> {
    crate::model::origin(names).ok().flatten()
}
