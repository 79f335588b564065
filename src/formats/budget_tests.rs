//! Small files that list much, and little memory.

use super::*;
use crate::formats::{CKPT, PYTORCH, SAFETENSORS, ScanError, mindspore};
use crate::storage::MemoryBlob;

/// A file, and what reads it.
type Case = (&'static str, Vec<u8>, fn(Vec<u8>, &Budget) -> Result<(), ScanError>);

fn records(names: &[String]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap();
        let [low, high] = [len & 127 | 128, len >> 7];
        [&[tag, u8::try_from(low).unwrap(), u8::try_from(high).unwrap()][..], bytes].concat()
    };
    let tensor = b"\x12\x04Int8\x1a\x01a";
    names.iter().flat_map(|name| field(0x0a, &[field(0x0a, name.as_bytes()), field(0x12, tensor)].concat())).collect()
}

fn header(tensors: &str) -> Vec<u8> {
    [&(tensors.len() as u64).to_le_bytes()[..], tensors.as_bytes()].concat()
}

fn json_strategy(list: &str) -> Vec<u8> {
    format!("{{\"current_stage\":0,\"parallel_layout_item\":{{\"w\":{{\"dev_matrix\":[{list}]}}}}}}").into_bytes()
}

fn cases() -> Vec<Case> {
    let numbers = |count: usize| (0..count).map(|n| n.to_string());
    let tensor = |n: String| format!("\"{n}\":{{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let tensors: Vec<String> = numbers(2000).map(tensor).collect();
    let pairs: Vec<String> = numbers(8000).map(|n| format!("\"{n}\":\"\"")).collect();
    let long: Vec<String> = numbers(100).map(|n| format!("{n:0>10000}")).collect();
    let storages = [b"\x80\x02" as &[u8], &b"N0".repeat(10_000), b"N."].concat();
    let scan = |file: Vec<u8>, budget: &Budget| CKPT.scan(&MemoryBlob::mapped(file), budget).map(drop);
    let read = |file: Vec<u8>, budget: &Budget| SAFETENSORS.scan(&MemoryBlob::mapped(file), budget).map(drop);
    let strategy = |file: Vec<u8>, budget: &Budget| Ok(mindspore::read_strategy_within(&file, budget).map(drop)?);
    vec![
        ("records", records(&numbers(2000).collect::<Vec<_>>()), scan),
        ("long names", records(&long), scan),
        ("parts of one parameter", records(&vec!["w".to_owned(); 10_000]), scan),
        ("tensors", header(&format!("{{{}}}", tensors.join(","))), read),
        ("metadata", header(&format!("{{\"__metadata__\":{{{}}}}}", pairs.join(","))), read),
        ("numbers of a strategy", json_strategy(&vec!["1"; 10_000].join(",")), strategy),
        ("values of a pickle", storages, |file, budget| PYTORCH.scan(&MemoryBlob::mapped(file), budget).map(drop)),
    ]
}

#[test]
fn what_is_listed_is_counted_before_it_is_kept() {
    for (what, file, read) in cases() {
        let budget = Budget::new(512 << 10, 0, true);
        let fault = FormatFault::Memory { allowed: 512 << 10, stated: true };
        let said = |found: Result<(), ScanError>| found.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said(read(file.clone(), &budget)).contains(&fault.to_string()), "{what}");
        assert!(!said(read(file, &Budget::new(16 << 20, 0, true))).contains("memory"), "{what}");
    }
}
