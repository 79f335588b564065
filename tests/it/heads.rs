//! Without a named model: heads that a cut may run through, and files that are not whole or not what they should be.

use std::path::Path;

use crate::support::{Llama, Sharding, Tensor, TestEnv, Values, read_tensors, write_ckpt};

const ALONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
const TWO: Sharding = Sharding { ranks: 2, ..ALONE };

/// 4 heads of 64 rows, which could be 2 of 128.
fn wide() -> Llama {
    Llama { kv_heads: 4, rep: 1, head_dim: 64, ffn: 16, vocab: 8, ..Llama::small() }
}

fn convert(options: &str) -> String {
    format!("-f distributed_weight_transfer -p keep --no-sync -sc src -dc out -is st {options}")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = read_tensors(path);
    change(&mut tensors);
    std::fs::write(path, write_ckpt(&tensors)).expect("written");
}

#[test]
fn a_head_of_a_common_size_is_not_cut_unless_the_heads_are_stated() {
    let env = TestEnv::new();
    wide().write(&env.path("src"), ALONE, "ckpt");
    env.line(&convert("-w 4")).failed(1, &["cuts heads of 128 rows", "--heads 4 --kv-heads 4 if a head has 64 rows"]);
    assert!(!env.path("out").exists());
    env.line(&convert("-w 4 --heads 4 --kv-heads 4")).ok();
    env.line(&convert("-w 8 --heads 4")).failed(1, &["8 ranks do not divide the 4 attention heads"]);
}

#[test]
fn as_many_ranks_as_the_source_or_a_divisor_cut_no_head() {
    let env = TestEnv::new();
    Llama { layers: 2, ..Llama::small() }.write(&env.path("src"), Sharding { ranks: 4, ..ALONE }, "ckpt");
    for ranks in [4, 2, 1] {
        env.line(&convert(&format!("-w {ranks}"))).ok();
    }
    env.line(&convert("-w 4 --qkv_concat true --overwrite")).ok();
}

#[test]
fn more_ranks_than_kv_heads_are_refused_without_a_named_model() {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 2, rep: 4, head_dim: 8, ..Llama::small() };
    model.write(&env.path("src"), TWO, "ckpt");
    for more in ["", " --qkv_concat true"] {
        env.line(&convert(&format!("-w 4{more}")))
            .failed(1, &["nothing says how many heads", "--heads N --kv-heads N"]);
    }
    env.line(&convert("-w 4 --kv-heads 2")).failed(1, &["4 ranks do not divide the 2 kv heads"]);
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ALONE, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env.line(&convert("-w 2 --heads 15")).failed(1, &["--heads 15 does not divide the 32 q rows"]);
    env.line(&convert("-w 2 --heads 16 --kv-heads 4")).failed(1, &["heads of 2 rows", "heads of 4"]);
    env.line(&convert("-w 2 -y model.yaml --heads 8")).failed(1, &["--heads 8", "says 16"]);
    env.line(&convert("-w 2 -y model.yaml --heads 16 --kv-heads 8")).ok();
}

#[test]
fn stated_heads_group_as_a_named_model_does() {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ALONE, "ckpt");
    env.write("model.yaml", Llama::small().yaml(true, false));
    let line = |more: &str, out: &str| convert(&format!("-w 2 --dst-fusion grouped {more}")).replace("out", out);
    env.line(&line("-y model.yaml", "named")).ok();
    env.line(&line("--qkv_concat true --heads 16 --kv-heads 8", "stated")).ok();
    for rank in 0..2 {
        let of = |dir: &str| std::fs::read(env.path(&format!("{dir}/keep_2p_qkv/rank_{rank}/checkpoint_{rank}.ckpt")));
        assert_eq!(of("named").unwrap(), of("stated").unwrap());
    }
}

