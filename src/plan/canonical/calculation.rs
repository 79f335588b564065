//! What is computed before anything is written: how, from what, with which statistics, and where it goes.

use super::feed::Feed;
use super::tensor::tensor;
use crate::plan::{CacheScales, Calculation, InputScales, Inverse, OutputTensor, Pass, Range, Smooth};

pub(super) fn feed(pass: &Pass, feed: &mut impl Feed) {
    match pass {
        Pass::Matrix(matrix) => {
            feed.bytes(b"matrix");
            calculation(matrix, feed);
        }
        Pass::Caches(caches) => {
            feed.bytes(b"caches");
            cache(caches, feed);
        }
    }
}

fn calculation(calculation: &Calculation, feed: &mut impl Feed) {
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
    feed.bytes(name.as_bytes());
    feed.numbers([*rows, *columns, *group, *scales]);
    tensor(weight, feed);
    feed.bytes(width.name().as_bytes());
    feed.bytes(arithmetic.name().as_bytes());
    feed.optional(*half_scales);
    feed.optional(*divide);
    feed.number(u64::from(smooth.is_some()));
    if let Some(Smooth { alpha_milli, factors, repeat, block, inverse }) = smooth {
        feed.numbers([u64::from(*alpha_milli), *factors, *repeat, *block]);
        match inverse {
            Inverse::Input => feed.number(0),
            Inverse::Rows { to } => feed.numbers([1, *to]),
            Inverse::Vector { vector, dtype, to } => {
                feed.numbers([2, *to]);
                feed.bytes(dtype.name().as_bytes());
                tensor(vector, feed);
            }
        }
    }
    feed.number(u64::from(input.is_some()));
    let Some(InputScales { range: observed, bias, new_bias, dequant_scales, scales, zero_points }) = input else {
        return;
    };
    range(observed, feed);
    optional_tensor(bias.as_deref(), feed);
    feed.numbers([*new_bias, *dequant_scales, *scales, *zero_points]);
}

fn cache(cache: &CacheScales, feed: &mut impl Feed) {
    let CacheScales { name, keys, values, divide, key_scales, value_scales, packed } = cache;
    feed.bytes(name.as_bytes());
    range(keys, feed);
    range(values, feed);
    feed.optional(*divide);
    for places in [key_scales, value_scales] {
        feed.number(places.len() as u64);
        feed.numbers(places.iter().copied());
    }
    feed.number(*packed);
}

fn range(range: &Range, feed: &mut impl Feed) {
    for end in [&range.min, &range.max] {
        feed.bytes(&end.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>());
    }
}

fn optional_tensor(found: Option<&OutputTensor>, feed: &mut impl Feed) {
    feed.number(u64::from(found.is_some()));
    if let Some(found) = found {
        tensor(found, feed);
    }
}
