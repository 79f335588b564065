//! What the interpreter relies on in a row of a scheme.

use super::family::Family;
use super::param::{Axis, Dims, Param};
use super::scheme::{EXPERT, PackPart, Row};

/// Whether the rule of the pack says where every element is, in pieces with the axes of [`super::Canonical`]; if not, why.
pub(super) fn check(family: &Family, row: &Row) -> Result<(), String> {
    let pack = &row.pack;
    let in_file = |part: &PackPart| family.dims_in_file(row, part);
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

impl Family {
    /// The dimensions in the file, of which a name that captures the expert has no axis of experts.
    pub(super) fn dims_in_file(&self, row: &Row, part: &PackPart) -> Dims {
        let dims = part.dims.as_ref().unwrap_or(&self.params()[usize::from(part.param)].dims);
        let kept = |axis: &&Axis| !row.pattern.has_expert() || self.axis_name(**axis) != EXPERT;
        let dims = dims.iter().map(|dim| dim.iter().filter(kept).copied().collect());
        dims.filter(|dim: &Vec<Axis>| !dim.is_empty()).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &str, rows: &str) -> Result<Family, String> {
        let text =
            format!("family: small\nparams:\n  layer:\n{params}schemes:\n  x:\n    names:\n      'l.{{l}}.':\n{rows}");
        Family::read("small", &text, &|_| None).map_err(|e| e.to_string())
    }

    const PARAMS: &str = "    a: {dims: [[A, B], [C, D]]}\n    b: {dims: [[A], [C, D]]}\n    e: {dims: [[Expert], [A], [B]]}\n    \
                          x: {dims: [[A], [Expert, B]]}\n";

    #[test]
    fn rows_that_the_rule_does_not_cover_are_errors_of_the_file() {
        for (row, why) in [
            ("{join: []}", "there is nothing to join"),
            ("{is: a, dims: [[A, B], [C]]}", "the axes are not those of `a`"),
            ("{join: [a, b], outer: [B]}", "the outer axes do not lead in `a`"),
            ("{join: [a, e]}", "`e` has other dimensions than the part before it"),
            ("{join: [a, b], dim: 2}", "`a` has no dimension 2"),
            (
                "{join: [b, b], dim: 1}",
                "the outer axes of `b` end neither before nor in dimension 1, in which the parts are joined",
            ),
            (
                "{join: [e, e], outer: [Expert, A], dim: 0}",
                "the outer axes of `e` end neither before nor in dimension 0, in which the parts are joined",
            ),
            (
                "{is: a, dims: [[A, B], [D, C]]}",
                "the axes C, D of `a` are one dimension after the first, whose axes are kept together",
            ),
            (
                "{is: a, dims: [[A, B], [C], [D]]}",
                "the axes C, D of `a` are one dimension after the first, whose axes are kept together",
            ),
            (
                "{is: a, dims: [[C], [A, B, D]]}",
                "the axes C, D of `a` are one dimension after the first, whose axes are kept together",
            ),
            (
                "{join: [a, a], outer: [A, B, C], dim: 1}",
                "the axes C, D of `a` are one dimension after the first, whose axes are kept together",
            ),
        ] {
            let error = read(PARAMS, &format!("        w: {row}\n")).unwrap_err();
            assert!(error.ends_with(&format!(": schemes x l.{{l}}.w: {why}")), "{error}");
        }
        let by_name = |row: &str| {
            read(PARAMS, &format!("        '{{e}}.w': {row}\n")).map_err(|e| e.rsplit(": ").next().map(str::to_owned))
        };
        assert!(by_name("a").unwrap_err().unwrap().contains("numbers experts"));
        assert!(by_name("x").unwrap_err().unwrap().contains("kept together"), "the name fixes an axis among others");
        assert!(by_name("{join: [e, e]}").is_ok(), "a slice without the axis of experts");
        assert!(by_name("{join: [e, e], dim: 1}").is_err(), "counted in the slice");
        assert!(by_name("{join: [e, e], outer: [Expert]}").is_err());
        for sound in
            ["{is: a, dims: [[B, A], [C, D]]}", "{is: a, dims: [[C, D], [B], [A]]}", "{is: a, dims: [[A, C, D, B]]}"]
        {
            read(PARAMS, &format!("        w: {sound}\n")).unwrap();
        }
        let cut = read("    a: {dims: [[A, B], [C, D]], cut: D}\n", "        w: a\n").unwrap_err();
        assert!(cut.ends_with("params a: it is cut over D, which is not the first axis of its dimension"), "{cut}");
        assert!(read("    a: {dims: [[A], []]}\n", "        w: a\n").unwrap_err().ends_with("a dimension has no axis"));
    }

    /// A family may give an inherited parameter other axes, which an inherited row does not have.
    #[test]
    fn inherited_rows_are_checked_again() {
        let base = read(PARAMS, "        w: {is: a, dims: [[B, A], [C, D]]}\n").unwrap();
        let extended = "family: large\nextends: small\nparams: {layer: {a: {dims: [[A, F], [C]]}}}\n";
        let error = Family::read("large", extended, &|_| Some(base.clone())).unwrap_err();
        let why = "schemes x l.{l}.w, which it inherits, does not fit its parameters: the axes are not those of `a`";
        assert!(error.to_string().ends_with(why), "{error}");
    }
}
