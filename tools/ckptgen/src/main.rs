//! `ckptgen` writes llama-shaped checkpoints of any size, quickly and reproducibly.
//!
//! ```text
//! ckptgen --model llama2_7b --layers 8 --ranks 4 --fused --out DIR
//! ```
//!
//! writes `DIR/rank_<r>/checkpoint_<r>.ckpt` (or `.safetensors`) with mindformers' parameter names and splits.
//!
//! A value depends only on the seed, the name of the unfused parameter, the dtype and the element's index in
//! the full, unsharded tensor. So all rank counts, fused or not, in either format, are the same model, and a
//! converted checkpoint can be compared byte for byte with one generated in the wanted form. For that reason
//! nothing here is shared with the ckpt-convert library: this program is an oracle for it.
//!
//! - Splits: embedding and `lm_head` on axis 0 (whole where the ranks do not divide the vocabulary), `wq`, `wk`,
//!   `wv`, `w1`, `w3` and the biases on axis 0, `wo` and `w2` on axis 1, norms whole on every rank.
//! - `--fused`: on each rank `w_qkv` = \[q; k; v\] and `w_gate_hidden` = \[w1; w3\] of that rank's slices.
//! - Values are finite, of both signs, with magnitudes in \[2^-8, 1).
//! - `.ckpt` is the canonical protobuf that `MindSpore` writes, cut into records of 512 MiB.
//! - Memory: one 4 MiB buffer for each of the two threads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clap::{Parser, ValueEnum};

const BUFFER: usize = 4 << 20;
const THREADS: usize = 2;
/// A record of a `.ckpt` holds at most this many content bytes.
const RECORD: u64 = 512 << 20;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    #[value(name = "tiny")]
    Tiny,
    #[value(name = "llama2_7b")]
    Llama2_7b,
    #[value(name = "llama2_13b")]
    Llama2_13b,
    #[value(name = "llama2_70b")]
    Llama2_70b,
    #[value(name = "llama3_8b")]
    Llama3_8b,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    Fp16,
    Bf16,
    Fp32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Ckpt,
    Safetensors,
}

/// Write a seeded llama-shaped checkpoint.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Sizes to start from; the options below replace single ones
    #[arg(long, value_enum, default_value = "tiny")]
    model: Preset,
    #[arg(long)]
    layers: Option<u64>,
    #[arg(long)]
    hidden: Option<u64>,
    #[arg(long)]
    heads: Option<u64>,
    #[arg(long)]
    kv_heads: Option<u64>,
    #[arg(long)]
    ffn: Option<u64>,
    #[arg(long)]
    vocab: Option<u64>,
    /// Tensor-parallel ranks
    #[arg(long, default_value_t = 1)]
    ranks: u64,
    /// Write w_qkv and w_gate_hidden instead of wq, wk, wv and w1, w3
    #[arg(long)]
    fused: bool,
    /// Add the biases of wq, wk, wv
    #[arg(long)]
    bias: bool,
    #[arg(long, value_enum, default_value = "fp16")]
    dtype: Dtype,
    #[arg(long, value_enum, default_value = "ckpt")]
    format: Format,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write rank_<r>/checkpoint_<r>.<ext> into
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy)]
struct Sizes {
    layers: u64,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    ffn: u64,
    vocab: u64,
}

/// One checkpoint to write; the same for all ranks.
#[derive(Clone, Copy)]
struct Job {
    sizes: Sizes,
    ranks: u64,
    fused: bool,
    bias: bool,
    dtype: Dtype,
    seed: u64,
    record: u64,
}

impl Preset {
    fn sizes(self) -> Sizes {
        let (layers, hidden, heads, kv_heads, ffn, vocab) = match self {
            Self::Tiny => (2, 64, 16, 16, 96, 64),
            Self::Llama2_7b => (32, 4096, 32, 32, 11008, 32000),
            Self::Llama2_13b => (40, 5120, 40, 40, 13824, 32000),
            Self::Llama2_70b => (80, 8192, 64, 8, 28672, 32000),
            Self::Llama3_8b => (32, 4096, 32, 8, 14336, 128_256),
        };
        Sizes { layers, hidden, heads, kv_heads, ffn, vocab }
    }
}

impl Dtype {
    fn size(self) -> u64 {
        if self == Self::Fp32 { 4 } else { 2 }
    }

