//! Weights that are not floating-point numbers: only a quantised checkpoint of a known kind, with its scales, has a use for them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::{PlanError, SourceFile};
use crate::formats::Entry;
use crate::model::QuantSigns;
use crate::model::naming::{companion_of, known_integers, scales_of_layer};
use crate::tensor::Dtype;

/// How whole numbers in a source are looked for.
pub struct WholeNumbers<'a> {
    /// Whether a name is a weight's, a norm's, a bias's or an embedding's.
    pub is_parameter: &'a dyn Fn(&str) -> bool,
    /// Whether a name is unknown, so that a sign of another tool's is a reason by itself.
    pub is_unknown: &'a dyn Fn(&str) -> bool,
    /// Which entries do not go to the target.
    pub ignore: &'a dyn Fn(&str) -> bool,
    /// The signs that were found beside the tensors.
    pub signs: QuantSigns,
}

impl fmt::Debug for WholeNumbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeNumbers").field("signs", &self.signs).finish_non_exhaustive()
    }
}

/// Whether an entry is a causal mask, which some networks call a bias: a bias of a layer has one dimension.
fn is_mask(entry: &Entry) -> bool {
    let truths = matches!(entry.dtype, Dtype::Bool | Dtype::U8);
    truths && entry.shape.dims().len() >= 3 && (*entry.name == *"bias" || entry.name.ends_with(".bias"))
}

/// Refuses a source whose weights are whole numbers that no floating-point conversion may take for weights, and one whose
/// whole numbers would lose their scales. Returns the names that are left out although they are signs of a quantised model.
///
/// # Errors
/// [`PlanError::QuantisedSource`] and [`PlanError::ScalesMissing`].
pub fn check_whole_numbers(files: &[SourceFile<'_>], how: &WholeNumbers<'_>) -> Result<Vec<String>, PlanError> {
    let mut signs = how.signs.clone();
    let (mut unreadable, mut known) = (BTreeMap::new(), BTreeMap::new());
    let (mut names, mut left_out, mut unplaced) = (HashSet::new(), BTreeMap::new(), false);
    let mut seen: HashSet<(&str, Dtype)> = HashSet::new();
    for entry in files.iter().flat_map(|file| file.entries) {
        let (name, dtype) = (&*entry.name, entry.dtype);
        // The ranks of a checkpoint hold the same names.
        if !seen.insert((name, dtype)) {
            continue;
        }
        signs.name(name);
        if (how.ignore)(name) {
            // A bias of whole numbers holds a share of the zero point; one of floating-point numbers is only a bias.
            left_out.insert(name, companion_of(name).or_else(|| known_integers(name, dtype)));
            continue;
        }
        names.insert(name);
        unplaced |= QuantSigns::is_one(name) && (how.is_unknown)(name);
        if dtype.is_float() || !(how.is_parameter)(name) || is_mask(entry) {
            continue;
        }
        match known_integers(name, dtype) {
            Some(layer) => known.entry(layer).or_insert(name),
            None => unreadable.entry(name).or_insert(dtype.name()),
        };
    }
    if !unreadable.is_empty() || unplaced {
        let weights = unreadable.into_iter().map(|(name, dtype)| format!("{name} ({dtype})")).collect();
        return Err(PlanError::QuantisedSource { weights, signs: Box::new(signs) });
    }
    let stripped = left_out.iter().filter(|(_, layer)| layer.is_some_and(|layer| known.contains_key(layer)));
    let stripped: Vec<String> = stripped.map(|(name, _)| (*name).to_owned()).collect();
    let alone = known.iter().filter(|(layer, _)| !scales_of_layer(layer).any(|scale| names.contains(scale.as_str())));
    let alone: Vec<String> = alone.map(|(_, name)| (*name).to_owned()).collect();
    if !stripped.is_empty() || !alone.is_empty() {
        return Err(PlanError::ScalesMissing { weights: alone, left_out: stripped });
    }
    Ok(left_out.into_keys().filter(|name| QuantSigns::is_one(name)).map(str::to_owned).collect())
}
