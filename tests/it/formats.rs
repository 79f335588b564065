//! The format layer against files that MindSpore 2.10.0 wrote: see `tests/data/formats/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ckpt_convert::internals::formats::mindspore::{crc32, read_strategy, scan};
use ckpt_convert::internals::formats::{CKPT, Entry, FormatFault, SAFETENSORS, StatedCrc, detect, safetensors};
use ckpt_convert::internals::tensor::Dtype;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What `formats-index.json` says of a parameter.
#[derive(Deserialize)]
struct Expected(String, Vec<u64>, String);

type Index = BTreeMap<String, BTreeMap<String, Expected>>;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn index() -> Index {
    serde_json::from_slice(&golden("formats-index.json")).expect("the index parses")
}

fn dtype(name: &str) -> Dtype {
    match name {
        "Bool" => Dtype::Bool,
        "Int8" => Dtype::I8,
        "UInt8" => Dtype::U8,
        "Int16" => Dtype::I16,
        "UInt16" => Dtype::U16,
        "Int32" => Dtype::I32,
        "UInt32" => Dtype::U32,
        "Int64" => Dtype::I64,
        "UInt64" => Dtype::U64,
        "Float16" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Float32" => Dtype::F32,
        "Float64" => Dtype::F64,
        "Int4" => Dtype::Int4,
        "str" => Dtype::Str,
        other => panic!("{other}"),
    }
}

/// The first 16 hex digits of the SHA-256 of an entry's bytes.
fn digest(entry: &Entry, file: &[u8]) -> String {
    let mut hash = Sha256::new();
    for (_, range) in entry.extents.parts() {
        hash.update(range.of(file).expect("the extents lie in the file"));
    }
    let digest = hash.finalize();
    let first = digest.first_chunk::<8>().expect("SHA-256 has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

fn check(file: &str, bytes: &[u8], entries: &[Entry], expected: &BTreeMap<String, Expected>) {
    assert_eq!(entries.len(), expected.len(), "{file}");
    for entry in entries {
        let Expected(kind, dims, sha) = &expected[entry.name.as_str()];
        assert_eq!(entry.dtype, dtype(kind), "{file}: {}", entry.name);
        if entry.dtype == Dtype::Str {
            // dims [0] means the code points.
            assert_eq!((dims.as_slice(), entry.shape.ndim()), (&[0][..], 1));
        } else {
            assert_eq!(entry.shape.dims(), dims, "{file}: {}", entry.name);
        }
        assert_eq!(&digest(entry, bytes), sha, "{file}: {}", entry.name);
    }
}

#[test]
fn every_parameter_of_mindspores_checkpoints_is_found() {
    let index = index();
    assert_eq!(index.len(), 7);
    for (name, expected) in &index {
        let bytes = golden(name);
        assert_eq!(detect(&bytes), Some(CKPT), "{name}");
        let found = scan(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(name, &bytes, &found.entries, expected);
        assert_eq!(found.crc.is_some(), name.contains("crc"), "{name}");
    }
}

#[test]
fn safetensors_hold_what_the_checkpoint_holds() {
    let index = index();
    for name in ["mini_plain.safetensors", "mini_crc.safetensors"] {
        let bytes = golden(name);
        assert_eq!(detect(&bytes), Some(SAFETENSORS));
        let found = safetensors::read(&bytes).unwrap();
        assert_eq!(found.metadata["format"], "ms");
        check(name, &bytes, &found.entries, &index["mini_plain.ckpt"]);
    }
    // The index was made before the bf16 pair: here the two formats vouch for each other.
    let (ckpt, st) = (golden("mini_bf16.ckpt"), golden("mini_bf16.safetensors"));
    let left: BTreeMap<_, _> = scan(&ckpt).unwrap().entries.into_iter().map(|e| (e.name.clone(), e)).collect();
    let right = safetensors::read(&st).unwrap().entries;
    assert_eq!((left.len(), right.len()), (6, 6));
    for entry in right {
        let other = &left[&entry.name];
        assert_eq!((entry.dtype, &entry.shape), (Dtype::BF16, &other.shape));
        assert_eq!(digest(&entry, &st), digest(other, &ckpt));
    }
}

#[test]
fn mindspores_checksum_is_verified() {
    let mut bytes = golden("mini_multichunk_bytes3k_crc.ckpt");
    let stated = StatedCrc::Trailer(scan(&bytes).unwrap().crc.unwrap());
    let covered = stated.summed(bytes.len() as u64, &[]).unwrap().place.len();
    let verify = |bytes: &[u8]| stated.compare(crc32(&bytes[..usize::try_from(covered).unwrap()]));
    verify(&bytes).unwrap();
    let last = bytes.len() - 18;
    bytes[last] ^= 0x80;
    assert!(matches!(verify(&bytes).unwrap_err().what, FormatFault::CrcMismatch { .. }));
}

#[test]
fn encrypted_checkpoints_are_named() {
    for (name, cipher) in [
        ("mini_aes_gcm_key16.ckpt", "AES-GCM"),
        ("mini_aes_cbc_key16.ckpt", "AES-CBC"),
        ("mini_sm4_cbc_key16.ckpt", "SM4-CBC"),
    ] {
        let bytes = golden(name);
        assert_eq!(detect(&bytes), Some(CKPT));
        assert_eq!(scan(&bytes).unwrap_err().what, FormatFault::Encrypted(cipher));
    }
}

#[test]
fn strategies_of_mindspores_frontend_are_read() {
    for (name, stages, params, devices) in [
        ("mp4.ckpt", 1, 21, 4),
        ("mp4.json", 1, 21, 4),
        ("dp2mp2_opt_train.ckpt", 1, 63, 4),
        ("dp4mp2_opt2_train.ckpt", 1, 63, 8),
        ("nested_layout8.ckpt", 1, 2, 8),
        ("nested_layout8.json", 1, 2, 8),
        ("pp2dp2mp2_opt_merged.ckpt", 2, 84, 4),
    ] {
        let file = read_strategy(&golden(&format!("strategies/{name}"))).unwrap();
        assert_eq!((file.stages.len(), file.merged), (stages, stages > 1), "{name}");
        let all = || file.stages.values().flat_map(BTreeMap::values);
        assert_eq!(all().count(), params, "{name}");
        assert!(all().all(|p| p.layout.device_matrix.iter().product::<u64>() == devices), "{name}");
    }
}
