//! mindformers' yaml, from the text to the model: no panic, no run-away, and dimensions that a model can have.
#![no_main]

use ckpt_convert::internals::model::{RunFacts, from_yaml, lora_alpha, version_sign};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(model) = from_yaml(text) {
        assert_eq!(model.heads() % model.kv_heads(), 0);
        assert!(model.vocab() > 0 && model.layers() > 0 && model.head_dim() > 0);
        assert!(model.members().iter().all(|&id| model.full_shape(id).is_some()));
        // What one reader takes the others do not call unreadable.
        assert!(version_sign(text).is_ok() && lora_alpha(text).is_ok());
    }
    if let Ok(facts) = RunFacts::from_yaml(text) {
        assert!(facts.norm_eps.is_none_or(|eps| eps > 0.0) && facts.rope_theta.is_none_or(|theta| theta > 0.0));
    }
});
