//! The whole program against naive slicing of whole tensors, for random models, layouts and rank counts.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::support::{Float, Fusion, Llama, Run, Sharding, Tensor, TestEnv, Values, cases, cast, fused_of, read_ranks};
use crate::support::{write_ckpt, write_safetensors};

const FORMATS: [&str; 2] = ["ckpt", "safetensors"];

/// A checkpoint's layout, format included.
#[derive(Clone, Copy, Debug)]
struct Side {
    sharding: Sharding,
    format: &'static str,
}

#[derive(Clone, Debug)]
struct Plan {
    model: Llama,
    source: Side,
    target: Side,
}

fn divisors(of: u64) -> Vec<u64> {
    (1..=of).filter(|n| of.is_multiple_of(*n)).collect()
}

fn side(kv_heads: u64) -> impl Strategy<Value = Side> {
    let fusion = prop::sample::select(vec![None, Some(Fusion::RankConcat), Some(Fusion::Grouped)]);
    (prop::sample::select(divisors(kv_heads)), fusion, any::<bool>(), prop::sample::select(FORMATS.to_vec())).prop_map(
        |(ranks, fusion, vocabulary_whole, format)| Side {
            sharding: Sharding { ranks, fusion, vocabulary_whole },
            format,
        },
    )
}

fn plans(values: Values) -> impl Strategy<Value = Plan> {
    let shape = (
        prop::sample::select(vec![1u64, 2, 3, 4, 6, 12]),
        1u64..4,
        1u64..4,
        1u64..4,
        1u64..20,
        1u64..3,
        any::<bool>(),
        prop::sample::select(Float::ALL.to_vec()),
        any::<u64>(),
    );
    shape.prop_flat_map(move |(kv_heads, rep, head_dim, ffn, vocab, layers, bias, float, seed)| {
        (side(kv_heads), side(kv_heads)).prop_map(move |(source, target)| Plan {
            model: Llama {
                kv_heads,
                rep,
                head_dim,
                // Divided by n and by m, and by little else.
                ffn: source.sharding.ranks * target.sharding.ranks * ffn,
                vocab,
                layers,
                bias,
                float,
                values,
                seed,
            },
            source,
            target,
        })
    })
}

fn config(count: u32) -> Config {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/oracle.regressions");
    cases(count, regressions)
}

fn option(fusion: Option<Fusion>) -> &'static str {
    fusion.unwrap_or(Fusion::RankConcat).option()
}

/// Converts and returns the target directory and the run.
fn convert(env: &TestEnv, model: &Llama, (from, source): (&Path, Side), to: Side, float: Float) -> (PathBuf, Run) {
    let name = format!("to_{}", from.file_name().expect("a name").to_string_lossy());
    let fused = to.sharding.fusion.is_some();
    let yaml = env.write(&format!("{name}.yaml"), model.yaml(fused, to.sharding.vocabulary_whole));
    let ranks = to.sharding.ranks.to_string();
    let mut command = env.command(&["-f", "distributed_weight_transfer", "-w", &ranks, "-p", float.option()]);
    command.arg("-y").arg(yaml).arg("-sc").arg(from).args(["-dc", &name, "-is", &format!("{name}_st")]);
    command.args(["--src-fusion", option(source.sharding.fusion), "--dst-fusion", option(to.sharding.fusion)]);
    command.args(["--format", to.format, "--no-sync", "--json"]);
    let run = Run::of(&mut command);
    (env.path(&format!("{name}/{}_{ranks}p{}", float.option(), if fused { "_qkv" } else { "" })), run)
}

fn named(tensors: Vec<Tensor>) -> std::collections::BTreeMap<String, Tensor> {
    tensors.into_iter().map(|t| (t.name.clone(), t)).collect()
}

fn verify(env: &TestEnv, plan: &Plan, a: &Path, b: &Path) -> Run {
    let yaml = env.write("verify.yaml", plan.model.yaml(false, false));
    let mut command = env.command(&["verify", "-q"]);
    command.arg(a).arg(b).arg("-y").arg(yaml);
    command.args(["--src-fusion", option(plan.source.sharding.fusion)]);
    command.args(["--dst-fusion", option(plan.target.sharding.fusion)]);
    Run::of(&mut command)
}