    fn ckpt_name(self) -> &'static str {
        match self {
            Self::Fp16 => "Float16",
            Self::Bf16 => "BFloat16",
            Self::Fp32 => "Float32",
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Self::Fp16 => "F16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "F32",
        }
    }

    /// (bits kept, bits set, then subtracted) in each element of an 8-byte block: sign, fraction and the low
    /// three bits of the exponent are random, so that the exponent is one of -8..=-1.
    fn masks(self) -> (u64, u64, u64) {
        match self {
            Self::Fp16 => (0x9fff * LANES16, 0x2000 * LANES16, 0x0400 * LANES16),
            Self::Bf16 => (0x83ff * LANES16, 0x3c00 * LANES16, 0x0080 * LANES16),
            Self::Fp32 => (0x83ff_ffff * LANES32, 0x3c00_0000 * LANES32, 0x0080_0000 * LANES32),
        }
    }
}

const LANES16: u64 = 0x0001_0001_0001_0001;
const LANES32: u64 = 0x0000_0001_0000_0001;

/// The last steps of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bytes of one full tensor as a function of the position.
#[derive(Clone, Copy)]
struct Source {
    key: u64,
    masks: (u64, u64, u64),
}

impl Source {
    fn new(seed: u64, name: &str, dtype: Dtype) -> Self {
        let fnv =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self { key: mix(mix(seed.wrapping_add(GOLDEN)) ^ fnv), masks: dtype.masks() }
    }

    fn block(self, index: u64) -> [u8; 8] {
        let (keep, set, subtract) = self.masks;
        let word = mix(self.key.wrapping_add(index.wrapping_mul(GOLDEN)));
        (((word & keep) | set) - subtract).to_le_bytes()
    }

    /// Fills `buf` with the tensor's bytes from byte `at` on.
    fn fill(self, mut at: u64, mut buf: &mut [u8]) {
        let skip = (at % 8) as usize;
        if skip != 0 {
            let n = buf.len().min(8 - skip);
            let (head, rest) = buf.split_at_mut(n);
            head.copy_from_slice(&self.block(at / 8)[skip..skip + n]);
            at += n as u64;
            buf = rest;
        }
        let mut index = at / 8;
        let mut blocks = buf.chunks_exact_mut(8);
        for block in &mut blocks {
            block.copy_from_slice(&self.block(index));
            index += 1;
        }
        let tail = blocks.into_remainder();
        tail.copy_from_slice(&self.block(index)[..tail.len()]);
    }
}

/// One rank's slice of a full tensor.
struct Part {
    source: Source,
    /// Bytes of a full row; of the whole tensor if it has one axis.
    row: u64,
    /// First byte of the slice.
    start: u64,
    /// Bytes of one contiguous run, and the number of runs, each `row` further on.
    run: u64,
    runs: u64,
}

impl Part {
    fn len(&self) -> u64 {
        self.run * self.runs
    }
}

/// One parameter of a rank's file: its slices one behind the other.
struct Param {
    name: String,
    dims: Vec<u64>,
    parts: Vec<Part>,
}

impl Param {
    fn len(&self) -> u64 {
        self.parts.iter().map(Part::len).sum()
    }
}

impl Job {
    fn check(&self) -> Result<(), String> {
        let s = &self.sizes;
        if self.ranks == 0 || s.heads == 0 || !s.hidden.is_multiple_of(s.heads) {
            return Err("ranks and heads must be positive and heads must divide hidden".into());
        }
        for (what, n) in [("heads", s.heads), ("kv-heads", s.kv_heads), ("ffn", s.ffn), ("hidden", s.hidden)] {
            if n == 0 || n % self.ranks != 0 {
                return Err(format!("{} ranks do not divide {what} = {n}", self.ranks));
            }
        }
        Ok(())
    }

    /// The slice of `rank` of the tensor `name`, split on `axis`, and its dims.
    fn slice(&self, name: &str, dims: &[u64], axis: Option<usize>, rank: u64) -> (Vec<u64>, Part) {
        let mut local = dims.to_vec();
        let row = dims[1..].iter().product::<u64>() * self.dtype.size();
        let all = row * dims[0];
        let source = Source::new(self.seed, name, self.dtype);
        if let Some(axis) = axis {
            local[axis] /= self.ranks;
        }
        let part = match axis {
            None => Part { source, row, start: 0, run: all, runs: 1 },
            Some(0) => {
                let run = all / self.ranks;
                Part { source, row, start: rank * run, run, runs: 1 }
            }
            Some(_) => {
                let run = row / self.ranks;
                Part { source, row, start: rank * run, run, runs: dims[0] }
            }
        };
        (local, part)
    }

    fn one(&self, name: String, dims: &[u64], axis: Option<usize>, rank: u64) -> Param {
        let (dims, part) = self.slice(&name, dims, axis, rank);
        Param { name, dims, parts: vec![part] }
    }

