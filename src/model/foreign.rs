//! Whose names a checkpoint has: MindSpore's, or those of a PyTorch program.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::dialect::{Dialect, Place, first_layer};
use super::family::Family;
use super::fusion::FusionLayout;
use super::recognise::{Recognition, best};
use super::registry::families;
use super::scheme::{Row, Scheme};

/// Why a set of names cannot be placed as one model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    /// Part of an adapter, not of a model.
    #[error("`{0}` is of a PEFT adapter, or of a model wrapped by one: merge it first (`merge_and_unload`)")]
    Adapter(String),
    /// Names with and without the prefix of a whole model.
    #[error("`{with}` begins with `{prefix}` but `{without}` does not: these are not of one model")]
    MixedPrefixes {
        /// The prefix.
        prefix: String,
        /// One name.
        with: String,
        /// Another.
        without: String,
    },
    /// Names that several families explain alike, each as other parameters.
    #[error("the names are as much those of {0}: a config.json would say which")]
    SeveralFamilies(String),
}

/// Whose names a checkpoint has.
#[derive(Clone, Debug)]
pub enum Origin {
    /// mindformers'.
    MindSpore,
    /// Those of a family, as PyTorch programs have them.
    Foreign(Dialect),
}

/// Whose names these are, by the schemes that explain the most of them. `None`: no name says, or as many are of both sides. This is
/// how a safetensors file is known, which both sides write under the same file names.
///
/// `names`: all names of all files. One file does not do: InternLM 2's `model.layers.0.feed_forward.w1.weight` is mindformers' too.
///
/// # Errors
/// Names that several families explain alike.
pub fn origin<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Option<Origin>, NamingError> {
    let kinds: BTreeSet<String> = names.into_iter().map(first_layer).collect();
    let names: BTreeSet<&str> = kinds.iter().map(String::as_str).collect();
    if of_mindspore(&names) == 0 && of_foreign(&names, None).is_empty() {
        // What a wrapper puts before every name (`_orig_mod.` of torch.compile) is of no family, but what is after it is.
        return origin_of(&names.iter().filter_map(|name| Some(name.split_once('.')?.1)).collect());
    }
    origin_of(&names)
}

fn origin_of(names: &BTreeSet<&str>) -> Result<Option<Origin>, NamingError> {
    let ours = of_mindspore(names);
    let found = of_foreign(names, None);
    match found.first() {
        Some(first) if first.explained > ours => Ok(Some(Origin::Foreign(one(&found, names)?))),
        Some(first) if first.explained == ours => Ok(None),
        _ if ours > 0 => Ok(Some(Origin::MindSpore)),
        _ => Ok(None),
    }
}

impl Dialect {
    /// The dialect in which a family has these names of a PyTorch checkpoint; where none of its schemes has any, the usual one.
    /// `None`: the family has no names but MindSpore's.
    ///
    /// # Errors
    /// Names of an adapter; names with the prefix of a whole model and names without it.
    pub fn foreign<'a>(
        family: &'static Family,
        names: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<Option<Self>, NamingError> {
        check_adapters(names.clone())?;
        let kinds: BTreeSet<String> = names.clone().into_iter().map(first_layer).collect();
        let kinds: BTreeSet<&str> = kinds.iter().map(String::as_str).collect();
        let found = of_foreign(&kinds, Some(family)).first().map(|found| (found.scheme, found.bare));
        let dialect = match found {
            Some((scheme, _)) => Self::of(family, &scheme.name),
            None => Self::hugging_face(family).or_else(|| Self::meta(family)),
        };
        let Some(dialect) = dialect else { return Ok(None) };
        dialect.check_prefix(names)?;
        Ok(Some(if found.is_some_and(|(_, bare)| bare) { dialect.without_prefix() } else { dialect }))
    }

