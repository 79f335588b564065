//! A plan as text.

use std::path::Path;

use ckpt_convert::internals::plan::{OutputTensor, Plan, Route, Transform};

/// All of a plan; the notation is in `tests/data/plans/README.md`. `root`: a directory that is left out of paths.
pub(super) fn text(plan: &Plan, root: &Path) -> String {
    let mut lines = Vec::new();
    for (index, source) in plan.sources.iter().enumerate() {
        let path = source.path.strip_prefix(root).unwrap_or(&source.path);
        lines.push(match &plan.computed {
            Some(computed) if computed.source == index => format!("source {index} computed"),
            _ => format!("source {index} rank {} {}", source.rank, path.display()),
        });
    }
    for output in &plan.outputs {
        lines.push(format!("output {}", output.path));
        output.tensors.iter().for_each(|tensor| of_tensor(plan, tensor, &mut lines));
    }
    for (index, update) in plan.updates.iter().enumerate() {
        let (a, b) = (&plan.factors[update.a].name, &plan.factors[update.b].name);
        let (from, to, group) = (update.from, update.to, update.group);
        lines.push(format!("update {index} {} x {b} {a}", update.scale));
        lines.push(format!("    {} columns, from {from:?} to {to:?}, groups {group:?}", update.width));
    }
    if !plan.factors.is_empty() {
        lines.push("factors".to_owned());
        plan.factors.iter().for_each(|factor| of_tensor(plan, factor, &mut lines));
    }
    for calculation in plan.computed.iter().flat_map(|computed| &computed.calculations) {
        let (rows, columns, group) = (calculation.rows, calculation.columns, calculation.group);
        lines.push(format!("calculation {} {rows} x {columns}, groups of {group}", calculation.name));
        of_tensor(plan, &calculation.weight, &mut lines);
    }
    lines.join("\n") + "\n"
}

fn of_tensor(plan: &Plan, tensor: &OutputTensor, lines: &mut Vec<String>) {
    let replica = if tensor.first_holder { "" } else { " (again)" };
    lines.push(format!("  {} {} {}{replica}", tensor.name, tensor.dtype, tensor.shape));
    of_routes(plan, "", &tensor.routes, lines);
    let Some(quantised) = &tensor.quantised else { return };
    let (width, arithmetic) = (quantised.width, quantised.arithmetic);
    lines
        .push(format!("    {width:?} by {arithmetic:?}, {} columns, groups of {}", quantised.columns, quantised.group));
    of_routes(plan, "", &quantised.operand, lines);
    of_routes(plan, "scales ", &quantised.scales, lines);
    for (what, routes) in [("multiply ", &quantised.multiply), ("divide ", &quantised.divide)] {
        of_routes(plan, what, routes.as_deref().unwrap_or_default(), lines);
    }
}

fn of_routes(plan: &Plan, what: &str, routes: &[Route], lines: &mut Vec<String>) {
    for Route { source, transform, moves } in routes {
        let tensor = &plan.tensors[*source];
        let is_computed = plan.computed.as_ref().is_some_and(|computed| computed.source == tensor.file);
        // What is computed for one matrix has one name.
        let place = tensor.extents.as_contiguous().filter(|_| is_computed);
        let place = place.map_or(String::new(), |range| format!("@{}", range.start()));
        let (file, name) = (tensor.file, &tensor.name);
        let mut words = vec![format!("    {what}{} <- {file} {name}{place} {} x {}", moves.dst, moves.src, moves.run)];
        words.extend(moves.dims.iter().map(|dim| format!("{}({}, {})", dim.count, dim.src_stride, dim.dst_stride)));
        words.extend(match transform {
            Transform::Copy => None,
            Transform::Cast { from, .. } => Some(format!("cast {from}")),
            Transform::Dequantise { from, .. } => Some(format!("dequantise {}", from.name())),
            Transform::Update { from, update, .. } => Some(format!("cast {from} update {update}")),
        });
        lines.push(words.join(" "));
    }
}
