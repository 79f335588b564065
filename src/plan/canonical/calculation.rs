//! What is computed before anything is written: how, from what, with which statistics, and where it goes.

use super::hasher::PlanHasher;
use super::tensor::tensor;
use crate::plan::{CacheScales, Calculation, InputScales, Inverse, OutputTensor, Pass, Range, Smooth};

pub(super) fn feed(pass: &Pass, hasher: &mut impl PlanHasher) {
    match pass {
        Pass::Matrix(matrix) => {
            hasher.bytes(b"matrix");
            calculation(matrix, hasher);
        }
        Pass::Caches(caches) => {
            hasher.bytes(b"caches");
            cache(caches, hasher);
        }
    }
}

fn calculation(calculation: &Calculation, hasher: &mut impl PlanHasher) {
    let Calculation {
        name,
        rows,
        columns,
        weight,
        group,
        width,
        arithmetic,
        scales,
        half_scales,
        smooth,
        divide,
        input,
    } = calculation;
    hasher.bytes(name.as_bytes());
    hasher.numbers([*rows, *columns, *group, *scales]);
    tensor(weight, hasher);
    hasher.bytes(width.name().as_bytes());
    hasher.bytes(arithmetic.name().as_bytes());
    hasher.optional(*half_scales);
    hasher.optional(*divide);
    hasher.number(u64::from(smooth.is_some()));
    if let Some(Smooth { alpha_milli, factors, repeat, block, inverse }) = smooth {
        hasher.numbers([u64::from(*alpha_milli), *factors, *repeat, *block]);
        match inverse {
            Inverse::Input => hasher.number(0),
            Inverse::Rows { to } => hasher.numbers([1, *to]),
            Inverse::Vector { vector, dtype, to } => {
                hasher.numbers([2, *to]);
                hasher.bytes(dtype.name().as_bytes());
                tensor(vector, hasher);
            }
        }
    }
    hasher.number(u64::from(input.is_some()));
    let Some(InputScales { range: observed, bias, new_bias, dequant_scales, scales, zero_points }) = input else {
        return;
    };
    range(observed, hasher);
    optional_tensor(bias.as_deref(), hasher);
    hasher.numbers([*new_bias, *dequant_scales, *scales, *zero_points]);
}

fn cache(cache: &CacheScales, hasher: &mut impl PlanHasher) {
    let CacheScales { name, keys, values, divide, key_scales, value_scales, packed } = cache;
    hasher.bytes(name.as_bytes());
    range(keys, hasher);
    range(values, hasher);
    hasher.optional(*divide);
    for places in [key_scales, value_scales] {
        hasher.number(places.len() as u64);
        hasher.numbers(places.iter().copied());
    }
    hasher.number(*packed);
}

fn range(range: &Range, hasher: &mut impl PlanHasher) {
    for end in [&range.min, &range.max] {
        hasher.bytes(&end.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>());
    }
}

fn optional_tensor(found: Option<&OutputTensor>, hasher: &mut impl PlanHasher) {
    hasher.number(u64::from(found.is_some()));
    if let Some(found) = found {
        tensor(found, hasher);
    }
}
