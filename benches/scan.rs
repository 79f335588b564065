//! Reading headers: a hundred thousand tensors, of which everything but the data is looked at.

use std::hint::black_box;
use std::time::Duration;

use ckpt_convert::internals::formats::mindspore::{self, CkptOptions};
use ckpt_convert::internals::formats::{FileLayout, Segment, TensorToWrite, safetensors};
use ckpt_convert::internals::tensor::{Dtype, Shape};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TENSORS: usize = 100_000;

/// The parameters of a model with absurdly many layers, small enough that the file fits in memory.
fn tensors() -> Vec<TensorToWrite> {
    let parts = ["attention.wq", "attention.wk", "attention.wv", "attention.wo", "feed_forward.w1"];
    let tensor = |index: usize| TensorToWrite {
        name: format!("model.layers.{}.{}.weight", index / parts.len(), parts[index % parts.len()]).as_str().into(),
        dtype: Dtype::F16,
        shape: Shape::new([16u64, 64]).expect("a small shape"),
        phase: None,
    };
    (0..TENSORS).map(tensor).collect()
}

/// The file, its data zero; returns its bytes that are not data too.
fn file(layout: &FileLayout) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut header = 0;
    for segment in &layout.segments {
        match segment {
            Segment::Literal(literal) => {
                bytes.extend_from_slice(literal);
                header += segment.len();
            }
            Segment::Data { .. } | Segment::Late(_) => {
                bytes.resize(bytes.len() + usize::try_from(segment.len()).expect("a small tensor"), 0);
            }
        }
    }
    (bytes, header)
}

/// Reads, and the floor: copying as many bytes as are no data.
fn bench(c: &mut Criterion, name: &str, layout: &FileLayout, read: impl Fn(&[u8]) -> usize) {
    let (bytes, header) = file(layout);
    assert_eq!(read(&bytes), TENSORS);
    let mut group = c.benchmark_group(format!("scan {name}, 100,000 tensors"));
    group.sample_size(20).measurement_time(Duration::from_secs(4)).throughput(Throughput::Bytes(header));
    group.bench_function("read", |b| b.iter(|| black_box(read(black_box(&bytes)))));
    let header = usize::try_from(header).expect("a header in memory");
    let mut copy = vec![0; header];
    group.bench_function("memcpy of the header bytes", |b| {
        b.iter(|| {
            copy.copy_from_slice(black_box(&bytes[..header]));
            black_box(&mut copy);
        });
    });
    group.finish();
}

fn benches(c: &mut Criterion) {
    let tensors = tensors();
    let layout = mindspore::layout(&tensors, CkptOptions::default()).expect("what a .ckpt can hold");
    bench(c, "ckpt", &layout, |bytes| mindspore::scan(bytes).expect("our own file").entries.len());
    let layout = safetensors::layout(&tensors, &[]).expect("what safetensors can hold");
    bench(c, "safetensors", &layout, |bytes| safetensors::read(bytes).expect("our own file").entries.len());
}

criterion_group!(all, benches);
criterion_main!(all);
