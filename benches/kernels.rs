//! What a run does to bytes, on one thread: conversion, gathering and checksums, each beside a plain copy.
//!
//! The source is larger than the last cache and read once, chunk by chunk, as a run reads it; the target is one buffer of a
//! chunk, as a run's is.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ckpt_convert::internals::engine::kernels::{Crc64, OutputReader, convert, quantise_row};
use ckpt_convert::internals::formats::mindspore::crc32;
use ckpt_convert::internals::formats::{CKPT, FileLayout, Segment};
use ckpt_convert::internals::layout::{Dim, Move};
use ckpt_convert::internals::plan::{
    OpsId, OutputFile, OutputTensor, Plan, PlanSource, Route, SourceId, SourceTensor, StoredId, prove,
};
use ckpt_convert::internals::source::{ByteRange, Extents};
use ckpt_convert::internals::sys::Mapping;
use ckpt_convert::internals::tensor::{Dtype, Shape};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

/// What a run puts together at once.
const CHUNK: usize = 1 << 20;
/// `feed_forward.w2` of llama2-7b in fp16: rows and bytes of a row, 90 MB. It is cut along its columns.
const ROWS: u64 = 4096;
const ROW: u64 = 11_008 * 2;

/// Weights as they are in models, near zero.
fn weights(dtype: Dtype, bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A random sign and fraction, and an exponent from 2^-4 down to 2^-19, where halves are subnormal.
        let [high @ .., _, _, _, below] = state.to_be_bytes();
        let exponent = 0x3d80_0000 - (u32::from(below >> 4) << 23);
        let bits = u32::from_be_bytes(high) & 0x807f_ffff | exponent;
        f32::from_bits(bits).to_le_bytes()
    };
    let singles: Vec<u8> = (0..bytes / dtype.size_in_memory()).flat_map(next).collect();
    let mut out = vec![0; bytes];
    assert_eq!(convert(Dtype::F32, dtype, &singles, &mut out), 0, "no weight overflows");
    out
}

fn group<'a>(c: &'a mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1200));
    group.throughput(Throughput::Bytes(bytes as u64));
    group
}

/// The floor: the same bytes read, and written to one buffer.
fn memcpy(group: &mut BenchmarkGroup<'_, WallTime>, src: &[u8]) {
    let mut dst = vec![0; CHUNK];
    group.bench_function("memcpy", |b| {
        b.iter(|| {
            for chunk in src.chunks(CHUNK) {
                dst[..chunk.len()].copy_from_slice(black_box(chunk));
                black_box(&mut dst);
            }
        });
    });
}

/// Throughput: bytes read.
fn casts(c: &mut Criterion) {
    let bytes = 96 * CHUNK;
    let mut group = group(c, "cast", bytes);
    for (from, to) in [
        (Dtype::BF16, Dtype::F16),
        (Dtype::F32, Dtype::F16),
        (Dtype::F32, Dtype::BF16),
        (Dtype::F16, Dtype::BF16),
        (Dtype::BF16, Dtype::F32),
        (Dtype::F16, Dtype::F32),
    ] {
        let src = weights(from, bytes);
        let mut dst = vec![0; 2 * CHUNK];
        group.bench_function(format!("{from} to {to}"), |b| {
            b.iter(|| {
                for chunk in src.chunks(CHUNK) {
                    let len = chunk.len() / from.size_in_memory() * to.size_in_memory();
                    black_box(convert(from, to, black_box(chunk), &mut dst[..len]));
                }
            });
        });
    }
    memcpy(&mut group, &weights(Dtype::F16, bytes));
}

