//! Quantising one number after the other, as golden-stick 0.6.0 does it: every step in doubles, rounded to fp16.

use super::{Float, Fusion, Llama, Tensor, fused_of};

/// What a quantised model holds over all ranks: each tensor and the axis that ranks share.
pub(crate) type Whole = Vec<(Tensor, Option<usize>)>;

fn half(value: f64) -> f64 {
    Float::Fp16.value(Float::Fp16.nearest(value))
}

/// The numbers of an fp16 tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    assert_eq!(tensor.dtype, "Float16", "{}", tensor.name);
    let number = |bytes: &[u8; 2]| Float::Fp16.value(u32::from(u16::from_le_bytes(*bytes)));
    tensor.bytes.as_chunks::<2>().0.iter().map(number).collect()
}

fn half_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| Float::Fp16.nearest(*v).to_le_bytes()[..2].to_vec()).collect()
}

/// A number rounded to an integer, half to even.
fn round(value: f64) -> f64 {
    let down = value.floor();
    let up = match (value - down).partial_cmp(&0.5) {
        Some(std::cmp::Ordering::Less) => false,
        Some(std::cmp::Ordering::Equal) => down % 2.0 != 0.0,
        _ => true,
    };
    if up { down + 1.0 } else { down }
}

/// The scale of each row and the int8 elements.
pub(crate) fn quantise(weight: &Tensor) -> (Vec<f64>, Vec<i8>) {
    let columns = usize::try_from(weight.dims[1]).expect("small");
    let (mut scales, mut elements) = (Vec::new(), Vec::new());
    for row in numbers(weight).chunks(columns) {
        let peak = row.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let scale = half(half(2.0 * peak) / 255.0);
        scales.push(scale);
        for value in row {
            let quotient = if scale == 0.0 { 0.0 } else { half(value / scale) };
            #[expect(clippy::cast_possible_truncation, reason = "clamped")]
            elements.push(round(quotient).clamp(-128.0, 127.0) as i8);
        }
    }
    (scales, elements)
}

/// The whole model as w8a16.
pub(crate) fn w8a16(full: &[Tensor]) -> Whole {
    let mut whole = Vec::new();
    for tensor in full {
        let layer = tensor.name.strip_suffix(".weight").filter(|l| l.contains(".attention.") || l.contains("forward."));
        let bias = tensor.name.strip_suffix(".bias");
        let by_columns = layer.is_some_and(|l| l.ends_with("wo") || l.ends_with("w2"));
        if let Some(layer) = layer {
            let (scales, elements) = quantise(tensor);
            let rows = vec![tensor.dims[0]];
            let mut add = |name: &str, dtype: &str, dims: &[u64], bytes, axis| {
                let (name, dtype, dims) = (format!("{layer}.{name}"), dtype.to_owned(), dims.to_vec());
                whole.push((Tensor { name, dtype, dims, bytes }, axis));
            };
            let elements = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
            add("_layer.weight", "Int8", &tensor.dims, elements, Some(usize::from(by_columns)));
            let of_rows = (!by_columns).then_some(0);
            add("_layer.matmul.t_scale", "Float16", &rows, half_bytes(&scales), of_rows);
            add("_layer.matmul.t_zp_neg", "Float16", &rows, vec![0; scales.len() * 2], of_rows);
        } else if let Some(layer) = bias {
            whole.push((Tensor { name: format!("{layer}._layer.bias"), ..tensor.clone() }, Some(0)));
        } else {
            let vocabulary = tensor.dims.len() == 2;
            whole.push((tensor.clone(), vocabulary.then_some(0)));
        }
    }
    whole
}

/// What one rank holds.
pub(crate) fn rank_of(model: &Llama, whole: &Whole, rank: u64, ranks: u64, fusion: Option<Fusion>) -> Vec<Tensor> {
    let mut out: Vec<Tensor> = Vec::new();
    for (tensor, axis) in whole {
        let size = tensor.bytes.len() / usize::try_from(tensor.dims.iter().product::<u64>()).expect("small");
        if let Some(fusion) = fusion
            && let Some((name, parts)) = fused_of(&tensor.name)
        {
            if parts[0] == tensor.name {
                let parts: Vec<&Tensor> =
                    parts.iter().map(|p| &whole.iter().find(|(t, _)| t.name == *p).expect("a part").0).collect();
                let rows = model.fused_rows(&parts.iter().map(|t| t.dims[0]).collect::<Vec<_>>(), rank, ranks, fusion);
                let width = usize::try_from(tensor.dims[1..].iter().product::<u64>()).expect("small") * size;
                let row = |(part, row): (usize, u64)| {
                    let at = usize::try_from(row).expect("small") * width;
                    parts[part].bytes[at..at + width].to_vec()
                };
                let dims = [&[rows.len() as u64], &tensor.dims[1..]].concat();
                out.push(Tensor { name, dims, bytes: rows.into_iter().flat_map(row).collect(), ..tensor.clone() });
            }
            continue;
        }
        let axis = axis.filter(|&axis| tensor.dims[axis].is_multiple_of(ranks));
        out.push(cut(tensor, axis, rank, ranks, size));
    }
    out
}

fn cut(tensor: &Tensor, axis: Option<usize>, rank: u64, ranks: u64, size: usize) -> Tensor {
    let Some(axis) = axis else { return tensor.clone() };
    let columns = tensor.dims.get(1).copied().unwrap_or(1);
    let mut bytes = Vec::new();
    for (at, element) in (0..).zip(tensor.bytes.chunks(size)) {
        let place = if axis == 0 { at / columns } else { at % columns };
        if place / (tensor.dims[axis] / ranks) == rank {
            bytes.extend(element);
        }
    }
    let mut dims = tensor.dims.clone();
    dims[axis] /= ranks;
    Tensor { dims, bytes, ..tensor.clone() }
}
