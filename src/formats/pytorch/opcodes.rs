//! Reads the opcodes of a pickle with their arguments: protocols 0 to 5 as far as checkpoints use them.
//!
//! Arguments are borrowed, and a length is compared with what remains before anything else is done with it.

use crate::formats::{FormatError, FormatFault};

/// An opcode with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op<'a> {
    Stop,
    Mark,
    Pop,
    PopMark,
    Dup,
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian two's complement, longer than eight bytes.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    Bytes,
    EmptyList,
    List,
    Append,
    Appends,
    Tuple,
    /// A tuple of so many values, without a mark.
    TupleOf(usize),
    EmptyDict,
    Dict,
    SetItem,
    SetItems,
    EmptySet,
    AddItems,
    FrozenSet,
    Global(&'a str, &'a str),
    StackGlobal,
    Reduce,
    NewObject,
    Build,
    Persistent,
    Get(u64),
    Put(u64),
    Memoize,
    /// Protocol and frame marks.
    Nothing,
}

/// Walks over the opcodes.
#[derive(Debug)]
pub(super) struct Opcodes<'a> {
    rest: &'a [u8],
    /// Where in the file the rest begins.
    at: u64,
}

impl<'a> Opcodes<'a> {
    /// `bytes` begin at the offset `at` of the file.
    pub(super) fn new(bytes: &'a [u8], at: u64) -> Self {
        Self { rest: bytes, at }
    }

