//! One rank against many, fused against not, by naive slicing.

use super::*;
use crate::model::Sizes;
use crate::values::Dtype;
use std::collections::BTreeMap;

type Model = BTreeMap<String, (Vec<u64>, Vec<u8>)>;

/// Rows of 24 and 40 bytes, so that a quarter (6 and 10 bytes) does not end on a block.
const ODD: Sizes = Sizes { layers: 2, hidden: 12, heads: 12, kv_heads: 4, ffn: 20, vocab: 28 };

fn job(ranks: u64, fused: bool) -> Job {
    Job { sizes: ODD, ranks, fused, bias: true, dtype: Dtype::Fp16, seed: 3, record: RECORD }
}

fn get(b: &[u8], i: &mut usize) -> u64 {
    let (mut v, mut s) = (0, 0);
    loop {
        let c = b[*i];
        *i += 1;
        v |= u64::from(c & 127) << s;
        s += 7;
        if c < 128 {
            return v;
        }
    }
}

fn bytes<'a>(b: &'a [u8], i: &mut usize, key: u8) -> &'a [u8] {
    assert_eq!(b[*i], key);
    *i += 1;
    let n = get(b, i) as usize;
    *i += n;
    &b[*i - n..*i]
}

fn read(job: &Job, rank: u64) -> Model {
    let mut file = Vec::new();
    let n = job.write(rank, Format::Ckpt, &mut file).unwrap();
    assert_eq!(n, file.len() as u64);
    parse(job, &file)
}

fn parse(job: &Job, file: &[u8]) -> Model {
    let (mut i, mut model) = (0, Model::new());
    while i < file.len() {
        let value = bytes(file, &mut i, 0x0a);
        let mut j = 0;
        let name = String::from_utf8(bytes(value, &mut j, 0x0a).to_vec()).unwrap();
        let tensor = bytes(value, &mut j, 0x12);
        let (mut k, mut dims) = (0, Vec::new());
        while tensor[k] == 0x08 {
            k += 1;
            dims.push(get(tensor, &mut k));
        }
        assert_eq!(bytes(tensor, &mut k, 0x12), job.dtype.ckpt_name().as_bytes());
        let content = bytes(tensor, &mut k, 0x1a);
        assert!(content.len() as u64 <= job.record);
        assert_eq!((j, k), (value.len(), tensor.len()));
        model.entry(name).or_insert((dims, Vec::new())).1.extend(content);
    }
    for (name, (dims, content)) in &model {
        assert_eq!(dims.iter().product::<u64>() * job.dtype.size(), content.len() as u64, "{name}");
    }
    model
}

/// Rank `r` of `n` of a full model, element by element.
fn naive(full: &Model, r: u64, n: u64, size: u64, fused: bool) -> Model {
    let mut out = Model::new();
    for (name, (dims, content)) in full {
        let axis = if name.contains("norm") {
            None
        } else {
            Some(usize::from(name.contains(".wo.") || name.contains(".w2.")))
        };
        let cols = dims.get(1).copied().unwrap_or(1);
        let mut local = (dims.clone(), Vec::new());
        for row in 0..dims[0] {
            for col in 0..cols {
                let mine = match axis {
                    None => true,
                    Some(0) => row / (dims[0] / n) == r,
                    Some(_) => col / (cols / n) == r,
                };
                if mine {
                    let at = ((row * cols + col) * size) as usize;
                    local.1.extend(&content[at..at + size as usize]);
                }
            }
        }
        if let Some(axis) = axis {
            local.0[axis] /= n;
        }
        out.insert(name.clone(), local);
    }
    if fused {
        for layer in 0..ODD.layers {
            let p = format!("model.layers.{layer}.");
            for (target, parts) in [
                ("attention.w_qkv.weight", &["attention.wq.weight", "attention.wk.weight", "attention.wv.weight"][..]),
                ("attention.w_qkv.bias", &["attention.wq.bias", "attention.wk.bias", "attention.wv.bias"]),
                ("feed_forward.w_gate_hidden.weight", &["feed_forward.w1.weight", "feed_forward.w3.weight"]),
            ] {
                let mut all: (Vec<u64>, Vec<u8>) = Default::default();
                for part in parts {
                    let (dims, content) = out.remove(&format!("{p}{part}")).unwrap();
                    let rows = all.0.first().copied().unwrap_or(0) + dims[0];
                    all.0 = dims;
                    all.0[0] = rows;
                    all.1.extend(content);
                }
                out.insert(format!("{p}{target}"), all);
            }
        }
    }
    out
}

