//! From a catalog to that of the quantised model: the same shards under new names, and what is computed beside them.

mod caches;
mod layer;
mod linear;
mod model;
mod options;
mod room;
mod smooth;

use std::collections::HashMap;

pub(in crate::plan) use self::linear::Gathered;
use self::linear::Linear;
pub use self::model::{ComputedEvidence, QuantisedModel, computed_file};
pub use self::options::QuantOptions;
use self::room::Room;
use crate::model::naming::{LayerParam, quantity_name};
use crate::model::{QuantNames, Quantity};
use crate::plan::catalog::{Catalog, LogicalTensor};
use crate::plan::{PlanError, SourceFile, Width};

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
            if let Some(group) = options.group_of(&tensor.name)
                && !order.contains_key(&group)
            {
                let linear = Linear::new(&group, source, options, &mut model)?;
                order.insert(group, model.linears.len());
                model.linears.push(linear);
            }
        }
        smooth::smooth(source, options, &order, &mut model)?;
        let linears = std::mem::take(&mut model.linears);
        for tensor in kept() {
            match options.group_of(&tensor.name).and_then(|group| linears.get(*order.get(&group)?)) {
                Some(linear) => linear.emit(files, tensor, options, &mut model)?,
                None => model.keep(tensor, options),
            }
        }
        model.linears = linears;
        if options.caches {
            for tensor in source.tensors() {
                let Some((layer, LayerParam::Output)) = LayerParam::of(&tensor.name) else { continue };
                caches::caches(source, layer, options, &order, &mut model)?;
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
            tensor.name.strip_suffix(".bias").filter(|layer| options.group_of(&format!("{layer}.weight")).is_some());
        let Some(layer) = bias else { return self.catalog.push(tensor.clone()) };
        if let Some(tail) = quantity_name(options.names, Quantity::Bias).filter(|_| !options.inputs) {
            self.catalog.push(LogicalTensor { name: format!("{layer}.{tail}").as_str().into(), ..tensor.clone() });
        }
    }
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
