//! What the interpreter relies on in a row of a scheme.

use super::family::{Family, Row};
use super::pack::{EXPERT, PackPart};
use super::param::{Axis, Dims, Param};

/// Whether the rule of the pack says where every element is, in pieces with the axes of [`super::Canonical`]; if not, why.
pub(super) fn check(family: &Family, row: &Row) -> Result<(), String> {
    let pack = &row.pack;
    let in_file = |part: &PackPart| dims_in_file(family, row, part);
    let Some(first) = pack.parts.first().map(in_file) else { return Err("there is nothing to join".to_owned()) };
    for part in &pack.parts {
        let param = &family.params()[usize::from(part.param)];
        let dims = in_file(part);
        same_axes(param, part)?;
        if param.template.is_some() != row.pattern.has_layer() {
            return Err(format!("`{}` and the name do not agree on whether there are layers", param.id));
        }
        if row.pattern.has_expert() && !param.axes().any(|axis| family.axis_name(axis) == EXPERT) {
            return Err(format!("the name numbers experts, which `{}` has none of", param.id));
        }
        let flat: Vec<Axis> = dims.iter().flatten().copied().collect();
        if !flat.starts_with(&pack.outer) {
            return Err(format!("the outer axes do not lead in `{}`", param.id));
        }
        let others = |dims: &Dims| {
            dims.iter().enumerate().filter(|(at, _)| *at != pack.dim).map(|(_, dim)| dim.clone()).collect::<Dims>()
        };
        if pack.parts.len() > 1 && (dims.len() != first.len() || others(&dims) != others(&first)) {
            return Err(format!("`{}` has other dimensions than the part before it", param.id));
        }
        joint(param, &dims, pack.dim, pack.outer.len())?;
        together(family, row, param, &dims)?;
    }
    Ok(())
}

/// The dimensions in the file, of which a name that captures the expert has no axis of experts.
fn dims_in_file(family: &Family, row: &Row, part: &PackPart) -> Dims {
    let dims = part.dims.as_ref().unwrap_or(&family.params()[usize::from(part.param)].dims);
    let kept = |axis: &&Axis| !row.pattern.has_expert() || family.axis_name(**axis) != EXPERT;
    let dims = dims.iter().map(|dim| dim.iter().filter(kept).copied().collect());
    dims.filter(|dim: &Vec<Axis>| !dim.is_empty()).collect()
}

fn same_axes(param: &Param, part: &PackPart) -> Result<(), String> {
    let sorted = |dims: &Dims| {
        let mut axes: Vec<Axis> = dims.iter().flatten().copied().collect();
        axes.sort_unstable();
        axes
    };
    match &part.dims {
        Some(dims) if sorted(dims) != sorted(&param.dims) => Err(format!("the axes are not those of `{}`", param.id)),
        _ => Ok(()),
    }
}

/// Parts are joined in a dimension where the outer axes are all that is before it, and perhaps the first of its own.
fn joint(param: &Param, dims: &Dims, dim: usize, outer: usize) -> Result<(), String> {
    let axes = |dims: &[Vec<Axis>]| dims.iter().map(Vec::len).sum::<usize>();
    if dim == 0 && outer == 0 && dims.is_empty() {
        return Ok(());
    }
    let Some(upto) = dims.get(..=dim) else { return Err(format!("`{}` has no dimension {dim}", param.id)) };
    if (axes(&dims[..dim])..=axes(upto)).contains(&outer) {
        return Ok(());
    }
    Err(format!(
        "the outer axes of `{}` end neither before nor in dimension {dim}, in which the parts are joined",
        param.id
    ))
}

/// The axes of each canonical dimension but the first are read as one, so no file may take them apart.
fn together(family: &Family, row: &Row, param: &Param, dims: &Dims) -> Result<(), String> {
    for run in param.dims.iter().skip(1).filter(|run| run.len() > 1) {
        let kept = dims.iter().any(|dim| dim.windows(run.len()).any(|axes| axes == run));
        let led = row.pack.outer.iter().filter(|axis| run.contains(axis)).count();
        if !kept || (led > 0 && led < run.len()) {
            let names: Vec<&str> = run.iter().map(|&axis| family.axis_name(axis)).collect();
            return Err(format!(
                "the axes {} of `{}` are one dimension after the first, whose axes are kept together",
                names.join(", "),
                param.id
            ));
        }
    }
    Ok(())
}