#[test]
fn a_weight_of_one_layer_that_is_transposed_is_named() {
    let env = TestEnv::new();
    Llama { layers: 3, ..Llama::small() }.write(&env.path("src"), ALONE, "ckpt");
    edit(&env.path("src/rank_0/checkpoint_0.ckpt"), |tensors| {
        tensors.iter_mut().find(|t| t.name == "model.layers.1.feed_forward.w3.weight").unwrap().dims.reverse();
    });
    env.line(&convert("-w 2")).failed(1, &["model.layers.1.feed_forward.w3.weight", "in 2 other layers"]);
    assert_eq!(env.line("doctor src").status, Some(1));
}

#[test]
fn a_file_cut_before_the_head_is_not_taken_for_a_tied_model() {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ALONE, "ckpt");
    edit(&env.path("src/rank_0/checkpoint_0.ckpt"), |tensors| tensors.retain(|t| t.name != "lm_head.weight"));
    for function in ["distributed_weight_transfer", "ms_to_pt"] {
        let line = convert("").replace("distributed_weight_transfer", function);
        let ranks = if function == "ms_to_pt" { "" } else { "-w 1" };
        env.line(&format!("{line}{ranks}")).failed(1, &["no `lm_head.weight`", "--tie-word-embeddings true"]);
        env.line(&format!("{line}{ranks} --tie-word-embeddings false")).failed(1, &["lacks `lm_head.weight`"]);
        env.line(&format!("{line}{ranks} --tie-word-embeddings true")).ok();
    }
    edit(&env.path("src/rank_0/checkpoint_0.ckpt"), |tensors| tensors.retain(|t| t.name != "model.norm_out.weight"));
    env.line(&convert("-w 1 --overwrite")).failed(1, &["lacks `model.norm_out.weight`"]);
}

#[test]
fn a_rank_that_is_a_copy_of_another_is_named() {
    let env = TestEnv::new();
    Llama { values: Values::Numbers, ..Llama::small() }.write(&env.path("src"), Sharding { ranks: 4, ..ALONE }, "ckpt");
    std::fs::copy(env.path("src/rank_0/checkpoint_0.ckpt"), env.path("src/rank_2/checkpoint_2.ckpt")).unwrap();
    env.line(&convert("-w 2")).failed(1, &["rank 2 holds the same weights as rank 0", "rank_2/checkpoint_2.ckpt"]);
    assert_eq!(env.line("doctor src").status, Some(1));
}

#[test]
fn ranks_of_nothing_but_zeros_are_no_copies() {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), TWO, "ckpt");
    for rank in 0..2 {
        edit(&env.path(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt")), |tensors| {
            let layers = tensors.iter_mut().filter(|t| t.name.contains("layers"));
            layers.for_each(|t| t.bytes.fill(0));
        });
    }
    env.line(&convert("-w 2")).ok();
}

#[test]
fn a_strategy_of_the_target_that_cuts_heads_is_refused_where_they_are_known() {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 2, rep: 4, head_dim: 8, ..Llama::small() };
    model.write(&env.path("src"), TWO, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    // The strategy of another model with as many rows: 4 kv heads.
    env.line(&convert("-w 4 --kv-heads 4")).ok();
    for more in ["-y model.yaml", "--heads 8", "-y model.yaml --qkv_concat true"] {
        env.line(&format!("{} {more}", convert("-ds st/keep_4p/strategy").replace("out", "no")))
            .failed(1, &["attention.wq.weight` into 4 parts", "2 kv heads", "hint: "]);
    }
    assert!(!env.path("no").exists());
}

#[test]
fn replicas_without_their_strategy_are_not_called_damaged() {
    let env = TestEnv::new();
    let model = Llama { values: Values::Numbers, ..Llama::small() };
    model.write(&env.path("src"), TWO, "ckpt");
    for rank in 0..2 {
        let to = env.path(&format!("src/rank_{}", rank + 2));
        std::fs::create_dir_all(&to).expect("a directory");
        std::fs::copy(
            env.path(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt")),
            to.join(format!("checkpoint_{}.ckpt", rank + 2)),
        )
        .expect("a copy");
    }
    env.line(&convert("-w 1")).failed(1, &["holds the same weights as rank 0", "data-parallel replicas", "-ss"]);
}
