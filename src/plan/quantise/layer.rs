//! One quantised linear layer: its parts, its places in the computed range, and its tensors in the target's catalog.

use std::collections::HashMap;

use super::super::calculation::{CacheScales, Calculation, InputScales, Inverse, Range, Smooth};
use super::super::catalog::{Catalog, LogicalTensor};
use super::super::{Arithmetic, Observed, OutputTensor, PlanError, SourceFile, Width};
use super::room::{Place, hidden};
use super::{QuantOptions, Quantise, QuantisedModel};
use crate::model::naming::{LayerParam, Split, cache_names, fused, quantity_name, role};
use crate::model::{QuantNames, Quantity};
use crate::tensor::{Dtype, Shape, ShapeError, TensorName};

/// Rows of tensors that are one matrix, or elements that are one vector, in order.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Gathered {
    /// Index among the catalog's vectors, and the first row.
    pub parts: Vec<(usize, u64)>,
    /// Elements of a row.
    pub columns: u64,
    /// What they are cast to.
    pub dtype: Dtype,
}

/// A linear layer that is quantised as one matrix.
#[derive(Debug)]
pub(in crate::plan) struct Linear {
    name: String,
    parts: Vec<Part>,
    rows: u64,
    columns: u64,
    weight: Gathered,
    width: Width,
    group: Option<u64>,
    arithmetic: Arithmetic,
    scales: Place,
    half: Option<Place>,
    divide: Option<Place>,
    factors: Option<Place>,
    multiply: Option<usize>,
    smooth: Option<Folded>,
    input: Option<Input>,
}

#[derive(Debug)]
struct Part {
    name: String,
    first: u64,
    rows: u64,
}

impl Part {
    /// The decoder layer, and which of its weights this is.
    fn weight(&self) -> Option<(u32, LayerParam)> {
        LayerParam::of(&format!("{}.weight", self.name))
    }
}

#[derive(Debug)]
struct Folded {
    alpha_milli: u32,
    repeat: u64,
    block: u64,
    inverse: FoldedInto,
}

#[derive(Debug)]
enum FoldedInto {
    Norm { vector: Gathered, to: Place },
    Rows { to: u64 },
    Input,
}

#[derive(Debug)]
struct Input {
    range: Range,
    bias: Option<Gathered>,
    new_bias: Place,
    dequant: Place,
    scales: Place,
    zero_points: Place,
    /// The tensors of scales and zero points, named for the first part.
    tensors: [LogicalTensor; 2],
}

/// 1 as fp16.
const ONE: [u8; 2] = [0x00, 0x3c];

impl Linear {
    pub(super) fn new(
        group: &str,
        source: &Catalog,
        options: &QuantOptions<'_>,
        model: &mut QuantisedModel,
    ) -> Result<Self, PlanError> {
        let whole = format!("{group}.weight");
        let names = match fused(&whole).filter(|info| info.name == whole) {
            Some(info) => info.parts,
            None => vec![whole],
        };
        let (mut parts, mut gathered, mut rows, mut width) = (Vec::new(), Vec::new(), 0, None);
        for name in names {
            let tensor = find(source, &name)?;
            let &[here, columns] = tensor.shape.dims() else {
                return Err(PlanError::Quantised(format!("`{name}` is no matrix: its shape is {}", tensor.shape)));
            };
            if !tensor.dtype.is_float() || tensor.dtype == Dtype::F64 {
                return Err(PlanError::Cast { name, from: tensor.dtype.name(), to: "int8" });
            }
            if *width.get_or_insert(columns) != columns {
                return Err(PlanError::Quantised(format!("the parts of `{group}` have different numbers of columns")));
            }
            gathered.push((hidden(&mut model.catalog, tensor.clone()), rows));
            let name = name.trim_end_matches(".weight").to_owned();
            parts.push(Part { name, first: rows, rows: here });
            rows += here;
        }
        let columns = width.unwrap_or(0);
        let width = options.weights.unwrap_or_default();
        check_columns(group, columns, width, options)?;
        let room = &mut model.room;
        let arithmetic = if options.names == QuantNames::Rtn { Arithmetic::Single } else { Arithmetic::Half };
        let groups = options.group.map_or(1, |size| columns / size);
        let scales = room.reserve(arithmetic.scales(), rows * groups, &[0]);
        let half = (arithmetic == Arithmetic::Single).then(|| room.reserve(Dtype::F16, rows, &[0]));
        let smoothed = options.inputs && options.alpha_milli.is_some();
        let factors = smoothed.then(|| room.reserve(Dtype::F16, columns, &ONE));
        let divided = smoothed && parts.len() > 1;
        let divide = divided.then(|| room.reserve(Dtype::F16, rows, &ONE));
        let multiply = factors.map(|place| room.tensor(group, place, 0, &[columns], &[columns])).transpose()?;
        let multiply = multiply.map(|vector| hidden(&mut model.catalog, vector));
        let input =
            if options.inputs { Some(input(group, &parts, (rows, columns), source, options, model)?) } else { None };
        let weight = Gathered { parts: gathered, columns, dtype: Dtype::F16 };
        Ok(Self {
            name: group.to_owned(),
            parts,
            rows,
            columns,
            weight,
            width,
            group: options.group,
            arithmetic,
            scales,
            half,
            divide,
            factors,
            multiply,
            smooth: None,
            input,
        })
    }

