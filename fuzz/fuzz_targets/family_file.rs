//! Files of model families, from the text to what a rank's file holds: no panic, no run-away.
#![no_main]

use ckpt_convert::internals::model::{Captures, Configuration, Family, Share, Value, builtin_family};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(family) = Family::read("file", text, &|name| builtin_family(name).cloned()) else { return };
    let numbers = [
        ("num_hidden_layers", 2.0),
        ("hidden_size", 64.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("intermediate_size", 96.0),
        ("moe_intermediate_size", 24.0),
        ("num_experts", 4.0),
        ("vocab_size", 100.0),
    ];
    let fields: Configuration = numbers.into_iter().map(|(name, n)| (name.to_owned(), Value::Number(n))).collect();
    let Ok(sizes) = family.sizes("config.json", &fields) else { return };
    let _ = family.members("config.json", &fields);
    let at = Captures { layer: Some(0), expert: Some(0) };
    for row in family.schemes.iter().flat_map(|scheme| &scheme.rows) {
        let name = row.pattern.name(at).expect("both captures are given");
        let captures = row.pattern.matches(&name).expect("a pattern matches its own names");
        let Ok(whole) = family.stored(row, captures, &sizes, Share::WHOLE) else { continue };
        // Every element of the tensor is one of its parts', once.
        let parts = whole.parts.iter().map(|part| part.piece.region.len().iter().product::<u64>());
        assert_eq!(parts.sum::<u64>(), whole.dims.iter().product::<u64>());
        let _ = family.stored(row, captures, &sizes, Share::of(1, 2));
    }
});
