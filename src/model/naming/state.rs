//! Entries of a checkpoint that belong to training or to the running network, not to the model: one table.

use super::adapters::is_lora;
use crate::model::dialect::Dialect;

/// By which part of its name an entry is known.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// What the name begins with. States of an optimizer *end* with the model's names, so only the start shows them.
    Start(&'static str),
    /// What comes before the name of a parameter of the model; before anything else it may be a parameter itself.
    Before(&'static str),
    /// The last component of the name.
    Buffer(&'static str),
}

use Rule::{Before, Buffer, Start};

/// Sources: the `prefix` and `name` of every state in `mindspore/nn/optim`, `mindspore/mint/optim`,
/// `mindspore/experimental/optim`, `mindspore/nn/wrap` and `mindspore/boost` (2.10); in `mindformers/core/optim`,
/// `mindformers/wrapper` and `mindformers/pynative/optimizer`; what `CheckpointMonitor` of mindformers and the fault-tolerant
/// callback of MindSpore append to a save; and the names that `CheckpointMonitor` never saves.
const RULES: &[Rule] = &[
    // Adam, AdamWeightDecay, AdamW, FusedAdamW, Lamb, AdaMax, LazyAdam, NAdam, RAdam
    Start("adam_m."),
    Start("adam_v."),
    Start("lamb_m."),
    Start("lamb_v."),
    Start("moment1."),
    Start("moment2."),
    Start("vhat."),
    Start("exp_inf."),
    Start("max_exp_avg_sq."),
    // AdaFactor, Came: `exp_avg_sq_row_<name>` and the like; AdamW of mint: `exp_avg.<name>`
    Start("exp_avg"),
    // Muon, and the averaged weights of PmaAdamW: `pma_weight_<algorithm>.<name>`
    Start("muon_m."),
    Start("pma_weight_"),
    // Momentum, FTRL, Thor; RMSProp; SGD; Adagrad, Adadelta, ProximalAdagrad; Rprop; ASGD
    Start("moments."),
    Start("momentum_buf."),
    Before("moment."),
    Before("mean_grad."),
    Before("mean_square."),
    Before("accum."),
    Before("accum_update."),
    Before("stat."),
    Before("linear."),
    Before("prev."),
    Before("step_size."),
    Before("ax."),
    Before("ax_."),
    Before("mu_"),
    Before("eta_"),
    // Gradients, and the weights that a low-precision model is trained in
    Start("accu_grads."),
    Start("fp32_params."),
    Start("main_param."),
    // Counters and scales, by the start of the name
    Start("global_step"),
    Start("learning_rate"),
    Start("beta1_power"),
    Start("beta2_power"),
    Start("epoch_num"),
    Start("step_num"),
    Start("loss_scale"),
    Start("scale_sense"),
    Start("current_iterator_step"),
    Start("last_overflow_iterator_step"),
    Start("scale_window"),
    Start("list_index"),
    Start("afactor_step"),
    Start("accumulation_step"),
    Start("cov_step"),
    Start("graceful_init"),
    Start("graceful_exit"),
    Start("seed"),
    Start("rng_state"),
    Start("global_batch_size"),
    Start("consumed_samples"),
    Start("ckpt_status"),
    Start("batch_num"),
    Start("cur_rank"),
    Start("__exception_save__"),
    // What a running network keeps: caches of keys and values, and what is watched
    Buffer("key_cache"),
    Buffer("value_cache"),
    Buffer("key_past"),
    Buffer("value_past"),
    Buffer("zeros_k_pe"),
    Buffer("zeros_k_nope"),
    Buffer("zeros_value_states"),
    Buffer("fi_parameter"),
    Buffer("expert_load"),
    Buffer("max_logits_val"),
];

/// What is counted together where no rule names it: see [`is_counter`].
pub const OTHER_COUNTERS: &str = "other counters";

/// Counters that every rank of a save holds alike.
pub const SAVE_MARKS: [&str; 4] = ["global_step", "step_num", "epoch_num", "learning_rate"];

impl Rule {
    fn takes(self, name: &str) -> bool {
        match self {
            Start(start) => name.starts_with(start),
            Before(start) => name.strip_prefix(start).is_some_and(is_model_name),
            Buffer(last) => name.rsplit('.').next() == Some(last),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Start(text) | Before(text) | Buffer(text) => text,
        }
    }
}

/// Whether an entry is known to be none of the model's: state of an optimizer, gradients, counters, a network's buffers.
pub fn is_training_state(name: &str) -> bool {
    training_rule(name).is_some()
}

/// The part of the name by which an entry is known to be none of the model's.
pub fn training_rule(name: &str) -> Option<&'static str> {
    RULES.iter().find(|rule| rule.takes(name)).map(|rule| rule.text())
}

/// Whether it is something that a running network keeps, and that no checkpoint of mindformers' holds.
pub fn is_network_buffer(name: &str) -> bool {
    RULES.iter().any(|rule| matches!(rule, Buffer(_)) && rule.takes(name))
}

/// Whether a single number, or a text, of this name can only be a counter: no layer or other cell owns it. An array of such a
/// name could be anything.
pub fn is_counter(name: &str) -> bool {
    !name.contains('.')
}

/// Whether an entry is a parameter of the model: by the rule of the original scripts (what begins with `model`, and `lm_head`), or
/// because MindSpore's checkpoints of a family have that name.
pub fn is_model_name(name: &str) -> bool {
    name.starts_with("model.") || name.starts_with("lm_head.") || Dialect::of_any_family(name).is_some()
}

/// Whether a name is a parameter's in any model of MindSpore's.
pub fn names_parameter(name: &str) -> bool {
    let tail = name.rsplit('.').next().unwrap_or(name);
    let other = ["embedding_table", "gamma", "beta"];
    let known = tail.ends_with("weight") || tail.ends_with("bias") || other.contains(&tail) || is_lora(name);
    known && !is_training_state(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_known_and_parameters_are_not_taken_for_it() {
        let weight = "model.layers.0.attention.wq.weight";
        for start in [
            "adam_m.",
            "muon_m.",
            "max_exp_avg_sq.",
            "exp_avg_sq_row_",
            "pma_weight_ema.",
            "accum.",
            "mu_",
            "main_param.",
        ] {
            assert!(is_training_state(&format!("{start}{weight}")), "{start}");
        }
        for name in ["muon_m.placeholder.3", "__exception_save__", "global_batch_size", "learning_rate_group_1"] {
            assert!(is_training_state(name), "{name}");
        }
        assert!(is_model_name("decoder.layers.3.self_attention.linear_q.weight"));
        assert!(!is_model_name("encoder.layers.3.self_attention.linear_q.weight"));
        for name in
            [weight, "lm_head.weight", "linear.weight", "stat.weight", "muon.weight", "moment", "accum.linear.weight"]
        {
            assert!(!is_training_state(name), "{name}");
        }
        let cache = "model.layers.0.attention.infer_attention.paged_attention_mgr.key_cache";
        assert!(
            is_network_buffer(cache) && !is_network_buffer("adam_m.key_cache.weight") && !is_network_buffer(weight)
        );
    }
}
