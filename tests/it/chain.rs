//! Training runs to Hugging Face and to int8 in one pass, adapters on fused weights: against naive merging, casting, quantising
//! and cutting of the whole model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::foreign::ours;
use crate::lora::{merged, small};
use crate::quantise::random_statistics;
use crate::support::{
    Float, Fusion, Llama, Run, Sharding, Tensor, TestEnv, TrainingRun, Values, cast, fused_of, quantised_rank,
    read_ranks, read_safetensors, w8a16,
};

#[derive(Clone, Debug)]
struct Case {
    run: TrainingRun,
    /// The adapters' rank and alpha.
    adapters: Option<(u64, u32)>,
    target: Sharding,
    source_fusion: Fusion,
}

fn cases() -> impl Strategy<Value = Case> {
    let matrices = vec![vec![1], vec![2], vec![2, 2], vec![2, 3], vec![2, 2, 2]];
    let model = (
        prop::sample::select(vec![1u64, 2, 4]),
        1u64..3,
        1u64..4,
        prop::sample::select(Float::ALL.to_vec()),
        any::<bool>(),
    );
    let run = (prop::sample::select(matrices), 1u64..3, any::<bool>(), any::<u64>(), any::<u64>());
    let rest = (
        prop::option::of((1u64..6, 1u32..40)),
        prop::option::of(any::<bool>()),
        any::<bool>(),
        any::<prop::sample::Index>(),
    );
    (model, run, rest).prop_map(|(model, run, (adapters, fusion, grouped, ranks))| {
        let ((kv_heads, rep, head_dim, float, bias), (matrix, stages, tied, seed, layouts)) = (model, run);
        let model = Llama {
            kv_heads,
            rep,
            head_dim,
            ffn: 24,
            vocab: 12,
            layers: 2,
            bias,
            float,
            values: Values::Numbers,
            seed,
        };
        let counts: Vec<u64> = (1..=kv_heads).filter(|n| kv_heads.is_multiple_of(*n)).collect();
        let order = |grouped| if grouped { Fusion::Grouped } else { Fusion::RankConcat };
        Case {
            run: TrainingRun { model, tied, stages, matrix, seed: layouts },
            adapters,
            target: Sharding {
                ranks: counts[ranks.index(counts.len())],
                fusion: fusion.map(order),
                vocabulary_whole: false,
            },
            source_fusion: order(grouped),
        }
    })
}

fn with_values(tensor: &Tensor, float: Float, bytes: Vec<u8>) -> Tensor {
    Tensor { dtype: float.dtype().to_owned(), bytes, ..tensor.clone() }
}

/// The whole tensors of the source with its adapters, and what they are merged, as fp16.
fn source(case: &Case) -> (Vec<Tensor>, Vec<Tensor>) {
    let (float, mut state) = (case.run.model.float, case.run.model.seed);
    let (mut all, mut expected) = (Vec::new(), Vec::new());
    let mut adapters = Vec::new();
    for tensor in case.run.full() {
        let tensor = Tensor { bytes: small(float, tensor.dims.iter().product(), &mut state), ..tensor };
        let layer = tensor
            .name
            .strip_suffix(".weight")
            .filter(|n| n.ends_with("attention.wq") || n.ends_with("feed_forward.w2"));
        let halves = match (layer, case.adapters) {
            (Some(layer), Some((rank, alpha))) => {
                let mut factor = |name: &str, dims: Vec<u64>| Tensor {
                    name: format!("{layer}.{name}"),
                    dtype: float.dtype().to_owned(),
                    bytes: small(float, dims.iter().product(), &mut state),
                    dims,
                };
                let a = factor("mindpet_delta_lora_a", vec![rank, tensor.dims[1]]);
                let b = factor("mindpet_delta_lora_b", vec![tensor.dims[0], rank]);
                let values = merged(float, (&tensor, &a, &b), alpha);
                adapters.extend([a, b]);
                cast(Float::Fp32, Float::Fp16, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).0
            }
            _ => cast(float, Float::Fp16, &tensor.bytes).0,
        };
        expected.push(with_values(&tensor, Float::Fp16, halves));
        all.push(tensor);
    }
    all.extend(adapters);
    (all, expected)
}