    /// Parameters split on axis 0, fused into `fused` if so wanted.
    fn group(&self, prefix: &str, fused: &str, members: &[(&str, Vec<u64>)], rank: u64) -> Vec<Param> {
        let names = members.iter().map(|(n, dims)| (format!("{prefix}{n}"), dims));
        let mut params: Vec<_> = names.map(|(n, dims)| self.one(n, dims, Some(0), rank)).collect();
        if self.fused {
            let mut all = params.remove(0);
            all.name = format!("{prefix}{fused}");
            for p in params {
                all.dims[0] += p.dims[0];
                all.parts.extend(p.parts);
            }
            params = vec![all];
        }
        params
    }

    /// All parameters of one rank's file, in file order.
    fn params(&self, rank: u64) -> Vec<Param> {
        let Sizes { layers, hidden, heads, kv_heads, ffn, vocab } = self.sizes;
        let kv = hidden / heads * kv_heads;
        let by_vocab = (vocab % self.ranks == 0).then_some(0);
        let mut out = vec![self.one("model.tok_embeddings.embedding_weight".into(), &[vocab, hidden], by_vocab, rank)];
        for i in 0..layers {
            let layer = format!("model.layers.{i}.");
            for norm in ["attention_norm", "ffn_norm"] {
                out.push(self.one(format!("{layer}{norm}.weight"), &[hidden], None, rank));
            }
            let attention = format!("{layer}attention.");
            let (q, k) = (vec![hidden, hidden], vec![kv, hidden]);
            let qkv = [("wq.weight", q), ("wk.weight", k.clone()), ("wv.weight", k)];
            out.extend(self.group(&attention, "w_qkv.weight", &qkv, rank));
            if self.bias {
                let qkv = [("wq.bias", vec![hidden]), ("wk.bias", vec![kv]), ("wv.bias", vec![kv])];
                out.extend(self.group(&attention, "w_qkv.bias", &qkv, rank));
            }
            out.push(self.one(format!("{attention}wo.weight"), &[hidden, hidden], Some(1), rank));
            let feed = format!("{layer}feed_forward.");
            let gate = [("w1.weight", vec![ffn, hidden]), ("w3.weight", vec![ffn, hidden])];
            out.extend(self.group(&feed, "w_gate_hidden.weight", &gate, rank));
            out.push(self.one(format!("{feed}w2.weight"), &[hidden, ffn], Some(1), rank));
        }
        out.push(self.one("model.norm_out.weight".into(), &[hidden], None, rank));
        out.push(self.one("lm_head.weight".into(), &[vocab, hidden], by_vocab, rank));
        out
    }

    /// Writes the file of `rank` and returns its length.
    fn write(&self, rank: u64, format: Format, to: impl Write) -> io::Result<u64> {
        let params = self.params(rank);
        let mut out = Out { to, buf: Vec::with_capacity(BUFFER), flushed: 0 };
        match format {
            Format::Ckpt => {
                for p in &params {
                    self.ckpt_param(p, &mut out)?;
                }
            }
            Format::Safetensors => {
                out.bytes(&self.safetensors_header(&params))?;
                for p in &params {
                    out.content(&mut Cursor::new(p), p.len())?;
                }
            }
        }
        out.finish()
    }

    fn ckpt_param<W: Write>(&self, p: &Param, out: &mut Out<W>) -> io::Result<()> {
        let mut fixed = Vec::new();
        for &d in &p.dims {
            fixed.push(0x08);
            varint(&mut fixed, d);
        }
        fixed.push(0x12);
        text(&mut fixed, self.dtype.ckpt_name());
        let mut cursor = Cursor::new(p);
        let mut left = p.len();
        while left > 0 {
            let n = left.min(self.record);
            let mut tensor = fixed.clone();
            tensor.push(0x1a);
            varint(&mut tensor, n);
            let mut value = vec![0x0a];
            text(&mut value, &p.name);
            value.push(0x12);
            varint(&mut value, tensor.len() as u64 + n);
            value.extend(tensor);
            let mut head = vec![0x0a];
            varint(&mut head, value.len() as u64 + n);
            head.extend(value);
            out.bytes(&head)?;
            out.content(&mut cursor, n)?;
            left -= n;
        }
        Ok(())
    }

