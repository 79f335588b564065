//! A plan as text, line by line, for people and for comparing.

use std::fmt::Write;
use std::path::Path;

use super::ids::OpsId;
use super::op::{LowRank, Op, Quantise};
use super::route::{OutputTensor, Route};
use super::value::Plan;

impl Plan {
    /// All of a plan; the notation is in `tests/data/plans/README.md`. `root`: a directory that is left out of paths.
    pub fn text(&self, root: &Path) -> String {
        let mut lines = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let path = source.path.strip_prefix(root).unwrap_or(&source.path);
            lines.push(format!("source {index} rank {} {}", source.rank, path.display()));
        }
        for output in &self.outputs {
            lines.push(format!("output {}", output.path));
            output.tensors.iter().for_each(|tensor| self.tensor("  ", tensor, &mut lines));
        }
        for (index, ops) in (1..).zip(&self.pipelines) {
            // One that only converts is shown beside its routes.
            if !matches!(&**ops, [Op::Cast { .. } | Op::Dequantise { .. }]) {
                lines.push(format!("ops {index}"));
                lines.extend(ops.iter().map(line_of));
            }
        }
        for (index, operand) in self.operands.iter().enumerate() {
            self.tensor(&format!("operand {index} "), operand, &mut lines);
        }
        for calculation in self.matrices() {
            let (rows, columns, group) = (calculation.rows, calculation.columns, calculation.group);
            lines.push(format!("calculation {} {rows} x {columns}, groups of {group}", calculation.name));
            self.tensor("  ", &calculation.weight, &mut lines);
        }
        lines.join("\n") + "\n"
    }

    fn tensor(&self, before: &str, tensor: &OutputTensor, lines: &mut Vec<String>) {
        let replica = if tensor.first_holder { "" } else { " (again)" };
        lines.push(format!("{before}{} {} {}{replica}", tensor.name, tensor.dtype, tensor.shape));
        lines.extend(tensor.routes.iter().map(|route| self.route(route)));
    }

    fn route(&self, route: &Route) -> String {
        let (stored, moves) = (self.stored(route), &route.moves);
        let is_memory = self.is_memory(stored.file);
        // What is computed for one matrix has one name.
        let place = stored.extents.as_contiguous().filter(|_| is_memory);
        let place = place.map_or(String::new(), |range| format!("@{}", range.start()));
        let file = if is_memory { "memory".to_owned() } else { stored.file.index().to_string() };
        let mut text = format!("    {} <- {} {}{place} {} x {}", moves.dst, file, stored.name, moves.src, moves.run);
        // Writing to a string cannot fail.
        for dim in &moves.dims {
            let _ = write!(text, " {}({}, {})", dim.count, dim.src_stride, dim.dst_stride);
        }
        let _ = match self.ops(route.ops) {
            _ if route.ops == OpsId::COPY => Ok(()),
            [Op::Dequantise { from }] => write!(text, " dequantise {}", from.name()),
            [Op::Cast { from, .. }] => write!(text, " cast {from}"),
            _ => write!(text, " ops {}", route.ops.index()),
        };
        text
    }
}

fn line_of(op: &Op) -> String {
    match op {
        Op::Cast { from, to } => format!("    cast {from} to {to}"),
        Op::Dequantise { from } => format!("    dequantise {}", from.name()),
        Op::AddLowRank(LowRank { a, b, scale, width, from, to, steps }) => {
            let (a, b) = (a.index(), b.index());
            let steps: Vec<String> = steps.iter().map(|(target, weight)| format!(" ({target}, {weight})")).collect();
            format!(
                "    add {scale} x operand {b} x operand {a}, {width} columns, from {from:?} to {to:?}, rows{}",
                steps.concat()
            )
        }
        Op::Quantise(Quantise { columns, group, width, arithmetic, scales, multiply, divide }) => {
            let mut text = format!(
                "    {} by {}, {columns} columns, groups of {group}, scales operand {}",
                width.name(),
                arithmetic.name(),
                scales.index()
            );
            for (what, operand) in [("multiply", multiply), ("divide", divide)] {
                if let Some(id) = operand {
                    let _ = write!(text, ", {what} operand {}", id.index());
                }
            }
            text
        }
    }
}