fn write(env: &TestEnv, case: &Case, all: &[Tensor], fused: bool) {
    case.run.write(&env.path("src"), all, 70, "ckpt");
    case.run.write_strategies(&env.path("ts"), all, true);
    env.write("model.yaml", case.run.yaml(fused, false));
}

fn lora(case: &Case) -> Vec<String> {
    let merge = |(_, alpha): (u64, u32)| format!("--lora merge --lora-alpha {alpha}");
    case.adapters.map(merge).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The parts of each fused parameter as one tensor, whose rows are in the order of as many parts as `ways` says.
fn fuse(model: &Llama, full: &[Tensor], fusion: Fusion, ways: impl Fn(&str, &[u64]) -> u64) -> Option<Vec<Tensor>> {
    let mut out = Vec::new();
    for tensor in full {
        let Some((name, parts)) = fused_of(&tensor.name) else {
            out.push(tensor.clone());
            continue;
        };
        if parts[0] != tensor.name {
            continue;
        }
        let parts: Vec<&Tensor> = parts.iter().map(|p| full.iter().find(|t| t.name == *p).expect("a part")).collect();
        let rows: Vec<u64> = parts.iter().map(|t| t.dims[0]).collect();
        let dims = [&[rows.iter().sum()], &tensor.dims[1..]].concat();
        let ways = if fusion == Fusion::Grouped { 1 } else { ways(&name, &dims) };
        if rows.iter().any(|rows| !rows.is_multiple_of(ways)) {
            return None;
        }
        let width = tensor.bytes.len() / usize::try_from(rows[0]).expect("small");
        let order = (0..ways).flat_map(|rank| model.fused_rows(&rows, rank, ways, fusion));
        let bytes = order.flat_map(|(part, row)| {
            let at = usize::try_from(row).expect("small") * width;
            parts[part].bytes[at..at + width].to_vec()
        });
        out.push(Tensor { name, bytes: bytes.collect(), dims, dtype: tensor.dtype.clone() });
    }
    Some(out)
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() }
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn a_training_run_is_quantised_as_its_fp16_ranks_would_be(case in cases()) {
        let (env, target) = (TestEnv::new(), case.target);
        let (all, expected) = source(&case);
        write(&env, &case, &all, target.fusion.is_some());
        let ranks = target.ranks.to_string();
        let mut command = env.command(&["-f", "train_to_infer", "-p", "w8a16", "-w", &ranks, "-sc", "src", "-ts", "ts"]);
        command.args(["-y", "model.yaml", "-dc", "out", "-is", "st", "--no-sync", "--json", "--format", "ckpt"]);
        command.args(["--dst-fusion", target.fusion.unwrap_or(Fusion::RankConcat).option()]).args(lora(&case));
        let run = Run::of(&mut command);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let whole = w8a16(&expected);
        let model = Llama { float: Float::Fp16, ..case.run.model.clone() };
        let suffix = if target.fusion.is_some() { "_qkv" } else { "" };
        let found = read_ranks(&env.path(&format!("out/w8a16_{ranks}p{suffix}")), target.ranks, "ckpt");
        // Each byte of the target went one way.
        let cast = |t: &&Tensor| t.dtype == "Int8" || case.run.model.float != Float::Fp16 && !t.name.contains(".matmul.");
        let converted: usize = found.iter().flat_map(BTreeMap::values).filter(cast).map(|t| t.bytes.len()).sum();
        prop_assert_eq!(run.json()["ways"]["converted"].as_u64(), Some(converted as u64));
        for (rank, found) in (0..).zip(found) {
            let wanted = quantised_rank(&model, &whole, rank, target.ranks, target.fusion).into_iter();
            prop_assert_eq!(found, wanted.map(|t| (t.name.clone(), t)).collect::<BTreeMap<_, _>>(), "rank {}", rank);
        }
        let summary = run.json();
        prop_assert_eq!(summary["training_state"]["adam_m."].as_u64(), Some(all.len() as u64));
        prop_assert_eq!(summary["merged_tensors"].as_u64() > Some(0), case.adapters.is_some());
    }

    #[test]
    fn a_training_run_becomes_a_hugging_face_model(case in cases()) {
        let env = TestEnv::new();
        let (all, expected) = source(&case);
        write(&env, &case, &all, false);
        let mut command = env.command(&["-f", "ms_to_pt", "-p", "fp16", "-sc", "src", "-ts", "ts", "-y", "model.yaml"]);
        command.args(["-dc", "out", "--no-sync", "--json", "--step", "70", "--check-replicas"]).args(lora(&case));
        let run = Run::of(&mut command);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let found = read_safetensors(&std::fs::read(env.path("out/fp16_hf/model.safetensors")).expect("one file"));
        let by_name = |tensors: Vec<Tensor>| tensors.into_iter().map(|t| (t.name.clone(), t)).collect::<BTreeMap<_, _>>();
        let found = found.into_iter().map(|t| Tensor { name: ours(&t.name), ..t }).collect();
        prop_assert_eq!(by_name(found), by_name(expected));
        prop_assert_eq!(run.json()["training_state"]["adam_v."].as_u64(), Some(all.len() as u64));
    }

    /// An adapter on `w_qkv` or `w_gate_hidden`: its rows are in the weight's order where both are cut alike.
    #[test]
    fn adapters_of_fused_weights_are_merged_row_by_row(case in cases()) {
        let (env, target) = (TestEnv::new(), case.target);
        let (rank, alpha) = case.adapters.unwrap_or((2, 3));
        let model = &case.run.model;
        let (float, mut state) = (model.float, model.seed ^ 1);
        let (plain, mut expected) = source(&Case { adapters: None, ..case.clone() });
        let ways = |name: &str, dims: &[u64]| {
            let stage = (0..case.run.stages).find(|stage| case.run.is_in(name, *stage)).expect("a stage");
            case.run.layout(name, dims, stage).parts(0)
        };
        // `B` of each part, which is then fused as its weight is, and one `A` for all parts.
        let (mut factors, mut inputs) = (Vec::new(), Vec::new());
        for tensor in plain.iter().filter(|t| fused_of(&t.name).is_some() && t.dims.len() == 2) {
            let (name, parts) = fused_of(&tensor.name).expect("a part");
            let mut factor = |name: String, dims: Vec<u64>| Tensor {
                name,
                dtype: float.dtype().to_owned(),
                bytes: small(float, dims.iter().product(), &mut state),
                dims,
            };
            if parts[0] == tensor.name {
                inputs.push(factor(name.replace(".weight", ".mindpet_delta_lora_a"), vec![rank, tensor.dims[1]]));
            }
            let b = factor(tensor.name.replace(".weight", ".mindpet_delta_lora_b"), vec![tensor.dims[0], rank]);
            let values = merged(float, (tensor, inputs.last().expect("the first part's"), &b), alpha);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let of = expected.iter_mut().find(|t| t.name == tensor.name).expect("the weight");
            of.bytes = cast(Float::Fp32, Float::Fp16, &bytes).0;
            factors.push(b);
        }
        let order = case.source_fusion;
        let cut_of_weight = |name: &str, _: &[u64]| {
            let weight = name.replace(".mindpet_delta_lora_b", ".weight");
            let rows = plain.iter().filter(|t| fused_of(&t.name).is_some_and(|(whole, _)| whole == weight)).map(|t| t.dims[0]).sum();
            ways(&weight, &[rows, model.hidden()])
        };
        let of_parts = factors.clone();
        let (Some(mut all), Some(factors)) =
            (fuse(model, &plain, order, ways), fuse(model, &factors, order, cut_of_weight)) else { return Ok(()) };
        // A cut that its parts cannot follow is another trouble; so is one of biases, which go along.
        let alike = order == Fusion::Grouped
            || factors.iter().all(|b| ways(&b.name, &b.dims) == cut_of_weight(&b.name, &b.dims));
        all.extend(factors);
        all.extend(inputs);
        write(&env, &case, &all, target.fusion.is_some());
        let ranks = target.ranks.to_string();
        let mut command = env.command(&["-f", "train_to_infer", "-p", "fp16", "-w", &ranks, "-sc", "src", "-ts", "ts"]);
        command.args(["-y", "model.yaml", "-dc", "out", "-is", "st", "--no-sync", "--src-fusion", order.option()]);
        command.args(["--dst-fusion", target.fusion.unwrap_or(Fusion::RankConcat).option(), "--check-replicas"]);
        command.args(["--lora", "merge", "--lora-alpha", &alpha.to_string()]);
        let run = Run::of(&mut command);
        if !alike {
            prop_assert_eq!(run.status, Some(1), "{:#?}", run);
            prop_assert!(run.stderr.contains("the order of fused rows follows the cut"), "{:#?}", run);
            return Ok(());
        }
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let half = Llama { float: Float::Fp16, ..model.clone() };
        let suffix = if target.fusion.is_some() { "_qkv" } else { "" };
        let found = read_ranks(&env.path(&format!("out/fp16_{ranks}p{suffix}")), target.ranks, "ckpt");
        for (rank, found) in (0..).zip(found) {
            let wanted = half.rank(&expected, rank, target).into_iter();
            prop_assert_eq!(found, wanted.map(|t| (t.name.clone(), t)).collect::<BTreeMap<_, _>>(), "rank {}", rank);
        }
        // Kept, they are taken apart and fused as the weights are, for whatever number of ranks.
        let mut command = env.command(&["-f", "train_to_infer", "-p", "keep", "-w", "1", "-sc", "src", "-ts", "ts"]);
        command.args(["-y", "model.yaml", "-dc", "kept", "-is", "kept_st", "--no-sync", "--src-fusion", order.option()]);
        command.args(["--dst-fusion", target.fusion.unwrap_or(Fusion::RankConcat).option(), "--lora", "keep"]);
        let run = Run::of(&mut command);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let found = read_ranks(&env.path(&format!("kept/keep_1p{suffix}")), 1, "ckpt").remove(0);
        let wanted = match target.fusion {
            Some(fusion) => fuse(model, &of_parts, fusion, |_, _| 1).expect("one part"),
            None => of_parts,
        };
        for b in wanted {
            prop_assert_eq!(&found[&b.name], &b);
            let a = &found[&b.name.replace("lora_b", "lora_a")];
            prop_assert!(all.iter().any(|t| t.name.ends_with("lora_a") && t.bytes == a.bytes && t.dims == a.dims));
        }
    }
}

