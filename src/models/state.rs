//! Entries of a checkpoint that belong to training, not to the model.

/// Beginnings of optimizer and gradient entries. Optimizer states *end* with the model's names, so only the start tells.
const PREFIXES: &[&str] =
    &["adam_m.", "adam_v.", "moment1.", "moment2.", "moments.", "vhat.", "exp_avg", "accu_grads.", "fp32_params."];

/// Whole names, or beginnings, of counters and scales.
const COUNTERS: &[&str] = &[
    "global_step",
    "learning_rate",
    "beta1_power",
    "beta2_power",
    "epoch_num",
    "step_num",
    "loss_scale",
    "scale_sense",
    "current_iterator_step",
    "last_overflow_iterator_step",
    "scale_window",
    "list_index",
    "afactor_step",
    "graceful_init",
    "graceful_exit",
    "seed",
    "rng_state",
];

/// Whether an entry is known to be training state: optimizer moments, gradients, step counters, loss scale.
pub fn is_training_state(name: &str) -> bool {
    training_rule(name).is_some()
}

/// The beginning of the name by which an entry is known to be training state.
pub fn training_rule(name: &str) -> Option<&'static str> {
    PREFIXES.iter().chain(COUNTERS).copied().find(|start| name.starts_with(start))
}

/// Whether an entry is a parameter of the model by the rule of the original scripts: what begins with `model`, and `lm_head`.
pub fn is_model_name(name: &str) -> bool {
    name.starts_with("model.") || name.starts_with("lm_head.")
}
