//! Options that a function does not use: they are refused, not ignored.

use crate::support::TestEnv;

/// The option, the function it is given to, and the functions that take it.
const UNUSED: [(&str, &str, &str); 15] = [
    ("pt_to_ms -p fp16", "--stats s", "--stats goes with -f quant_weight or train_to_infer"),
    ("pt_to_ms -p fp16", "--names rtn", "--names goes with -f quant_weight or train_to_infer"),
    ("pt_to_ms -p fp16", "--alpha 0.7", "--alpha goes with -f quant_weight or train_to_infer"),
    ("pt_to_ms -p fp16", "--hf-config d", "--hf-config goes with -f ms_to_pt"),
    ("pt_to_ms -p fp16", "-ts t", "-ts goes with -f train_to_infer or ms_to_pt"),
    ("pt_to_ms -p fp16", "-ss t", "-ss goes with rank files"),
    ("distributed_weight_transfer -p fp16", "-d boolq", "-d goes with -f quant_weight"),
    ("distributed_weight_transfer -p fp16", "-dp b.jsonl", "-dp goes with -f quant_weight"),
    (
        "distributed_weight_transfer -p fp16",
        "--keep-float w2",
        "--keep-float goes with -f quant_weight or train_to_infer",
    ),
    ("distributed_weight_transfer -p fp16", "-pp 2", "-pp goes with -f train_to_infer or ms_to_pt"),
    ("quant_weight -p w8a16", "--strip-only", "--strip-only does not quantise"),
    ("quant_weight -p w8a16", "--step 3", "--step goes with -f train_to_infer or ms_to_pt"),
    (
        "ms_to_pt -p fp16",
        "--qkv_concat true",
        "--qkv_concat goes with -f distributed_weight_transfer, train_to_infer, quant_weight or pt_to_ms",
    ),
    ("ms_to_pt -p fp16", "--ckpt-records canonical", "--ckpt-records goes with "),
    ("train_to_infer -p fp16", "--no-smooth", "--no-smooth goes with a quantised type such as -p w8a16, not fp16"),
];

#[test]
fn an_option_that_changes_nothing_is_refused_with_the_functions_that_take_it() {
    let env = TestEnv::new();
    for (function, option, said) in UNUSED {
        // Before anything is looked for, and before anything that is missing is wanted.
        for rest in ["", "-sc nowhere -w 1"] {
            env.line(&format!("-f {function} {option} {rest}")).failed(1, &["error: ", said]);
        }
    }
    assert!(env.tree().is_empty(), "nothing was written");
}

/// What is typed as it is anyway says nothing, whatever the function.
#[test]
fn a_default_that_is_typed_is_no_option() {
    let env = TestEnv::new();
    let line = "-f pt_to_ms -p fp16 -sc nowhere -w 1 --names gs-0.6 --alpha 0.5 --ckpt-records aligned -is st";
    env.line(line).failed(1, &["nowhere does not exist"]);
}