#[test]
fn every_rank_count_and_fusion_is_one_model() {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32] {
        let full = read(&Job { dtype, ..job(1, false) }, 0);
        assert_eq!(full.len(), 3 + 2 * (2 + 4 + 3 + 3));
        for (ranks, fused) in [(1, true), (2, false), (2, true), (4, false), (4, true)] {
            for rank in 0..ranks {
                let got = read(&Job { dtype, ..job(ranks, fused) }, rank);
                assert_eq!(got, naive(&full, rank, ranks, dtype.size(), fused), "{rank} of {ranks}");
            }
        }
    }
}

/// The optimizer cuts rows, so the shards of one block one after the other are the block.
#[test]
fn a_training_run_is_the_same_model_cut_over_stages_and_replicas() {
    let run = Run { job: Job { dtype: Dtype::Fp32, bias: false, ..job(2, false) }, pp: 2, dp: 2 };
    run.check().unwrap();
    let full = read(&Job { ranks: 1, ..run.job }, 0);
    let files: Vec<Model> = (0..8)
        .map(|rank| {
            let mut file = Vec::new();
            run.job.write_params(&run.params(rank), Format::Ckpt, &mut file).unwrap();
            parse(&run.job, &file)
        })
        .collect();
    let mut seen = 0;
    for m in 0..2 {
        for (name, (dims, content)) in naive(&full, m, 2, 4, false) {
            let stage = usize::from(name.contains("layers.1") || name.contains("norm_out") || name.contains("lm_head"));
            let norm = name.contains("norm");
            // Norms are cut over all four devices, or over none.
            let devices = if norm { vec![0, 1, 2, 3] } else { vec![m as usize, 2 + m as usize] };
            let shards: Vec<&(Vec<u64>, Vec<u8>)> = devices.iter().map(|d| &files[stage * 4 + d][&name]).collect();
            let cut = shards[0].0 != dims;
            assert_eq!(cut, dims[0] % devices.len() as u64 == 0, "{name}");
            let joined: Vec<u8> =
                if cut { shards.iter().flat_map(|s| s.1.clone()).collect() } else { shards[0].1.clone() };
            assert_eq!(joined, content, "{name} of device {m}");
            assert!(!files[(1 - stage) * 4].contains_key(&name), "{name} is in one stage");
            let state = &files[stage * 4][&format!("adam_m.{name}")];
            assert!(state.0 == files[stage * 4][&name].0 && state.1 != files[stage * 4][&name].1, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * full.len());
}

#[test]
fn records_are_cut_at_any_byte() {
    for ranks in [1, 4] {
        assert_eq!(read(&Job { record: 13, ..job(ranks, true) }, 0), read(&job(ranks, true), 0));
    }
}

#[test]
fn safetensors_holds_the_same_content() {
    let job = job(4, true);
    let mut file = Vec::new();
    job.write(2, Format::Safetensors, &mut file).unwrap();
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    assert_eq!(n % 8, 0);
    assert!(file[8..8 + n].starts_with(br#"{"__metadata__":{"format":"ms"},"model.tok_embeddings"#));
    let model = read(&job, 2);
    let content: Vec<u8> = job.params(2).iter().flat_map(|p| model[&p.name].1.clone()).collect();
    assert_eq!(file[8 + n..], content);
}

#[test]
fn seed_and_name_matter_and_values_are_small() {
    let a = read(&job(1, false), 0);
    let b = read(&Job { seed: 4, ..job(1, false) }, 0);
    assert_ne!(a["lm_head.weight"], b["lm_head.weight"]);
    assert_ne!(a["lm_head.weight"], a["model.tok_embeddings.embedding_weight"]);
    let fp32 = read(&Job { dtype: Dtype::Fp32, ..job(1, false) }, 0);
    let fp32 = fp32.values().flat_map(|(_, c)| c.chunks_exact(4));
    let values = fp32.map(|c| f32::from_le_bytes(c.try_into().unwrap()));
    let bf16 = read(&Job { dtype: Dtype::Bf16, ..job(1, false) }, 0);
    let bf16 = bf16.values().flat_map(|(_, c)| c.chunks_exact(2));
    let bf16 = bf16.map(|c| f32::from_le_bytes([0, 0, c[0], c[1]]));
    let (mut plus, mut minus) = (0, 0);
    for v in values.chain(bf16) {
        assert!(v.abs() >= 1.0 / 256.0 && v.abs() < 1.0, "{v}");
        if v > 0.0 { plus += 1 } else { minus += 1 }
    }
    assert!(plus > minus / 2 && minus > plus / 2);
    for (_, c) in a.values() {
        for e in c.chunks_exact(2) {
            let exponent = i32::from((u16::from_le_bytes([e[0], e[1]]) >> 10) & 31) - 15;
            assert!((-8..=-1).contains(&exponent));
        }
    }
}
