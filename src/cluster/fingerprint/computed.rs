//! The fingerprint of what is computed before anything is written: how, from what, with which statistics, and where it goes.
//!
//! Every structure is taken apart in full, so that what is added to one is not forgotten here.

use super::feed::{Feed, Routes};
use crate::plan::{CacheScales, Calculation, Computed, InputScales, Inverse, OutputTensor, Range, Smooth};

pub(super) fn feed(computed: Option<&Computed>, feed: &mut Feed, routes: &mut Routes) {
    feed.number(u64::from(computed.is_some()));
    let Some(Computed { source, bytes, calculations, caches }) = computed else { return };
    feed.number(*source as u64);
    feed.bytes(bytes);
    feed.number(calculations.len() as u64);
    for matrix in calculations {
        calculation(matrix, feed, routes);
    }
    feed.number(caches.len() as u64);
    for scales in caches {
        cache(scales, feed);
    }
}

fn calculation(calculation: &Calculation, feed: &mut Feed, routes: &mut Routes) {
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
    routes.tensor(weight, feed);
    feed.bytes(format!("{width:?} {arithmetic:?}").as_bytes());
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
                routes.tensor(vector, feed);
            }
        }
    }
    feed.number(u64::from(input.is_some()));
    let Some(InputScales { range: observed, bias, new_bias, dequant_scales, scales, zero_points }) = input else {
        return;
    };
    range(observed, feed);
    optional_tensor(bias.as_deref(), feed, routes);
    feed.numbers([*new_bias, *dequant_scales, *scales, *zero_points]);
}

fn cache(cache: &CacheScales, feed: &mut Feed) {
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

fn range(range: &Range, feed: &mut Feed) {
    for end in [&range.min, &range.max] {
        feed.bytes(&end.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>());
    }
}

fn optional_tensor(tensor: Option<&OutputTensor>, feed: &mut Feed, routes: &mut Routes) {
    feed.number(u64::from(tensor.is_some()));
    if let Some(tensor) = tensor {
        routes.tensor(tensor, feed);
    }
}
