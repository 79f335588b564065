//! Old functions of names against the tables', over all names of all families, and names made from them.

use std::collections::BTreeSet;

use crate::model::naming as new;
use crate::model::{
    Captures, Companion, QuantNames as NewNames, Quantity as NewQuantity, builtin_families, companions,
};
use crate::models as old;
use crate::tensor::Dtype;

fn names() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut tails: Vec<String> = companions().iter().map(|c: &Companion| c.tail.clone()).collect();
    tails.extend(
        [
            "weight",
            "bias",
            "",
            "x",
            "_layer",
            "_layer.x",
            "lora_embedding_A",
            "input_scale.x",
            "lora_A.other.weight",
            "lora_A.weight.default",
            "matmul.input_scale",
        ]
        .map(str::to_owned),
    );
    for family in builtin_families() {
        for scheme in &family.schemes {
            for row in &scheme.rows {
                for layer in [0, 1, 31, 9_999, 10_000, 99_999, 100_000] {
                    let Some(name) = row.pattern.name(Captures { layer: Some(layer), expert: Some(3) }) else {
                        continue;
                    };
                    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem).to_owned();
                    for stem in [&name, &stem] {
                        all.extend(tails.iter().map(|tail| format!("{stem}.{tail}")));
                    }
                    all.insert(name);
                }
            }
        }
    }
    all
}

fn mutated(name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    for prefix in ["adam_m.", "moment1.", "x", "x.", "model.", "model.layers.0.", ".", "pma_weight_ema."] {
        found.push(format!("{prefix}{name}"));
    }
    for suffix in [".x", "x", ".", ".weight", ".bias", "_copy", ".0"] {
        found.push(format!("{name}{suffix}"));
    }
    for (from, to) in [
        ("layers.0.", "layers.00."),
        ("layers.1.", "layers.01."),
        ("layers.1.", "layers.-1."),
        ("layers.1.", "layers.."),
        ("layers.1.", "layers.1x."),
        ("layers.1.", "layers."),
        ("layers.1.", "layers.18446744073709551617."),
        ("attention.", "xattention."),
        ("attention.", "attention.attention."),
        ("attention.", ""),
        (".w", ".v"),
        ("w1", "w2"),
        ("w1", "w3"),
        ("w1", "w4"),
        ("wq", "wq1"),
        ("feed_forward", "feed_forward2"),
        ("mgr.", "mgr2."),
        ("_layer.", "_layer._layer."),
        ("weight", "Weight"),
        ("layers", "layer"),
        ("model.", ""),
    ] {
        if name.contains(from) {
            found.push(name.replacen(from, to, 1));
        }
    }
    if let Some((_, rest)) = name.split_once("layers.1.") {
        found.push(rest.to_owned());
    }
    found.extend(name.char_indices().rev().take(3).map(|(at, _)| name[..at].to_owned()));
    found
}

fn split(of: old::Split) -> new::Split {
    match of {
        old::Split::Whole => new::Split::Whole,
        old::Split::Rows => new::Split::Rows,
        old::Split::Columns => new::Split::Columns,
        old::Split::Vocabulary => new::Split::Vocabulary,
    }
}

fn set(of: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    of.into_iter().collect()
}

const DTYPES: [Dtype; 5] = [Dtype::I8, Dtype::U8, Dtype::Int4, Dtype::I32, Dtype::F16];