/// A plan between one tensor in `sources` column parts and the same in `targets`; one of the two numbers is 1.
fn plan(sources: u64, targets: u64) -> Plan {
    let width = ROW / sources.max(targets);
    let part = |parts: u64| ROWS * ROW / parts;
    let range = |bytes| ByteRange::new(0, bytes).expect("a small tensor");
    let source = |rank: u64| PlanSource {
        path: format!("rank_{rank}").into(),
        len: part(sources),
        rank: u32::try_from(rank).expect("few ranks"),
    };
    let tensor = |file: u64| SourceTensor {
        file: SourceId::new(usize::try_from(file).expect("few files")),
        name: "w2".into(),
        dtype: Dtype::F16,
        extents: Extents::contiguous(range(part(sources))),
    };
    let output = |rank: u64| {
        let route = |source: u64| Route {
            source: StoredId::new(usize::try_from(source).expect("few files")),
            ops: OpsId::COPY,
            moves: Move {
                src: rank * width,
                dst: source * width,
                run: width,
                dims: [Dim { count: ROWS, src_stride: ROW / sources, dst_stride: ROW / targets }].into(),
            },
        };
        OutputFile {
            path: format!("rank_{rank}"),
            rank: u32::try_from(rank).ok(),
            format: Some(CKPT),
            layout: FileLayout { segments: vec![Segment::Data { tensor: 0, range: range(part(targets)) }] },
            tensors: vec![OutputTensor {
                name: "w2".into(),
                dtype: Dtype::F16,
                shape: Shape::new([ROWS, ROW / 2 / targets]).expect("a small shape"),
                first_holder: true,
                routes: (0..sources).map(route).collect(),
            }],
        }
    };
    let plan = Plan {
        sources: (0..sources).map(source).collect(),
        tensors: (0..sources).map(tensor).collect(),
        outputs: (0..targets).map(output).collect(),
        ..Plan::default()
    };
    prove(&plan).expect("every byte is written once");
    plan
}

/// Throughput: bytes written, which are those read.
fn gathers(c: &mut Criterion) {
    let bytes = usize::try_from(ROWS * ROW).expect("a small tensor");
    let whole = weights(Dtype::F16, bytes);
    let mut group = group(c, "gather", bytes);
    for ranks in [2, 4, 8] {
        for (name, sources, targets) in [("1 to", 1, ranks), ("merge to 1 of", ranks, 1)] {
            let plan = plan(sources, targets);
            let parts = whole.chunks(bytes / usize::try_from(sources).expect("few ranks"));
            let mappings = parts.map(|part| Arc::new(Mapping::in_memory(part).expect("memory"))).collect();
            let reader = OutputReader::new(plan, mappings);
            let mut buf = vec![0; CHUNK];
            group.bench_function(format!("{name} {ranks}, runs of {} bytes", ROW / ranks), |b| {
                b.iter(|| {
                    // Chunk after chunk of all ranks, so that the source is read once.
                    let len = reader.plan().outputs[0].layout.len();
                    for at in (0..len).step_by(CHUNK) {
                        let part = CHUNK.min(usize::try_from(len - at).expect("a small tensor"));
                        for file in 0..reader.plan().outputs.len() {
                            reader.read(file, at, &mut buf[..part]);
                            black_box(&mut buf);
                        }
                    }
                });
            });
        }
    }
    memcpy(&mut group, &whole);
}

/// Throughput: bytes read.
fn checksums(c: &mut Criterion) {
    let bytes = 96 * CHUNK;
    let src = weights(Dtype::F16, bytes);
    let mut group = group(c, "checksum", bytes);
    group.bench_function("CRC-64/NVME", |b| {
        b.iter(|| src.chunks(CHUNK).map(|chunk| Crc64::of(black_box(chunk)).0).fold(0, |a, b| a ^ b));
    });
    group.bench_function("CRC-32", |b| {
        b.iter(|| src.chunks(CHUNK).map(|chunk| crc32(black_box(chunk))).fold(0, |a, b| a ^ b));
    });
    memcpy(&mut group, &src);
}

/// Rows of `feed_forward.w2` to int8, each with its scale. Throughput: bytes read.
fn quantising(c: &mut Criterion) {
    let bytes = usize::try_from(ROWS * ROW).expect("a small tensor");
    let row = usize::try_from(ROW).expect("a small row");
    let src = weights(Dtype::F16, bytes);
    let mut group = group(c, "quantise", bytes);
    let mut out = vec![0; row / 2];
    group.bench_function("w8a16", |b| {
        b.iter(|| {
            for row in src.chunks(row) {
                black_box(quantise_row(black_box(row), &mut out));
                black_box(&mut out);
            }
        });
    });
    memcpy(&mut group, &src);
}

criterion_group!(all, casts, gathers, checksums, quantising);
criterion_main!(all);
