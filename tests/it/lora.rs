//! `-f train_to_infer --lora merge`: adapters of any rank and layout, against the formula written out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support::{
    Float, Fusion, Llama, Run, Sharding, Tensor, TestEnv, TrainingRun, Values, cases, cast, read_ranks,
};

/// The weights that are adapted: one cut by rows, one that may be fused, one cut by columns.
const ADAPTED: [&str; 4] = ["attention.wq", "attention.wo", "feed_forward.w1", "feed_forward.w2"];

#[derive(Clone, Debug)]
struct Plan {
    run: TrainingRun,
    rank: u64,
    alpha: u32,
    target: Sharding,
    to: Float,
    peft_names: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    let matrices = vec![vec![1], vec![2, 2], vec![2, 3], vec![2, 2, 2]];
    let model = (prop::sample::select(vec![1u64, 2, 4]), 1u64..3, 1u64..4, prop::sample::select(Float::ALL.to_vec()));
    let run = (prop::sample::select(matrices), 1u64..3, any::<u64>(), any::<u64>());
    let rest =
        (1u64..9, 1u32..40, prop::option::of(any::<bool>()), prop::sample::select(Float::ALL.to_vec()), any::<bool>());
    (model, run, rest, any::<prop::sample::Index>()).prop_map(
        |(model, (matrix, stages, seed, layouts), rest, to_ranks)| {
            let ((kv_heads, rep, head_dim, float), (rank, alpha, fusion, to, peft_names)) = (model, rest);
            let values = Values::Numbers;
            let model =
                Llama { kv_heads, rep, head_dim, ffn: 24, vocab: 12, layers: 2, bias: false, float, values, seed };
            let ranks: Vec<u64> = (1..=kv_heads).filter(|n| kv_heads.is_multiple_of(*n)).collect();
            let fusion = fusion.map(|grouped| if grouped { Fusion::Grouped } else { Fusion::RankConcat });
            Plan {
                run: TrainingRun { model, tied: false, stages, matrix, seed: layouts },
                rank,
                alpha,
                target: Sharding { ranks: ranks[to_ranks.index(ranks.len())], fusion, vocabulary_whole: false },
                to,
                peft_names,
            }
        },
    )
}

/// Values between -1 and 1 as a format has them.
pub(crate) fn small(float: Float, elements: u64, state: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..elements {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from(u16::from_le_bytes([state.to_le_bytes()[6], state.to_le_bytes()[7]])) / 32768.0 - 1.0;
        bytes.extend(&float.nearest(value).to_le_bytes()[..float.size()]);
    }
    bytes
}

fn singles(float: Float, tensor: &Tensor) -> Vec<f32> {
    let mut singles = Vec::new();
    for element in tensor.bytes.chunks(float.size()) {
        let mut word = [0; 4];
        word[..element.len()].copy_from_slice(element);
        #[expect(clippy::cast_possible_truncation, reason = "all formats are within single precision")]
        singles.push(float.value(u32::from_le_bytes(word)) as f32);
    }
    singles
}

/// `W + (alpha / r) B A` in single precision, the sum over `r` in order.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers, rounded as they are asked"
)]
pub(crate) fn merged(float: Float, (w, a, b): (&Tensor, &Tensor, &Tensor), alpha: u32) -> Vec<f32> {
    let (columns, rank) = (usize::try_from(w.dims[1]).expect("small"), usize::try_from(a.dims[0]).expect("small"));
    let scale = (f64::from(alpha) / rank as f64) as f32;
    let (mut values, a, b) = (singles(float, w), singles(float, a), singles(float, b));
    for (at, value) in values.iter_mut().enumerate() {
        let (row, column) = (at / columns, at % columns);
        let mut sum = 0f32;
        for k in 0..rank {
            sum += b[row * rank + k] * a[k * columns + column];
        }
        *value += scale * sum;
    }
    values
}

fn config(count: u32) -> Config {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/lora.regressions");
    cases(count, regressions)
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn merged_adapters_are_the_formula_however_source_and_target_are_cut(plan in plans()) {
        let env = TestEnv::new();
        let (float, model) = (plan.run.model.float, &plan.run.model);
        let mut full = plan.run.full();
        let mut state = model.seed;
        let mut adapters = Vec::new();
        let mut expected: Vec<Tensor> = Vec::new();
        for tensor in &mut full {
            let name = tensor.name.trim_end_matches(".weight").to_owned();
            let single = |bytes| Tensor { dtype: Float::Fp32.dtype().to_owned(), bytes, ..tensor.clone() };
            if !ADAPTED.iter().any(|adapted| name.ends_with(adapted)) {
                expected.push(single(cast(float, Float::Fp32, &tensor.bytes).0));
                continue;
            }
            tensor.bytes = small(float, tensor.dims.iter().product(), &mut state);
            let mut factor = |mindpet: &str, peft: &str, dims: Vec<u64>| Tensor {
                name: format!("{name}.{}", if plan.peft_names { peft } else { mindpet }),
                dtype: float.dtype().to_owned(),
                bytes: small(float, dims.iter().product(), &mut state),
                dims,
            };
            let a = factor("mindpet_delta_lora_a", "lora_A.weight", vec![plan.rank, tensor.dims[1]]);
            let b = factor("mindpet_delta_lora_b", "lora_B.weight", vec![tensor.dims[0], plan.rank]);
            let values = merged(float, (&*tensor, &a, &b), plan.alpha);
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            expected.push(Tensor { dtype: Float::Fp32.dtype().to_owned(), bytes, ..tensor.clone() });
            adapters.extend([a, b]);
        }
        let all: Vec<Tensor> = full.iter().chain(&adapters).cloned().collect();
        plan.run.write(&env.path("src"), &all, 70, "ckpt");
        plan.run.write_strategies(&env.path("ts"), &all, true);
        let fused = plan.target.fusion.is_some();
        let yaml = env.write("model.yaml", plan.run.yaml(fused, false));
        let (ranks, alpha) = (plan.target.ranks.to_string(), plan.alpha.to_string());
        let mut command = env.command(&["-f", "train_to_infer", "-p", plan.to.option(), "-w", &ranks, "-sc", "src"]);
        command.arg("-y").arg(yaml).args(["-ts", "ts", "-dc", "out", "-is", "st", "--no-sync", "--json"]);
        command.args(["--lora", "merge", "--lora-alpha", &alpha, "--format", "ckpt"]);
        command.args(["--dst-fusion", plan.target.fusion.unwrap_or(Fusion::RankConcat).option()]);
        let run = Run::of(&mut command);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        // The formula once for the whole, rounded once, then cut.
        for tensor in &mut expected {
            let (bytes, _) = cast(Float::Fp32, plan.to, &tensor.bytes);
            *tensor = Tensor { bytes, dtype: plan.to.dtype().to_owned(), ..tensor.clone() };
        }
        let target = Llama { float: plan.to, ..model.clone() };
        let dir = env.path(&format!("out/{}_{ranks}p{}", plan.to.option(), if fused { "_qkv" } else { "" }));
        for (rank, found) in (0..).zip(read_ranks(&dir, plan.target.ranks, "ckpt")) {
            let wanted = target.rank(&expected, rank, plan.target).into_iter();
            prop_assert_eq!(found, wanted.map(|t| (t.name.clone(), t)).collect::<BTreeMap<_, _>>(), "rank {}", rank);
        }
        prop_assert!(run.json()["merged_tensors"].as_u64() > Some(0));
    }
}