    /// The tensors that a part of it becomes.
    pub(super) fn emit(
        &self,
        files: &[SourceFile<'_>],
        tensor: &LogicalTensor,
        options: &QuantOptions<'_>,
        model: &mut QuantisedModel,
    ) -> Result<(), PlanError> {
        let layer = tensor.name.trim_end_matches(".weight").to_owned();
        let Some(part) = self.parts.iter().find(|p| p.name == layer) else { return Ok(()) };
        let (rows, radices) = ([part.rows], tensor.radices.clone());
        let vector = |model: &mut QuantisedModel, name: &str, place: Place| {
            model.room.tensor(name, place, part.first, &rows, &radices)
        };
        let of_scales = |model: &mut QuantisedModel, place: Place| match self.group {
            None => vector(model, &layer, place),
            Some(size) => {
                let groups = self.columns / size;
                model.room.tensor(&layer, place, part.first * groups, &[part.rows, groups], &radices)
            }
        };
        let scales = of_scales(model, self.scales)?;
        let scales = hidden(&mut model.catalog, scales);
        let divide = self.divide.map(|place| vector(model, &layer, place)).transpose()?;
        let divide = divide.map(|tensor| hidden(&mut model.catalog, tensor));
        let from = tensor.holders.all().next().map_or(tensor.dtype, |h| files[h.file].entries[h.entry].dtype);
        let quantise = Quantise {
            from,
            width: self.width,
            group: self.group,
            arithmetic: self.arithmetic,
            scales,
            multiply: self.multiply,
            divide,
        };
        let mut made: Vec<(Quantity, LogicalTensor)> = Vec::new();
        if let Some(input) = &self.input {
            let [scale, zero_point] = input.tensors.clone();
            made.extend([(Quantity::InputScale, scale), (Quantity::InputZeroPoint, zero_point)]);
        }
        let (quantity, columns) = match self.width {
            Width::Int8 => (Quantity::Weight, self.columns),
            Width::Int4 => (Quantity::PackedWeight, self.columns / self.width.in_a_byte()),
        };
        let bad = |source: ShapeError| PlanError::Layout { name: layer.clone(), source: source.into() };
        let shape = Shape::new([part.rows, columns]).map_err(bad)?;
        let dtype = self.width.stored();
        made.push((quantity, LogicalTensor { dtype, shape, quantise: Some(quantise), ..tensor.clone() }));
        if let Some(input) = &self.input {
            made.push((Quantity::Bias, vector(model, &layer, input.new_bias)?));
            made.push((Quantity::DequantScale, vector(model, &layer, input.dequant)?));
        }
        if self.input.is_none() {
            let quantity = if self.group.is_some() { Quantity::GroupScale } else { Quantity::Scale };
            made.push((quantity, of_scales(model, self.half.unwrap_or(self.scales))?));
            let zeros = model.room.reserve(Dtype::F16, part.rows, &[0]);
            made.push((Quantity::ZeroPoint, model.room.tensor(&layer, zeros, 0, &rows, &radices)?));
        }
        for (quantity, tensor) in made {
            // A generation without a name for it does without it.
            if let Some(tail) = quantity_name(options.names, quantity) {
                model.catalog.push(LogicalTensor { name: format!("{layer}.{tail}").as_str().into(), ..tensor });
            }
        }
        Ok(())
    }

    /// The calculation, with routes by whoever can make them.
    pub(in crate::plan) fn calculation(&self, mut gather: impl FnMut(&str, &Gathered) -> OutputTensor) -> Calculation {
        let smooth = self.smooth.as_ref().zip(self.factors).map(|(folded, factors)| Smooth {
            alpha_milli: folded.alpha_milli,
            factors: factors.at,
            repeat: folded.repeat,
            block: folded.block,
            inverse: match &folded.inverse {
                FoldedInto::Norm { vector, to } => {
                    Inverse::Vector { vector: Box::new(gather(&self.name, vector)), dtype: to.dtype, to: to.at }
                }
                FoldedInto::Rows { to } => Inverse::Rows { to: *to },
                FoldedInto::Input => Inverse::Input,
            },
        });
        let input = self.input.as_ref().map(|input| InputScales {
            range: input.range.clone(),
            bias: input.bias.as_ref().map(|bias| Box::new(gather(&self.name, bias))),
            new_bias: input.new_bias.at,
            dequant_scales: input.dequant.at,
            scales: input.scales.at,
            zero_points: input.zero_points.at,
        });
        Calculation {
            name: TensorName::from(self.name.as_str()),
            rows: self.rows,
            columns: self.columns,
            weight: gather(&self.name, &self.weight),
            group: self.group.unwrap_or(self.columns),
            width: self.width,
            arithmetic: self.arithmetic,
            scales: self.scales.at,
            half_scales: self.half.map(|p| p.at),
            smooth,
            divide: self.divide.map(|p| p.at),
            input,
        }
    }
}

/// Groups, and pairs of int4, must not be cut: then each rank's part is quantised as the whole is.
fn check_columns(layer: &str, columns: u64, width: Width, options: &QuantOptions<'_>) -> Result<(), PlanError> {
    let unit = options.group.unwrap_or(width.in_a_byte());
    let cut = role(&format!("{layer}.weight")).is_some_and(|role| role.split == Split::Columns);
    let ranks = if cut { options.ranks.max(1) } else { 1 };
    if columns.is_multiple_of(ranks) && (columns / ranks).is_multiple_of(unit) {
        return Ok(());
    }
    let (shared, mend) = match options.group {
        Some(_) => ("groups", "another --group-size, none, or another -w"),
        None => ("pairs", "another -w, or w8a16"),
    };
    Err(PlanError::Quantised(format!(
        "`{layer}` has {columns} columns; over {ranks} rank(s) they make no whole {shared} of {unit}, which one rank must hold: \
         {mend}"
    )))
}

/// The places of what a layer's input needs.
fn input(
    group: &str,
    parts: &[Part],
    (rows, columns): (u64, u64),
    source: &Catalog,
    options: &QuantOptions<'_>,
    model: &mut QuantisedModel,
) -> Result<Input, PlanError> {
    let Some(statistics) = options.statistics else {
        return Err(PlanError::Statistics("none were given".to_owned()));
    };
    let unknown = || PlanError::Quantised(format!("nothing is known of the input of `{group}`"));
    // q, k and v have one input.
    let (layer, weight) = parts.first().and_then(Part::weight).ok_or_else(unknown)?;
    let observed = Observed::input_of(weight).ok_or_else(unknown)?;
    let range = statistics.range(&observed.name(layer), columns)?;
    let mut bias = Vec::new();
    for part in parts {
        if let Some(at) = source.get(&format!("{}.bias", part.name)) {
            bias.push((hidden(&mut model.catalog, source.tensors()[at].clone()), part.first));
        }
    }
    if !bias.is_empty() && bias.len() != parts.len() {
        return Err(PlanError::Quantised(format!("some parts of `{group}` have biases, others have none")));
    }
    let room = &mut model.room;
    let new_bias = room.reserve(Dtype::F16, rows, &[0]);
    let dequant = room.reserve(Dtype::I64, rows, &[0]);
    let scales = room.reserve(Dtype::F16, columns, &[0]);
    let zero_points = room.reserve(Dtype::I8, columns, &[0]);
    let tensors = [
        room.tensor(group, scales, 0, &[columns], &[columns])?,
        room.tensor(group, zero_points, 0, &[columns], &[columns])?,
    ];
    let bias = (!bias.is_empty()).then_some(Gathered { parts: bias, columns: 1, dtype: Dtype::F16 });
    Ok(Input { range, bias, new_bias, dequant, scales, zero_points, tensors })
}

/// Settles whose columns are smoothed and who takes the inverse: norms, v and up rows where the target is fused, else the
/// inputs themselves.
pub(super) fn smooth(
    source: &Catalog,
    options: &QuantOptions<'_>,
    order: &HashMap<String, usize>,
    model: &mut QuantisedModel,
) -> Result<(), PlanError> {
    let Some(alpha_milli) = options.alpha_milli.filter(|_| options.inputs) else { return Ok(()) };
    for index in 0..model.linears.len() {
        let group = model.linears[index].name.clone();
        let (mut repeat, mut block) = (1, model.linears[index].columns);
        let weight = model.linears[index].parts.first().and_then(Part::weight);
        let input = weight.and_then(|(layer, weight)| Some((layer, weight.input()?)));
        let inverse = match input {
            _ if !options.fused => FoldedInto::Input,
            Some((layer, input)) if input.input().is_none() => norm(source, &input.name(layer), options, model)?,
            _ => {
                // Rows that are not quantised are not divided either, so these columns are not smoothed.
                let before = input.and_then(|(layer, input)| order.get(&input.fused_layer(layer)));
                let Some(&before) = before else { continue };
                let before = &model.linears[before];
                let (Some(last), Some(divide)) = (before.parts.last(), before.divide) else { continue };
                if last.rows != block {
                    // Fewer v rows than columns of wo: the heads of one group share them.
                    let spec = options.spec.ok_or_else(super::super::catalog::heads_unknown)?;
                    (repeat, block) = (spec.heads() / spec.kv_heads().max(1), spec.head_dim());
                    if last.rows * repeat != model.linears[index].columns {
                        return Err(PlanError::Quantised(format!("`{group}` does not take what v gives")));
                    }
                }
                FoldedInto::Rows { to: divide.at + last.first * divide.dtype.size() }
            }
        };
        model.linears[index].smooth = Some(Folded { alpha_milli, repeat, block, inverse });
    }
    Ok(())
}

/// The norm before a layer, which takes its smoothing: computed, in the precision of the norms.
fn norm(
    source: &Catalog,
    name: &str,
    options: &QuantOptions<'_>,
    model: &mut QuantisedModel,
) -> Result<FoldedInto, PlanError> {
    let tensor = find(source, name)?;
    let dims = tensor.shape.dims().to_vec();
    let to = model.room.reserve(options.norms, tensor.shape.elements(), &[0]);
    let made = model.room.tensor(name, to, 0, &dims, &tensor.radices)?;
    let vector = hidden(&mut model.catalog, tensor.clone());
    model.replaced.insert(name.to_owned(), made);
    Ok(FoldedInto::Norm { vector: Gathered { parts: vec![(vector, 0)], columns: 1, dtype: options.norms }, to })
}

/// What quantised keys and values of one layer need.
pub(super) fn caches(
    source: &Catalog,
    layer: u32,
    options: &QuantOptions<'_>,
    order: &HashMap<String, usize>,
    model: &mut QuantisedModel,
) -> Result<(), PlanError> {
    let value = find(source, &LayerParam::Value.name(layer))?;
    let channels = value.shape.dims().first().copied().unwrap_or(0);
    let statistics = options.statistics.ok_or_else(|| PlanError::Statistics("none were given".to_owned()))?;
    let linear = order.get(&LayerParam::Value.fused_layer(layer)).map(|&at| &model.linears[at]);
    let divide = linear.and_then(|l| Some(l.divide?.at + l.parts.last()?.first * 2));
    let mut scales = CacheScales {
        name: LayerParam::Value.cell(layer).as_str().into(),
        keys: statistics.range(&Observed::Keys.name(layer), channels)?,
        values: statistics.range(&Observed::Values.name(layer), channels)?,
        divide,
        key_scales: Vec::new(),
        value_scales: Vec::new(),
        packed: 0,
    };
    for (name, param) in cache_names(layer, options.ranks == 1) {
        let (dtype, dims, fill): (Dtype, Vec<u64>, &[u8]) = match param {
            "key_value_scale" => (Dtype::I64, vec![2, channels], &[0]),
            "key_value_zp" => (Dtype::I32, vec![2, channels], &[0]),
            // What golden-stick writes here is -0.
            "key_zp" | "value_zp" => (Dtype::F16, vec![channels], &[0x00, 0x80]),
            "key_input_zp" | "value_input_zp" => (Dtype::I8, vec![channels], &[0]),
            _ => (Dtype::F16, vec![channels], &[0]),
        };
        let place = model.room.reserve(dtype, dims.iter().product(), fill);
        match param {
            "key_value_scale" => scales.packed = place.at,
            "key_scale" | "key_input_scale" => scales.key_scales.push(place.at),
            "value_scale" | "value_input_scale" => scales.value_scales.push(place.at),
            _ => {}
        }
        let made = model.room.tensor(&name, place, 0, &dims, &dims[..1])?;
        model.catalog.push(made);
    }
    model.caches.push(scales);
    Ok(())
}

fn find<'a>(source: &'a Catalog, name: &str) -> Result<&'a LogicalTensor, PlanError> {
    let at = source.get(name).ok_or_else(|| PlanError::Lacks(vec![name.to_owned()]))?;
    Ok(&source.tensors()[at])
}
