//! From a catalog to that of the quantised model: the same holders under new names, and what is computed beside them.

mod layer;
mod room;

use std::collections::HashMap;

pub(super) use self::layer::{Gathered, Linear};
pub(super) use self::room::Room;
pub use self::room::computed_file;
use super::calculation::CacheScales;
use super::catalog::{Catalog, LogicalTensor};
use super::{Arithmetic, PlanError, SourceFile, Statistics, Width};
use crate::model::Model;
use crate::model::naming::{LayerParam, fused, linear_weight, quantity_name};
use crate::model::{QuantNames, Quantity};
use crate::tensor::Dtype;

/// What is quantised, and how.
#[derive(Clone, Copy, Debug)]
pub struct QuantOptions<'a> {
    /// What the linear layers' weights become, where they do not stay as they are.
    pub weights: Option<Width>,
    /// How many neighbouring columns of a row have one scale, where not all of them do. Our own extension.
    pub group: Option<u64>,
    /// Whether their inputs do too, which needs statistics.
    pub inputs: bool,
    /// Whether keys and values do, which needs statistics.
    pub caches: bool,
    /// How much of the inputs' outliers goes to the weights, in 1/1000; `None`: nothing is smoothed.
    pub alpha_milli: Option<u32>,
    /// Layers that stay as they are: those whose names hold one of these.
    pub keep: &'a [String],
    /// Whose names and arithmetic. Only [`QuantNames::Extension`] has names for int4 and for groups.
    pub names: QuantNames,
    /// Whether the target is fused: what is fused has one input, so its smoothing is one.
    pub fused: bool,
    /// The precision of the norms.
    pub norms: Dtype,
    /// The target's ranks. Where it is one, its cache cell has another name.
    pub ranks: u64,
    /// The model, for the heads.
    pub spec: Option<&'a Model>,
    /// What was observed.
    pub statistics: Option<&'a Statistics>,
}

/// How a tensor's elements are quantised. Indices are of [`Catalog::vectors`].
#[derive(Clone, Debug)]
pub(super) struct Quantise {
    /// What the holders hold.
    pub from: Dtype,
    pub width: Width,
    /// As in [`QuantOptions`].
    pub group: Option<u64>,
    pub arithmetic: Arithmetic,
    pub scales: usize,
    pub multiply: Option<usize>,
    pub divide: Option<usize>,
}

/// A quantised model: its tensors, and what must be computed.
#[derive(Debug)]
pub struct QuantisedModel {
    /// The tensors.
    pub catalog: Catalog,
    pub(super) room: Room,
    pub(super) linears: Vec<Linear>,
    pub(super) caches: Vec<CacheScales>,
    /// Tensors that are computed instead of kept.
    replaced: HashMap<String, LogicalTensor>,
}

impl QuantisedModel {
    /// The catalog of the quantised model.
    ///
    /// # Errors
    /// An already quantised source, a precision that has no names in this generation, statistics that do not fit.
    pub fn new(files: &[SourceFile<'_>], source: &Catalog, options: &QuantOptions<'_>) -> Result<Self, PlanError> {
        check(source, options)?;
        let mut model = Self {
            catalog: source.emptied(),
            room: Room::new(files.len()),
            linears: Vec::new(),
            caches: Vec::new(),
            replaced: HashMap::new(),
        };
        model.catalog.input_copies = options.inputs;
        let mut order: HashMap<String, usize> = HashMap::new();
        let kept = || source.tensors().iter().enumerate().filter(|(at, _)| !source.merged.contains(at)).map(|(_, t)| t);
        for tensor in kept() {
            if let Some(group) = group_of(&tensor.name, options)
                && !order.contains_key(&group)
            {
                let linear = Linear::new(&group, source, options, &mut model)?;
                order.insert(group, model.linears.len());
                model.linears.push(linear);
            }
        }
        layer::smooth(source, options, &order, &mut model)?;
        let linears = std::mem::take(&mut model.linears);
        for tensor in kept() {
            match group_of(&tensor.name, options).and_then(|group| linears.get(*order.get(&group)?)) {
                Some(linear) => linear.emit(files, tensor, options, &mut model)?,
                None => model.keep(tensor, options),
            }
        }
        model.linears = linears;
        if options.caches {
            for tensor in source.tensors() {
                let Some((layer, LayerParam::Output)) = LayerParam::of(&tensor.name) else { continue };
                layer::caches(source, layer, options, &order, &mut model)?;
            }
        }
        Ok(model)
    }

    /// A tensor that is not quantised: under its name, or renamed, or not at all.
    fn keep(&mut self, tensor: &LogicalTensor, options: &QuantOptions<'_>) {
        if let Some(computed) = self.replaced.remove(&*tensor.name) {
            return self.catalog.push(computed);
        }
        let bias =
            tensor.name.strip_suffix(".bias").filter(|layer| group_of(&format!("{layer}.weight"), options).is_some());
        let Some(layer) = bias else { return self.catalog.push(tensor.clone()) };
        if let Some(tail) = quantity_name(options.names, Quantity::Bias).filter(|_| !options.inputs) {
            self.catalog.push(LogicalTensor { name: format!("{layer}.{tail}").as_str().into(), ..tensor.clone() });
        }
    }
}

/// The name (without `.weight`) of the layer that a weight is quantised with: its own, or the fused one's.
fn group_of(name: &str, options: &QuantOptions<'_>) -> Option<String> {
    let layer = linear_weight(name).filter(|_| options.weights.is_some())?;
    let group = match fused(name).filter(|_| options.fused) {
        Some(info) => info.name.trim_end_matches(".weight").to_owned(),
        None => layer.to_owned(),
    };
    (!options.keep.iter().any(|kept| group.contains(kept.as_str()))).then_some(group)
}

fn check(source: &Catalog, options: &QuantOptions<'_>) -> Result<(), PlanError> {
    if source.is_quantised() || source.tensors().iter().any(|t| crate::model::naming::is_quantised(&t.name)) {
        let why = "the source is quantised already; -f distributed_weight_transfer reshards it as it is";
        return Err(PlanError::Quantised(why.to_owned()));
    }
    let extended = options.weights == Some(Width::Int4) || options.group.is_some();
    if extended != (options.names == QuantNames::Extension) {
        let why = "int4 and scales of groups have names of their own, and nothing else has these";
        return Err(PlanError::Quantised(why.to_owned()));
    }
    if options.names != QuantNames::Gs06 && (options.inputs || options.caches) {
        return Err(PlanError::Quantised("only w8a16 has names of other generations (--names)".to_owned()));
    }
    let layers =
        source.tensors().iter().filter_map(|t| crate::model::naming::role(&t.name)?.layer).max().map_or(0, |l| l + 1);
    if options.weights.is_some() && layers == 0 {
        return Err(PlanError::Quantised("the source has no linear layer that could be quantised".to_owned()));
    }
    if let Some(statistics) = options.statistics.filter(|s| s.layers() != layers) {
        let found = statistics.layers();
        return Err(PlanError::Statistics(format!("they are of {found} layers, the model has {layers}")));
    }
    if (options.inputs || options.caches) && options.statistics.is_none() {
        let why = "this precision needs statistics of the activations: --stats FILE";
        return Err(PlanError::Quantised(why.to_owned()));
    }
    Ok(())
}
