//! Planning alone: from parsed headers to a proved plan, and which of many hosts takes what of it. No file is read.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use ckpt_convert::internals::cluster;
use ckpt_convert::internals::formats::{CKPT, Entry};
use ckpt_convert::internals::model::naming::{Split, fused, role};
use ckpt_convert::internals::model::{Dense, FusionLayout, Model, builtin};
use ckpt_convert::internals::plan::{
    Arrangement, Catalog, CatalogOptions, Evidence, InFile, Plan, PlanOptions, Precision, SourceFile, TargetOptions,
    Unread, build, prove, targets,
};
use ckpt_convert::internals::source::{ByteRange, Extents};
use ckpt_convert::internals::tensor::{Dtype, Shape};
use criterion::{Criterion, criterion_group, criterion_main};

fn sized(sizes: Dense) -> Model {
    sizes.model().expect("sizes of a model")
}

/// There are no bytes.
struct Headers;

impl Evidence for Headers {
    fn same(&self, _: InFile, _: InFile) -> Result<bool, Unread> {
        Ok(false)
    }

    fn is_constant(&self, _: InFile) -> Result<bool, Unread> {
        Ok(true)
    }

    fn beginning(&self, _: InFile, _: u64) -> Result<Option<u64>, Unread> {
        Ok(None)
    }
}

/// The headers of an fp16 checkpoint of `ranks` ranks.
fn headers(spec: &Model, ranks: u64, is_fused: bool) -> Vec<(PathBuf, u32, Vec<Entry>)> {
    let stored = |name: String| fused(&name).filter(|_| is_fused).map_or(name, |fused| fused.name);
    let mut names: Vec<String> = spec.members().iter().map(|&id| stored(spec.family().own_name(id, None))).collect();
    names.sort();
    names.dedup();
    let file = |rank: u64| {
        let mut at = 0;
        let mut entry = |name: &String| {
            let full = spec.stored_shape(name).expect("a required parameter has a shape");
            let axis = match role(name).map(|role| role.split) {
                Some(Split::Whole) => None,
                Some(Split::Columns) => Some(1),
                _ => Some(0),
            };
            let mut dims = full.dims().to_vec();
            if let Some(axis) = axis {
                dims[axis] /= ranks;
            }
            let shape = Shape::new(dims).expect("a part of a shape is a shape");
            let len = shape.bytes(Dtype::F16);
            let extents = Extents::contiguous(ByteRange::new(at, len).expect("small"));
            at += len;
            Entry { name: name.as_str().into(), dtype: Dtype::F16, shape, extents }
        };
        (
            PathBuf::from(format!("rank_{rank}/checkpoint_{rank}.ckpt")),
            u32::try_from(rank).expect("few ranks"),
            names.iter().map(&mut entry).collect(),
        )
    };
    (0..ranks).map(file).collect()
}

fn plan(spec: &Model, headers: &[(PathBuf, u32, Vec<Entry>)], ranks: u64, fusion: FusionLayout) -> Plan {
    let files: Vec<SourceFile<'_>> = headers
        .iter()
        .map(|(path, rank, entries)| SourceFile { path: path.clone(), rank: *rank, len: 0, entries })
        .collect();
    let files = files.as_slice();
    let options = CatalogOptions {
        spec: Some(spec),
        arrangement: Arrangement::Rules(files.len() as u64),
        fusion,
        evidence: &Headers,
        ignore: &|_| false,
    };
    let catalog = Catalog::new(files, &options).expect("the headers are whole");
    let options = TargetOptions {
        spec: Some(spec),
        arrangement: Arrangement::Rules(ranks),
        fusion,
        fused: true,
        vocabulary_whole: false,
    };
    let targets = targets(&catalog, files, &Headers, &options).expect("the ranks divide the model");
    let options = PlanOptions {
        precision: Precision::Keep,
        norms: Precision::Keep,
        format: CKPT,
        crc: false,
        padding: true,
        whole: None,
    };
    let plan = build(files, &catalog, targets, &options).expect("the headers can be written");
    prove(&plan).expect("the plan covers its outputs");
    plan
}

/// Bytes of the largest share over the mean.
fn imbalance(shares: &[Vec<cluster::Unit>]) -> f64 {
    let bytes = |share: &Vec<cluster::Unit>| share.iter().map(|unit| unit.range.len()).sum::<u64>();
    let (most, all) = (shares.iter().map(bytes).max().unwrap_or(0), shares.iter().map(bytes).sum::<u64>());
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = most as f64 * shares.len() as f64 / all as f64;
    ratio
}

#[expect(clippy::print_stderr, reason = "figures beside those of criterion")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    let second = Duration::from_secs(1);
    group.sample_size(10).warm_up_time(second).measurement_time(4 * second);

    let seven = builtin("llama2_7b").expect("built in");
    let concat = FusionLayout::RankConcat;
    let files = headers(&seven, 16, false);
    group.bench_function("llama2-7b 16 -> 8", |b| b.iter(|| black_box(plan(&seven, &files, 8, concat))));

    // Eight kv heads cannot be cut for sixteen ranks: the dimensions of llama2-70b with twice as many.
    let seventy =
        sized(Dense { hidden: 8192, layers: 80, heads: 64, kv_heads: 16, head_dim: 128, ffn: 28672, ..Dense::LLAMA });
    let files = headers(&seventy, 16, false);
    group.bench_function("70B 16 -> 8", |b| b.iter(|| black_box(plan(&seventy, &files, 8, concat))));
    let files = headers(&seventy, 8, true);
    for fusion in [concat, FusionLayout::Grouped] {
        let name = format!("70B 8 -> 16, fused, {fusion}");
        group.bench_function(name, |b| b.iter(|| black_box(plan(&seventy, &files, 16, fusion))));
    }

    // The dimensions of llama3.1-405B, with as many heads as there are ranks, so that all ranks hold a part of every tensor.
    let huge = sized(Dense {
        hidden: 16384,
        layers: 126,
        heads: 1024,
        kv_heads: 1024,
        head_dim: 16,
        ffn: 53248,
        vocab: 128_256 + 768,
        ..Dense::LLAMA
    });
    let files = headers(&huge, 1024, false);
    group.bench_function("405B 1,024 -> 512", |b| b.iter(|| black_box(plan(&huge, &files, 512, concat))));
    // The same on 64 hosts: each makes the whole plan, its fingerprint, and everybody's share.
    let before = ckpt_convert::internals::sys::anonymous_memory().unwrap_or(0);
    let plan = plan(&huge, &files, 512, concat);
    let memory = ckpt_convert::internals::sys::anonymous_memory().unwrap_or(0).saturating_sub(before);
    let sources: Vec<&[u8]> = files.iter().map(|_| &[][..]).collect();
    group.bench_function("405B 1,024 -> 512, fingerprint", |b| b.iter(|| black_box(cluster::plan_id(&plan, &sources))));
    group.bench_function("405B 1,024 -> 512, shares of 64 hosts", |b| b.iter(|| black_box(cluster::shares(&plan, 64))));
    for hosts in [64, 60, 1000] {
        let shares = cluster::shares(&plan, hosts);
        say(&format!("405B 1024 -> 512 on {hosts} hosts: largest share over the mean {:.4}", imbalance(&shares)));
    }
    say(&format!("405B 1024 -> 512: the plan takes {} MiB", memory >> 20));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