#[test]
fn the_tables_say_of_every_name_what_the_functions_say() {
    let names: BTreeSet<String> = names().iter().flat_map(|name| mutated(name)).collect();
    let (mut compared, mut known) = (0u64, 0u64);
    let mut same = |what: &str, name: &str, a: String, b: String| {
        assert_eq!(a, b, "{what} of {name}");
        compared += 1;
        known += u64::from(!matches!(a.as_str(), "None" | "false" | "[]" | "{}" | "1"));
    };
    macro_rules! same {
        ($function:literal, $name:expr, $old:expr, $new:expr) => {
            same($function, $name, format!("{:?}", $old), format!("{:?}", $new))
        };
    }
    for name in &names {
        let name = name.as_str();
        let a = old::role(name).map(|r| (r.layer, r.suffix, split(r.split)));
        same!("role", name, a, new::role(name).map(|r| (r.layer, r.suffix, r.split)));
        let a = old::fused(name).map(|f| (f.name, f.parts, f.query_rows_of, f.shared));
        same!("fused", name, a, new::fused(name).map(|f| (f.name, f.parts, f.query_rows_of, f.shared)));
        same!("before", name, old::before(name), new::before(name));
        same!("also_quantised", name, old::also_quantised(name), new::also_quantised(name));
        same!("columns_in_one", name, old::columns_in_one(name), new::columns_in_one(name));
        same!("companion_of", name, old::companion_of(name), new::companion_of(name));
        same!("copy_of", name, old::copy_of(name), new::copy_of(name));
        same!("is_copy", name, old::is_copy(name), new::is_copy(name));
        if old::role(name).is_some()
            || old::fused(name).is_some_and(|f| f.name == name && old::role(&f.parts[0]).is_some())
        {
            same!("is_not_loaded", name, old::is_not_loaded(name), new::is_not_loaded(name));
        }
        same!("is_quantised", name, old::is_quantised(name), new::is_quantised(name));
        for dtype in DTYPES {
            same!("known_integers", name, old::known_integers(name, dtype), new::known_integers(name, dtype));
        }
        for alone in [false, true] {
            same!("cache_name", name, old::cache_name(name, alone), new::cache_name(name, alone));
        }
        same!("linear_weight", name, old::linear_weight(name), new::linear_weight(name));
        same!("scale_names", name, set(old::scale_names(name)), set(new::scale_names(name)));
        same!("scales_of_layer", name, set(old::scales_of_layer(name)), set(new::scales_of_layer(name)));
        same!("weight_names", name, set(old::weight_names(name)), set(new::weight_names(name)));
        same!("group_scale_of", name, old::group_scale_of(name), new::group_scale_of(name));
        same!("lora_factor", name, old::lora_factor(name), new::lora_factor(name));
        same!("is_lora", name, old::is_lora(name), new::is_lora(name));
        same!("sign", name, old::QuantSigns::is_one(name), old::QuantSigns::is_one(name));
        same!("known tail", name, old::has_known_tail(name), new::has_known_tail(name));
    }
    for alone in [false, true] {
        same!("kv_names", "", old::kv_names(alone).collect::<Vec<_>>(), new::kv_names(alone).collect::<Vec<_>>());
    }
    for bias in [false, true] {
        let (a, b): (Vec<_>, Vec<_>) = (old::layer_suffixes(bias).collect(), new::layer_suffixes(bias).collect());
        same!("layer_suffixes", "", a, b);
    }
    same!("top", "", old::TRANSFORMER_TOP, new::TRANSFORMER_TOP);
    use old::{QuantNames as N, Quantity as Q};
    for (a, b) in [
        (N::Gs06, NewNames::Gs06),
        (N::Gs1x, NewNames::Gs1x),
        (N::Rtn, NewNames::Rtn),
        (N::Extension, NewNames::Extension),
    ] {
        for (p, q) in [
            (Q::Weight, NewQuantity::Weight),
            (Q::PackedWeight, NewQuantity::PackedWeight),
            (Q::Bias, NewQuantity::Bias),
            (Q::Scale, NewQuantity::Scale),
            (Q::GroupScale, NewQuantity::GroupScale),
            (Q::ZeroPoint, NewQuantity::ZeroPoint),
            (Q::DequantScale, NewQuantity::DequantScale),
            (Q::InputScale, NewQuantity::InputScale),
            (Q::InputZeroPoint, NewQuantity::InputZeroPoint),
            (Q::InputScaleCopy, NewQuantity::InputScaleCopy),
            (Q::InputZeroPointCopy, NewQuantity::InputZeroPointCopy),
        ] {
            same!("quantity_name", "", old::quantity_name(a, p), new::quantity_name(b, q));
        }
    }
    println!("{} names, {compared} comparisons, {known} of them with something to say", names.len());
}

/// How long lookups take: printed, not asserted.
#[test]
fn how_long_a_lookup_takes() {
    let names: Vec<String> = names().into_iter().collect();
    for (what, function) in [
        ("old role", (|name: &str| u64::from(old::role(name).is_some())) as fn(&str) -> u64),
        ("new role", |name| u64::from(new::role(name).is_some())),
        ("old fused", |name| u64::from(old::fused(name).is_some())),
        ("new fused", |name| u64::from(new::fused(name).is_some())),
        ("old signs", |name| u64::from(old::has_known_tail(name))),
        ("new signs", |name| u64::from(new::has_known_tail(name))),
        ("scheme find", |name| u64::from(builtin_families()[5].schemes[0].find(name).is_some())),
    ] {
        let start = std::time::Instant::now();
        let mut found = 0;
        let mut count = 0u64;
        while count < 1_000_000 {
            found += names.iter().map(|name| function(name)).sum::<u64>();
            count += names.len() as u64;
        }
        println!("{what}: {:?} for {count}, {found} known", start.elapsed());
    }
}
