//! Strategy files: accepted layouts hold together, and survive being written and read again.
#![no_main]

use ckpt_convert::internals::formats::mindspore::{
    is_json_strategy, merge_strategies, read_strategy, strategy_to_json, strategy_to_protobuf,
    write_strategy,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(strategy) = read_strategy(file) else {
        return;
    };
    // What is rewritten can be read, and its layouts are the same.
    let rewritten = if is_json_strategy(file) {
        strategy_to_protobuf(file)
    } else {
        strategy_to_json(file, &|_| None)
    };
    if let Ok(bytes) = rewritten {
        let again = read_strategy(&bytes).expect("what was written can be read");
        let layouts = |file: &ckpt_convert::internals::formats::mindspore::StrategyFile| -> Vec<_> {
            let params = file.stages.iter().flat_map(|(stage, params)| params.iter().map(move |p| (stage, p)));
            params.map(|(stage, (name, param))| (*stage, name.clone(), param.layout.clone())).collect()
        };
        assert_eq!(layouts(&strategy), layouts(&again));
    }
    if let Ok(bytes) = merge_strategies(&[file.to_vec()]) {
        read_strategy(&bytes).expect("what was merged can be read");
    }
    for (&stage, params) in &strategy.stages {
        let mut devices = None;
        for param in params.values() {
            let matrix = &param.layout.device_matrix;
            let product = matrix
                .iter()
                .try_fold(1u64, |n, &dim| n.checked_mul(dim))
                .expect("a bounded product");
            assert!((1..=u64::from(u32::MAX)).contains(&product));
            assert_eq!(*devices.get_or_insert(product), product);
            for axis in param.layout.tensor_map.iter().flatten() {
                assert!(*axis < matrix.len());
            }
        }
        // A name that looks like a merged one would change its meaning in a file of its own.
        if params.keys().all(|name| !name.contains('-')) {
            let list: Vec<_> = params
                .iter()
                .map(|(name, param)| (name.clone(), param.layout.clone()))
                .collect();
            let again =
                read_strategy(&write_strategy(&list, stage)).expect("what was written can be read");
            for (name, layout) in list {
                assert_eq!(again.stages[&stage][&name].layout, layout);
            }
        }
    }
});
