//! What a run does to bytes, without threads and files: conversion, filling and checksums of slices in memory.
//!
//! For programs that need what a plan writes elsewhere than in files, and for measuring.
//!
//! ```
//! use ckpt_convert::internals::engine::kernels;
//! use ckpt_convert::internals::tensor::Dtype;
//!
//! let ones = [0x80, 0x3f, 0x80, 0xbf]; // 1.0 and -1.0 as bf16
//! let mut halves = [0; 4];
//! assert_eq!(kernels::convert(Dtype::BF16, Dtype::F16, &ones, &mut halves), 0);
//! assert_eq!(halves, [0x00, 0x3c, 0x00, 0xbc]);
//! assert_eq!(kernels::Crc64::of(b"123456789").to_string(), "ae8b14860a799888");
//! ```

pub use super::digest::Crc64;
pub use super::sinks::reader::OutputReader;
use crate::tensor::{BlockType, Dtype};

/// Converts elements of `from` to as many of `to`, each to the nearest value, ties to even. Neither slice need be aligned.
/// Infinities and NaN stay what they are. Returns how many finite values became infinite.
///
/// # Panics
/// Where `from` is no floating-point type or `to` is none of at most four bytes, and where the slices do not hold the same
/// number of whole elements.
pub fn convert(from: Dtype, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    let one_by_one = [from, to].iter().all(|dtype| dtype.is_float() && dtype.block().0 == 1);
    assert!(one_by_one && to != Dtype::F64, "{from} is not converted to {to}");
    let (width, width_out) = (from.size_in_memory(), to.size_in_memory());
    assert!(src.len().is_multiple_of(width) && dst.len().is_multiple_of(width_out), "the slices hold whole elements");
    assert_eq!(src.len() / width, dst.len() / width_out, "the slices hold as many elements");
    super::cast::convert(from, to, src, dst)
}

/// Decodes whole blocks of a type of ggml's to as many singles as they hold.
///
/// # Panics
/// Where the slices do not hold as many whole blocks.
pub fn dequantise(from: BlockType, blocks: &[u8], out: &mut [f32]) {
    let count = blocks.len() as u64 / from.bytes();
    assert!(count * from.bytes() == blocks.len() as u64, "the bytes are whole blocks");
    assert!(count * from.elements() == out.len() as u64, "the slices hold as many elements");
    super::ops::dequantise(from, blocks, out);
}

/// Quantises a whole row of fp16 elements to as many int8, as golden-stick 0.6.0 does for w8a16: symmetric, in fp16 arithmetic,
/// half to even. Returns the scale, an fp16 number; infinite where fp16 cannot hold it.
///
/// ```
/// use ckpt_convert::internals::engine::kernels;
///
/// let row = [0x00, 0x3c, 0x00, 0xc0]; // 1.0 and -2.0
/// let mut out = [0; 2];
/// assert_eq!(kernels::quantise_row(&row, &mut out), 0.015_686_035); // 4 / 255
/// assert_eq!(out.map(|q| q as i8), [64, -128]); // of 63.75 and -127.5
/// ```
///
/// # Panics
/// Where the slices do not hold the same number of elements.
pub fn quantise_row(row: &[u8], out: &mut [u8]) -> f32 {
    assert!(row.len() == out.len() * 2, "the slices hold as many elements");
    super::quantise::symmetric_row(row, out)
}