    fn safetensors_header(&self, params: &[Param]) -> Vec<u8> {
        let mut json = String::from(r#"{"__metadata__":{"format":"ms"}"#);
        let mut at = 0;
        for p in params {
            let (dtype, end) = (self.dtype.safetensors_name(), at + p.len());
            let dims: Vec<_> = p.dims.iter().map(u64::to_string).collect();
            let dims = dims.join(",");
            let _ = write!(json, r#","{}":{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{at},{end}]}}"#, p.name);
            at = end;
        }
        json.push('}');
        while json.len() % 8 != 0 {
            json.push(' ');
        }
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json.into_bytes());
        header
    }
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

fn text(to: &mut Vec<u8>, s: &str) {
    varint(to, s.len() as u64);
    to.extend(s.bytes());
}

/// A position in a parameter's content.
struct Cursor<'a> {
    parts: &'a [Part],
    run: u64,
    done: u64,
}

impl<'a> Cursor<'a> {
    fn new(p: &'a Param) -> Self {
        Self { parts: &p.parts, run: 0, done: 0 }
    }

    /// Fills `buf` with the next bytes.
    fn read(&mut self, mut buf: &mut [u8]) {
        while let Some(p) = self.parts.first()
            && !buf.is_empty()
        {
            let n = (p.run - self.done).min(buf.len() as u64);
            let (now, later) = buf.split_at_mut(n as usize);
            p.source.fill(p.start + self.run * p.row + self.done, now);
            buf = later;
            self.done += n;
            if self.done == p.run {
                (self.done, self.run) = (0, self.run + 1);
            }
            if self.run == p.runs {
                (self.run, self.parts) = (0, &self.parts[1..]);
            }
        }
    }
}

/// A buffered writer whose buffer the content is made in.
struct Out<W> {
    to: W,
    buf: Vec<u8>,
    flushed: u64,
}

impl<W: Write> Out<W> {
    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.buf)?;
        self.flushed += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    fn bytes(&mut self, b: &[u8]) -> io::Result<()> {
        if self.buf.len() + b.len() > BUFFER {
            self.flush()?;
        }
        self.buf.extend_from_slice(b);
        Ok(())
    }

    fn content(&mut self, from: &mut Cursor<'_>, mut left: u64) -> io::Result<()> {
        while left > 0 {
            if self.buf.len() >= BUFFER {
                self.flush()?;
            }
            let at = self.buf.len();
            let n = left.min((BUFFER - at) as u64);
            self.buf.resize(at + n as usize, 0);
            from.read(&mut self.buf[at..]);
            left -= n;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.to.flush()?;
        Ok(self.flushed)
    }
}

#[expect(clippy::disallowed_methods, reason = "this program shares nothing with the library")]
fn write_rank(job: &Job, rank: u64, format: Format, out: &Path) -> io::Result<u64> {
    let dir = out.join(format!("rank_{rank}"));
    fs::create_dir_all(&dir)?;
    let ext = if format == Format::Ckpt { "ckpt" } else { "safetensors" };
    job.write(rank, format, File::create(dir.join(format!("checkpoint_{rank}.{ext}")))?)
}

fn run(args: &Args) -> Result<u64, String> {
    let base = args.model.sizes();
    let heads = args.heads.unwrap_or(base.heads);
    let kv_default = if args.heads.is_some() { heads } else { base.kv_heads };
    let job = Job {
        sizes: Sizes {
            layers: args.layers.unwrap_or(base.layers),
            hidden: args.hidden.unwrap_or(base.hidden),
            heads,
            kv_heads: args.kv_heads.unwrap_or(kv_default),
            ffn: args.ffn.unwrap_or(base.ffn),
            vocab: args.vocab.unwrap_or(base.vocab),
        },
        ranks: args.ranks,
        fused: args.fused,
        bias: args.bias,
        dtype: args.dtype,
        seed: args.seed,
        record: RECORD,
    };
    job.check()?;
    let next = AtomicUsize::new(0);
    let result = Mutex::new(Ok(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let rank = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if rank >= job.ranks {
                        break;
                    }
                    let one = write_rank(&job, rank, args.format, &args.out);
                    let mut all = result.lock().unwrap_or_else(PoisonError::into_inner);
                    match (one, &mut *all) {
                        (Ok(n), Ok(sum)) => *sum += n,
                        (Err(e), Ok(_)) => *all = Err(format!("rank {rank}: {e}")),
                        (_, Err(_)) => break,
                    }
                }
            });
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(bytes) => {
            println!("{}: {} ranks, {bytes} bytes", args.out.display(), args.ranks);
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("ckptgen: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let (mut i, mut model) = (0, Model::new());
        while i < file.len() {
            let value = bytes(&file, &mut i, 0x0a);
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
                    (
                        "attention.w_qkv.weight",
                        &["attention.wq.weight", "attention.wk.weight", "attention.wv.weight"][..],
                    ),
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
}