/// Activations too: the same as with the fp16 ranks in between, whatever the training shards are.
#[test]
fn one_run_gives_what_two_give() {
    for (float, more) in [(Float::Fp32, ""), (Float::Bf16, "--lora merge --lora-alpha 8"), (Float::Fp16, "--no-smooth")]
    {
        let model = Llama {
            kv_heads: 2,
            rep: 1,
            head_dim: 4,
            ffn: 8,
            vocab: 8,
            layers: 2,
            bias: false,
            float,
            ..Llama::small()
        };
        let run = TrainingRun { model: model.clone(), tied: false, stages: 2, matrix: vec![2, 2], seed: 9 };
        let adapters = more.contains("lora").then_some((2, 8));
        let target = Sharding { ranks: 2, fusion: Some(Fusion::RankConcat), vocabulary_whole: false };
        let case = Case { run, adapters, target, source_fusion: Fusion::RankConcat };
        let env = TestEnv::new();
        let (all, _) = source(&case);
        write(&env, &case, &all, true);
        random_statistics(&env, &model);
        let lora = if adapters.is_some() { more } else { "" };
        let quant = if adapters.is_some() { "" } else { more };
        let common = "-y model.yaml --no-sync";
        env.line(&format!("-f train_to_infer -p fp16 -w 2 -sc src -ts ts -dc halves -is s1 {common} {lora}")).ok();
        for (precision, stats) in [
            ("w8a16", ""),
            ("w8a8", "--stats random_stats.safetensors"),
            ("w8a8c8", "--stats random_stats.safetensors"),
        ] {
            let quant = if precision == "w8a16" { "" } else { quant };
            let as_asked = format!("-p {precision} -w 2 {stats} {quant} {common}");
            env.line(&format!("-f train_to_infer -sc src -ts ts -dc one -is s2 {as_asked} {lora}")).ok();
            env.line(&format!("-f quant_weight -sc halves/fp16_2p_qkv -dc two -is s3 {as_asked}")).ok();
            let read = |dir: &str| read_ranks(&env.path(&format!("{dir}/{precision}_2p_qkv")), 2, "ckpt");
            assert_eq!(read("one"), read("two"), "{precision}");
        }
    }
}
