//! PyTorch checkpoints that PyTorch wrote: see `tests/data/torch/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ckpt_convert::internals::formats::{FileLayout, PYTORCH, Segment, TensorToWrite, detect, mindspore, pytorch};
use ckpt_convert::internals::layout::{Move, Piece, Region};
use ckpt_convert::internals::tensor::{Dtype, Shape};
use pytorch::{PytorchFile, TensorView};
use sha2::{Digest, Sha256};

/// What `expected.json` says of a tensor: dtype, shape, SHA-256.
type Expected = BTreeMap<String, BTreeMap<String, (String, Vec<u64>, String)>>;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read(name: &str) -> PytorchFile {
    pytorch::read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "Bool",
        Dtype::I8 => "Int8",
        Dtype::U8 => "UInt8",
        Dtype::I16 => "Int16",
        Dtype::U16 => "UInt16",
        Dtype::I32 => "Int32",
        Dtype::U32 => "UInt32",
        Dtype::I64 => "Int64",
        Dtype::U64 => "UInt64",
        Dtype::F16 => "Float16",
        Dtype::BF16 => "BFloat16",
        Dtype::F32 => "Float32",
        Dtype::F64 => "Float64",
        other => panic!("{other}"),
    }
}

/// The bytes of a view in row-major order, moved as a plan would move them.
fn gathered(view: &TensorView, file: &[u8]) -> Vec<u8> {
    let bytes = view.span.of(file).expect("inside the file");
    let Some(strides) = &view.strides else { return bytes.to_vec() };
    let whole = || Region::whole(view.shape.dims());
    let dense = Piece::dense(whole());
    let copy = Piece::new(whole(), 0, strides.iter().copied()).to(&dense).expect("the same region");
    let copy = copy.scaled(view.dtype.size());
    let size = |n: u64| usize::try_from(n).expect("small");
    let mut target = vec![0xee; size(view.shape.bytes(view.dtype))];
    run(&copy, 0, size(copy.src), size(copy.dst), bytes, &mut target);
    target
}

fn run(copy: &Move, level: usize, src: usize, dst: usize, from: &[u8], to: &mut [u8]) {
    let size = |n: u64| usize::try_from(n).expect("small");
    let Some(dim) = copy.dims.get(level) else {
        to[dst..dst + size(copy.run)].copy_from_slice(&from[src..src + size(copy.run)]);
        return;
    };
    for i in 0..dim.count {
        run(copy, level + 1, src + size(i * dim.src_stride), dst + size(i * dim.dst_stride), from, to);
    }
}

#[test]
fn every_tensor_is_found_as_pytorch_loads_it() {
    let expected: Expected = serde_json::from_slice(&file("expected.json")).expect("the list parses");
    assert_eq!(expected.len(), 13);
    for (name, expected) in &expected {
        let bytes = file(name);
        assert_eq!(detect(&bytes), Some(PYTORCH), "{name}");
        let found = read(name);
        let names: Vec<_> = found.tensors.iter().map(|t| t.name.to_string()).collect();
        assert_eq!(names.len(), expected.len(), "{name}: {names:?}");
        for view in &found.tensors {
            let (dtype, shape, sha) = &expected[view.name.as_str()];
            let what = format!("{name}: {}", view.name);
            assert_eq!((dtype_name(view.dtype), view.shape.dims()), (dtype.as_str(), &shape[..]), "{what}");
            let digest = Sha256::digest(gathered(view, &bytes));
            let hex: String = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            assert_eq!(&hex, sha, "{what}");
        }
    }
}

#[test]
fn strides_are_told_only_where_elements_are_strided() {
    for name in ["views.bin", "views_legacy.bin"] {
        let views: BTreeMap<_, _> = read(name).tensors.into_iter().map(|t| (t.name.to_string(), t)).collect();
        let strides = |name: &str| views[name].strides.as_deref();
        assert_eq!(strides("transposed"), Some(&[1, 6][..]));
        assert_eq!(strides("permuted"), Some(&[1, 12, 4][..]));
        assert_eq!(strides("step"), Some(&[2][..]));
        assert_eq!(strides("expanded"), Some(&[0, 0][..]));
        assert_eq!(views["expanded"].span.len(), 4, "one element");
        assert_eq!(strides("columns"), Some(&[8, 1][..]));
        for plain in ["offset", "one_row_of_odd_stride", "scalar", "empty", "parameter"] {
            assert_eq!(views[plain].entry().expect("contiguous").extents.len(), views[plain].span.len());
        }
        assert!(views["step"].entry().is_none());
        assert_eq!(views["offset"].storage, views["step"].storage, "one storage, shared");
        assert_eq!(views["offset"].span.start() - views["offset"].storage.start(), 128);
    }
}

#[test]
fn what_is_no_tensor_of_the_state_dict_is_listed() {
    let found = read("training.pt");
    assert_eq!(found.wrappers, ["model", "module"]);
    let listed = |others: &[pytorch::Other]| {
        others.iter().map(|o| format!("{} {} {}", o.name, o.kind, o.tensors)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&found.others), ["layer._extra_state None 0", "steps int 0"]);
    assert_eq!(
        listed(&found.beside),
        ["optimizer dict 6", "epoch int 0", "args argparse.Namespace 0", "loss numpy scalar 0"]
    );
    // One dict under two keys is one state dict.
    assert_eq!(read("state_dict.pt").wrappers, ["state_dict"]);
    assert!(read("linear.bin").wrappers.is_empty());
}