/// The unfused name of the tensor that a byte of a stored one belongs to.
fn logical_name(model: &Llama, tensor: &Tensor, byte: usize, rank: u64, sharding: Sharding) -> String {
    let parts = model.full().into_iter().map(|t| t.name).filter_map(|name| fused_of(&name));
    let Some((_, parts)) = parts.into_iter().find(|(whole, _)| *whole == tensor.name) else {
        return tensor.name.clone();
    };
    let full = model.full();
    let rows: Vec<u64> = parts.iter().map(|p| full.iter().find(|t| t.name == *p).expect("a part").dims[0]).collect();
    let order = model.fused_rows(&rows, rank, sharding.ranks, sharding.fusion.expect("a fused tensor"));
    parts[order[byte / (tensor.bytes.len() / order.len())].0].clone()
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_conversion_is_naive_slicing_and_can_be_undone(plan in plans(Values::Bits), pick in any::<prop::sample::Index>()) {
        let Plan { model, source, target } = &plan;
        let env = TestEnv::new();
        let src = env.path("src");
        model.write(&src, source.sharding, source.format);
        let (there, run) = convert(&env, model, (&src, *source), *target, model.float);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let full = model.full();
        let written = read_ranks(&there, target.sharding.ranks, target.format);
        for (rank, found) in (0..).zip(&written) {
            prop_assert_eq!(found, &named(model.rank(&full, rank, target.sharding)), "rank {}", rank);
        }
        let beyond = there.join(format!("rank_{}", target.sharding.ranks)).exists();
        prop_assert!(!beyond, "a rank too many");

        // And back: the source again.
        let (back, run) = convert(&env, model, (&there, *target), *source, model.float);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        for (rank, found) in (0..).zip(read_ranks(&back, source.sharding.ranks, source.format)) {
            prop_assert_eq!(found, named(model.rank(&full, rank, source.sharding)), "rank {} after the way back", rank);
        }

        // The same model; and with one bit flipped anywhere, in whichever replica, no longer.
        let run = verify(&env, &plan, &src, &there);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        prop_assert!(run.stdout.contains("same"), "{:#?}", run);
        let rank = pick.index(written.len());
        let mut tensors: Vec<Tensor> = written[rank].values().cloned().collect();
        let at = pick.index(tensors.iter().map(|t| t.bytes.len()).sum());
        let mut skipped = 0;
        let hit = tensors.iter_mut().find(|t| {
            skipped += t.bytes.len();
            at < skipped
        });
        let tensor = hit.expect("the byte is in some tensor");
        let byte = at - (skipped - tensor.bytes.len());
        tensor.bytes[byte] ^= 0x10;
        let name = logical_name(model, tensor, byte, rank as u64, target.sharding);
        let bytes = if target.format == "ckpt" { write_ckpt(&tensors) } else { write_safetensors(&tensors) };
        std::fs::write(there.join(format!("rank_{rank}/checkpoint_{rank}.{}", target.format)), bytes).expect("written");
        for (a, b, swapped) in [(&src, &there, false), (&there, &src, true)] {
            let mut plan = plan.clone();
            if swapped {
                std::mem::swap(&mut plan.source, &mut plan.target);
            }
            let run = verify(&env, &plan, a, b);
            prop_assert_eq!(run.status, Some(1), "{} was changed: {:#?}", name, run);
            // By the name that one of the two files has for it.
            let whole = fused_of(&name).map_or(name.clone(), |(whole, _)| whole);
            let named = [&name, &whole].iter().any(|name| run.stdout.contains(&format!("`{name}`")));
            prop_assert!(run.stdout.contains("different") && named, "{}: {:#?}", name, run);
        }
    }
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn casts_round_to_nearest_even_and_overflows_are_counted_once(
        plan in plans(Values::Numbers),
        to in prop::sample::select(Float::ALL.to_vec()),
    ) {
        let Plan { model, source, target } = &plan;
        let env = TestEnv::new();
        let src = env.path("src");
        model.write(&src, source.sharding, source.format);
        let (there, run) = convert(&env, model, (&src, *source), *target, to);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);

        // The oracle casts the whole tensors, then cuts them.
        let mut overflowed = std::collections::BTreeMap::new();
        let mut full = model.full();
        for tensor in &mut full {
            let (bytes, count) = cast(model.float, to, &tensor.bytes);
            *tensor = Tensor { bytes, dtype: to.dtype().to_owned(), ..tensor.clone() };
            if count > 0 {
                let fused = fused_of(&tensor.name).filter(|_| target.sharding.fusion.is_some());
                let name = fused.map_or(tensor.name.clone(), |(whole, _)| whole);
                *overflowed.entry(name).or_insert(0) += count;
            }
        }
        let cast_model = Llama { float: to, ..model.clone() };
        for (rank, found) in (0..).zip(read_ranks(&there, target.sharding.ranks, target.format)) {
            prop_assert_eq!(found, named(cast_model.rank(&full, rank, target.sharding)), "rank {}", rank);
        }
        let summary = run.json();
        let counted: std::collections::BTreeMap<String, u64> = summary["overflowed"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|o| (o["name"].as_str().expect("a name").to_owned(), o["values"].as_u64().expect("a number")))
            .collect();
        prop_assert_eq!(counted, overflowed);
    }
}
