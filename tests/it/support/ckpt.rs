//! MindSpore's .ckpt by hand, after the schema in its `checkpoint.proto`: values with tag and tensor (dims, type, content).

use super::{Tensor, crc32};

/// Reads a file. Consecutive records with one tag are one parameter.
pub(crate) fn read_ckpt(bytes: &[u8]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for (field, value) in fields(without_trailer(bytes)) {
        let (1, Field::Bytes(value)) = (field, value) else { continue };
        let mut tensor = Tensor { name: String::new(), dtype: String::new(), dims: Vec::new(), bytes: Vec::new() };
        for (field, value) in fields(value) {
            match (field, value) {
                (1, Field::Bytes(tag)) => tensor.name = text(tag),
                (2, Field::Bytes(body)) => tensor_proto(body, &mut tensor),
                _ => {}
            }
        }
        match tensors.last_mut().filter(|last| last.name == tensor.name) {
            Some(last) => last.bytes.extend(tensor.bytes),
            None => tensors.push(tensor),
        }
    }
    tensors
}

/// The file without the trailer; a trailer that is wrong is a failure.
fn without_trailer(bytes: &[u8]) -> &[u8] {
    let Some((body, trailer)) = bytes.len().checked_sub(17).map(|at| bytes.split_at(at)) else { return bytes };
    let Some(number) = trailer.strip_prefix(b"crc_num") else { return bytes };
    let stated = number.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    assert_eq!(stated, u128::from(crc32(body)), "the CRC trailer");
    body
}

fn tensor_proto(body: &[u8], tensor: &mut Tensor) {
    for (field, value) in fields(body) {
        match (field, value) {
            (1, Field::Number(dim)) => tensor.dims.push(dim),
            (1, Field::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    tensor.dims.push(varint(&mut packed));
                }
            }
            (2, Field::Bytes(kind)) => tensor.dtype = text(kind),
            (3, Field::Bytes(content)) => content.clone_into(&mut tensor.bytes),
            _ => {}
        }
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Bytes(take(&mut bytes, 8)),
            2 => {
                let len = usize::try_from(varint(&mut bytes)).expect("a length");
                Field::Bytes(take(&mut bytes, len))
            }
            5 => Field::Bytes(take(&mut bytes, 4)),
            wire => panic!("wire type {wire}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(len).expect("a field within the file");
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Writes a file, one record for each parameter, in canonical protobuf.
pub(crate) fn write_ckpt(tensors: &[Tensor]) -> Vec<u8> {
    tensors.iter().flat_map(|t| record(&t.name, &t.dtype, &t.dims, &t.bytes)).collect()
}

/// One record.
pub(crate) fn record(name: &str, dtype: &str, dims: &[u64], content: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = dims.iter().flat_map(|dim| [vec![0x08], to_varint(*dim)].concat()).collect();
    tensor.extend(delimited(0x12, dtype.as_bytes()));
    tensor.extend(delimited(0x1a, content));
    delimited(0x0a, &[delimited(0x0a, name.as_bytes()), delimited(0x12, &tensor)].concat())
}

fn delimited(key: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![key], to_varint(bytes.len() as u64), bytes.to_vec()].concat()
}

pub(super) fn to_varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