    /// Where in the file the next opcode is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next opcode.
    pub(super) fn next_op(&mut self) -> Result<Op<'a>, FormatError> {
        let at = self.at;
        let [code] = self.array("opcode")?;
        Ok(match code {
            b'.' => Op::Stop,
            b'(' => Op::Mark,
            b'0' => Op::Pop,
            b'1' => Op::PopMark,
            b'2' => Op::Dup,
            b'N' => Op::None,
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b'I' => self.decimal_int()?,
            b'L' => self.decimal_long()?,
            b'F' => self.line().map(|_| Op::Float)?,
            b'J' => Op::Int(i32::from_le_bytes(self.array("integer")?).into()),
            b'K' => Op::Int(self.length::<1>()?.cast_signed()),
            b'M' => Op::Int(self.length::<2>()?.cast_signed()),
            0x8a => self.counted::<1>().map(long)?,
            0x8b => self.counted::<4>().map(long)?,
            b'G' => self.array::<8>("float").map(|_| Op::Float)?,
            b'X' => text(at, self.counted::<4>()?)?,
            0x8c => text(at, self.counted::<1>()?)?,
            0x8d => text(at, self.counted::<8>()?)?,
            // Strings of Python 2: text, as a rule.
            b'U' => self.counted::<1>().map(old_text)?,
            b'T' => self.counted::<4>().map(old_text)?,
            b'C' => self.counted::<1>().map(|_| Op::Bytes)?,
            b'B' => self.counted::<4>().map(|_| Op::Bytes)?,
            0x8e | 0x96 => self.counted::<8>().map(|_| Op::Bytes)?,
            b']' => Op::EmptyList,
            b'l' => Op::List,
            b'a' => Op::Append,
            b'e' => Op::Appends,
            b')' => Op::TupleOf(0),
            0x85 => Op::TupleOf(1),
            0x86 => Op::TupleOf(2),
            0x87 => Op::TupleOf(3),
            b't' => Op::Tuple,
            b'}' => Op::EmptyDict,
            b'd' => Op::Dict,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            0x8f => Op::EmptySet,
            0x90 => Op::AddItems,
            0x91 => Op::FrozenSet,
            b'c' => Op::Global(self.line()?, self.line()?),
            0x93 => Op::StackGlobal,
            b'R' => Op::Reduce,
            0x81 => Op::NewObject,
            b'b' => Op::Build,
            b'Q' => Op::Persistent,
            b'g' => Op::Get(self.decimal()?),
            b'h' => Op::Get(self.length::<1>()?),
            b'j' => Op::Get(self.length::<4>()?),
            b'p' => Op::Put(self.decimal()?),
            b'q' => Op::Put(self.length::<1>()?),
            b'r' => Op::Put(self.length::<4>()?),
            0x94 => Op::Memoize,
            0x80 => self.protocol(at)?,
            0x95 => self.array::<8>("frame").map(|_| Op::Nothing)?,
            _ => return Err(FormatError::new(at, FormatFault::RefusedOpcode { code, name: name(code) })),
        })
    }

    fn take(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], FormatError> {
        let have = self.rest.len() as u64;
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let Some((taken, rest)) = split else {
            return Err(FormatError::new(self.at, FormatFault::Truncated { field, need: len, have }));
        };
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FormatError> {
        let taken = self.take(N as u64, field)?;
        // As long as was requested.
        Ok(taken.first_chunk().copied().unwrap_or([0; N]))
    }

    /// An unsigned little-endian number of `N` bytes, at most eight.
    fn length<const N: usize>(&mut self) -> Result<u64, FormatError> {
        let bytes: [u8; N] = self.array("length")?;
        Ok(bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.length::<N>()?;
        self.take(len, "string")
    }

    /// Up to a line feed, which is taken too.
    fn line(&mut self) -> Result<&'a str, FormatError> {
        let at = self.at;
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            let have = self.rest.len() as u64;
            return Err(FormatError::new(at, FormatFault::Truncated { field: "line", need: have + 1, have }));
        };
        let line = self.take(end as u64, "line")?;
        self.take(1, "line")?;
        std::str::from_utf8(line).map_err(|_| malformed(at, "pickle: a line that is not UTF-8"))
    }

    fn decimal(&mut self) -> Result<u64, FormatError> {
        let at = self.at;
        self.line()?.parse().map_err(|_| malformed(at, "pickle: a number of the memo"))
    }

    /// Protocol 0 writes booleans as the integers `00` and `01`.
    fn decimal_int(&mut self) -> Result<Op<'a>, FormatError> {
        let at = self.at;
        match self.line()? {
            "00" => Ok(Op::Bool(false)),
            "01" => Ok(Op::Bool(true)),
            digits => digits.parse().map(Op::Int).map_err(|_| malformed(at, "pickle: a decimal integer")),
        }
    }

    fn decimal_long(&mut self) -> Result<Op<'a>, FormatError> {
        let at = self.at;
        let digits = self.line()?;
        let digits = digits.strip_suffix('L').unwrap_or(digits);
        digits.parse().map(Op::Int).map_err(|_| malformed(at, "pickle: a decimal integer"))
    }

    fn protocol(&mut self, at: u64) -> Result<Op<'a>, FormatError> {
        match self.array("protocol")? {
            [0..=5] => Ok(Op::Nothing),
            _ => Err(malformed(at, "pickle: a protocol above 5")),
        }
    }
}

fn malformed(at: u64, what: &'static str) -> FormatError {
    FormatError::new(at, FormatFault::Malformed(what))
}

fn text(at: u64, bytes: &[u8]) -> Result<Op<'_>, FormatError> {
    std::str::from_utf8(bytes).map(Op::Text).map_err(|_| malformed(at, "pickle: a text that is not UTF-8"))
}

fn old_text(bytes: &[u8]) -> Op<'_> {
    std::str::from_utf8(bytes).map_or(Op::Bytes, Op::Text)
}

/// A little-endian two's complement number of any length; no byte is zero.
fn long(bytes: &[u8]) -> Op<'_> {
    let Some(last) = bytes.last() else { return Op::Int(0) };
    if bytes.len() > 8 {
        return Op::Long(bytes);
    }
    let fill = if last & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 8];
    for (to, &from) in wide.iter_mut().zip(bytes) {
        *to = from;
    }
    Op::Int(i64::from_le_bytes(wide))
}

/// The names of opcodes that are not taken.
fn name(code: u8) -> &'static str {
    match code {
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'P' => "PERSID",
        b'i' => "INST",
        b'o' => "OBJ",
        0x82..=0x84 => "EXT",
        0x92 => "NEWOBJ_EX",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "unknown",
    }
}