#[test]
fn tied_tensors_lie_in_the_same_bytes() {
    let found = read("tied.bin");
    let [embed, head] = found.tensors.as_slice() else { panic!("two tensors") };
    assert_eq!((embed.span, embed.span), (head.span, head.storage));
}

#[test]
fn each_hostile_file_is_refused_for_its_reason() {
    let reasons = [
        ("os_system.bin", "the pickle asks for `posix.system`"),
        ("os_system_protocol4.bin", "the pickle asks for `posix.system`"),
        ("os_system_legacy.bin", "the pickle asks for `posix.system`"),
        ("os_system.pkl", "the pickle asks for `posix.system`"),
        ("plain.pkl", "this is a pickle, but not one that torch.save wrote"),
        ("deflated.bin", "the zip entry `linear/data.pkl` is compressed"),
        ("storage_missing.bin", "the storage `0` of `weight` is not in the file"),
        ("storage_short.bin", "the storage `0` has 44 bytes, which does not fit its 12 elements"),
        ("big_endian.bin", "big-endian"),
        ("no_pickle.bin", "it has no `data.pkl`"),
        ("twice.bin", "`linear/data/0` is in the file twice"),
        ("script.pt", "TorchScript"),
        ("sparse.bin", "`a` is a sparse tensor"),
        ("quantised.bin", "`a` is a quantised tensor"),
        ("meta.bin", "`a` is a meta tensor"),
        ("complex.bin", "`a` has the unsupported dtype `torch.complex64`"),
        ("conjugate.bin", "`a` is a tensor with a pending negation or conjugation"),
        ("float8.bin", "`a` has the unsupported dtype `torch.float8_e4m3fn`"),
        ("two_dicts.bin", "several dicts of tensors (`state_dict`, `model`)"),
        ("inner_and_outer.bin", "several dicts of tensors (the checkpoint itself, `model`)"),
        ("list.bin", "no dict of tensors where one is looked for: it is a list"),
        ("no_tensors.bin", "it has `epoch` (int)"),
        ("number_for_a_name.bin", "a tensor whose key is no text"),
        ("shape_outside.bin", "`a` reaches 412 bytes into its storage, which has 24"),
        ("offset_outside.bin", "`a` reaches 60 bytes into its storage, which has 24"),
        ("stride_outside.bin", "`a` reaches 412 bytes into its storage, which has 24"),
    ];
    let mut files: Vec<_> =
        std::fs::read_dir(folder().join("hostile")).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files.len(), reasons.len(), "{files:?}");
    for (name, reason) in reasons {
        let bytes = file(&format!("hostile/{name}"));
        assert_eq!(detect(&bytes), Some(PYTORCH), "{name}: so that the reader can say what it is");
        let said = pytorch::read(&bytes).expect_err(name).to_string();
        assert!(said.contains(reason), "{name}: {said}");
    }
}

const WRITTEN: [(&str, Dtype, &[u64]); 7] = [
    ("half", Dtype::F16, &[2, 3]),
    ("brain", Dtype::BF16, &[3]),
    ("single", Dtype::F32, &[70, 5]),
    ("unsigned", Dtype::U32, &[4, 1]),
    ("flags", Dtype::Bool, &[5]),
    ("scalar", Dtype::I64, &[]),
    ("empty", Dtype::F32, &[0, 7]),
];

/// The file, with tensors whose every byte is 1.
fn rendered(layout: &FileLayout) -> Vec<u8> {
    let mut file = Vec::new();
    for segment in &layout.segments {
        match segment {
            Segment::Literal(bytes) => file.extend(bytes),
            Segment::Data { range, .. } => file.resize(file.len() + usize::try_from(range.len()).expect("small"), 1),
            Segment::Late(checksum) => file.resize(file.len() + usize::try_from(checksum.len()).expect("small"), 0),
        }
    }
    file
}

/// `tools/interop/check_torch.py` shows that PyTorch loads these files. Should the writer change, put what it writes in
/// their place and run that again.
#[test]
fn what_is_written_is_what_pytorch_was_seen_to_load() {
    let tensors: Vec<_> = WRITTEN
        .iter()
        .map(|&(name, dtype, dims)| TensorToWrite {
            name: name.into(),
            dtype,
            shape: Shape::new(dims).unwrap(),
            phase: None,
        })
        .collect();
    let written = pytorch::layout(&tensors).unwrap();
    let mut bytes = rendered(&written);
    check_pinned("written.bin", &bytes);
    for (at, checksum) in written.late() {
        let covered = checksum.of.of(&bytes).unwrap();
        assert!(covered.iter().all(|byte| *byte == 1), "a tensor's bytes");
        let crc = mindspore::crc32(covered).to_le_bytes();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + 4].copy_from_slice(&crc);
    }
    check_pinned("written_crc.bin", &bytes);
    assert_eq!(pytorch::read(&bytes).unwrap().tensors.len(), tensors.len());
}

fn check_pinned(name: &str, bytes: &[u8]) {
    let pinned = std::fs::read(folder().join(name)).unwrap_or_default();
    if pinned != bytes {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, bytes).expect("written");
        panic!("the writer has changed: check {} with tools/interop/check_torch.py and pin it", path.display());
    }
}