    /// All names have the prefix of a whole model, or none has.
    fn check_prefix<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), NamingError> {
        let prefix = self.family().base_prefix();
        let (mut with, mut without) = (None, None);
        let knows = |name: &str| matches!(self.place(name), Place::Stored(_));
        for name in names {
            if with.is_none() && !prefix.is_empty() && name.starts_with(prefix) && knows(name) {
                with = Some(name);
            } else if without.is_none() && knows(&format!("{prefix}{name}")) {
                without = Some(name);
            }
        }
        match (with, without) {
            (Some(with), Some(without)) => Err(NamingError::MixedPrefixes {
                prefix: prefix.to_owned(),
                with: with.to_owned(),
                without: without.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Refuses names of an adapter, or of a model that is wrapped by one.
///
/// # Errors
/// Such a name.
pub fn check_adapters<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), NamingError> {
    let adapter = names.into_iter().find(|name| is_adapter(name));
    adapter.map_or(Ok(()), |name| Err(NamingError::Adapter(name.to_owned())))
}

/// Names that PEFT writes: the prefix of its wrapper, or the parts of an adapter.
fn is_adapter(name: &str) -> bool {
    let part = |part: &str| part.starts_with("lora_") || matches!(part, "base_layer" | "modules_to_save");
    name.starts_with("base_model.model.") || name.split('.').any(part)
}

/// How many of the names the dialect of MindSpore's explains that explains the most.
fn of_mindspore(names: &BTreeSet<&str>) -> usize {
    let explained =
        |dialect: &Dialect| names.iter().filter(|name| matches!(dialect.place(name), Place::Stored(_))).count();
    let order = FusionLayout::default().name();
    families().iter().map(|family| explained(&Dialect::mindspore(family, order))).max().unwrap_or_default()
}

/// A scheme that explains names, with the prefix of a whole model or without it.
#[derive(Clone, Copy)]
struct Found {
    family: &'static Family,
    scheme: &'static Scheme,
    bare: bool,
    explained: usize,
}

/// The schemes of PyTorch's side that explain the most names and of those the ones with the fewest rows unused.
fn of_foreign(names: &BTreeSet<&str>, family: Option<&'static Family>) -> Vec<Found> {
    let mut all: Vec<(Recognition<'static>, bool)> = Vec::new();
    for family in families().iter().copied().filter(|known| family.is_none_or(|family| std::ptr::eq(family, *known))) {
        for scheme in family.schemes.iter().filter(|scheme| !Dialect::is_mindspore(scheme)) {
            // A scheme that a family only inherited is its base's, or that of another which did.
            if all.iter().any(|(known, _)| known.scheme == scheme) {
                continue;
            }
            let prefix = family.base_prefix();
            let whole: BTreeSet<String> = names.iter().map(|name| bare_to_whole(scheme, prefix, name)).collect();
            let whole: BTreeSet<&str> = whole.iter().map(String::as_str).collect();
            all.push((Recognition::of(family, scheme, names), false));
            all.push((Recognition::of(family, scheme, &whole), true));
        }
    }
    let rank = |(found, bare): &(Recognition<'_>, bool)| (found.explained, Reverse(found.unused), Reverse(*bare));
    best(all, rank, |(found, _)| found.explained)
        .into_iter()
        .map(|(found, bare)| Found { family: found.family, scheme: found.scheme, bare, explained: found.explained })
        .collect()
}

/// A name of a model without its head as it is in a whole one. The head has no prefix in either.
fn bare_to_whole(scheme: &Scheme, prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) || scheme.find(name).is_some() { name.to_owned() } else { format!("{prefix}{name}") }
}

/// One of several that explain names alike: the usual one, where all of them say the same of each.
fn one(found: &[Found], names: &BTreeSet<&str>) -> Result<Dialect, NamingError> {
    let usual = found.iter().find(|found| found.family.usual).or(found.first());
    let dialect = |found: &Found| {
        let dialect = Dialect::of(found.family, &found.scheme.name);
        dialect.map(|dialect| if found.bare { dialect.without_prefix() } else { dialect })
    };
    let several = || {
        let names: Vec<String> = found.iter().map(|f| format!("{} ({})", f.family.name, f.scheme.name)).collect();
        NamingError::SeveralFamilies(names.join(" as of "))
    };
    let says = |found: &Found, name: &str| match dialect(found)?.place(name) {
        Place::Stored(stored) => Some(meaning(found.family, stored.row)),
        Place::Buffer | Place::Unknown => None,
    };
    let first = usual.ok_or_else(several)?;
    let alike = |other: &Found| names.iter().all(|name| says(first, name) == says(other, name));
    if !found.iter().all(alike) {
        return Err(several());
    }
    dialect(first).ok_or_else(several)
}

/// What a row holds, in terms of no family.
fn meaning(family: &Family, row: &Row) -> Vec<String> {
    let dims = |dims: &[Vec<super::param::Axis>]| {
        let dim = |dim: &Vec<super::param::Axis>| {
            dim.iter().map(|axis| family.axis_name(*axis)).collect::<Vec<_>>().join(" ")
        };
        dims.iter().map(dim).collect::<Vec<_>>().join(", ")
    };
    let part = |part: &super::scheme::PackPart| {
        let param = &family.params()[usize::from(part.param)];
        format!("{}: {}", param.id, dims(part.dims.as_ref().unwrap_or(&param.dims)))
    };
    let outer = dims(std::slice::from_ref(&row.pack.outer));
    row.pack.parts.iter().map(part).chain([outer, row.pack.dim.to_string()]).collect()
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
