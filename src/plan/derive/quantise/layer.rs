//! One quantised linear layer: what it is made of, and its tensors in the target's catalog.

use super::linear::{Gathered, Input, Linear, Part};
use super::model::QuantisedModel;
use super::options::QuantOptions;
use super::room::{Place, hidden};
use crate::model::naming::{Split, fused, quantity_name, role};
use crate::model::{QuantNames, Quantity};
use crate::plan::catalog::{Catalog, LogicalTensor};
use crate::plan::made::Quantise;
use crate::plan::{Arithmetic, Observed, PlanError, SourceFile, Width};
use crate::tensor::{Dtype, Shape, ShapeError};

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
            let tensor = source.require(&name)?;
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
        let from = tensor.shards.all().next().map_or(tensor.dtype, |h| files[h.file].entries[h.entry].dtype);
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
