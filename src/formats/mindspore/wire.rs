//! Protobuf's wire format, walked in place: fields with their absolute offsets, nothing decoded or copied.
//!
//! Field *keys* must be minimal varints. Lengths and numbers may be over-long (up to 10 bytes), as protobuf allows; but
//! with an over-long key MindSpore's own (pure-Python) reader takes the field for an unknown one and silently loads
//! zeros, so a file that has one is no honest file.

use std::ops::Range;

use crate::formats::{FormatError, FormatFault, limits};

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Offset of the key in the file.
    pub(super) at: u64,
    /// The field's number, 1 to 2^29 - 1.
    pub(super) number: u32,
    /// What follows the key.
    pub(super) payload: Payload,
}

/// A field's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// A number.
    Varint(u64),
    /// A byte range of the file: text, bytes, a message, packed numbers.
    Bytes(Range<usize>),
    /// A 4- or 8-byte number or a group; no field of the formats is one.
    Skipped,
}

/// Walks the fields of one message.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The file up to the end of the message, so that offsets are the file's.
    bytes: &'a [u8],
    at: usize,
    names: &'static [&'static str],
}

impl<'a> Fields<'a> {
    /// The fields of the message at `range` of `file` (clamped to the file). `names`: what errors call field 1, 2, ...;
    /// index 0 means all others.
    pub(super) fn new(file: &'a [u8], range: &Range<usize>, names: &'static [&'static str]) -> Self {
        Self { bytes: file.get(..range.end).unwrap_or(file), at: range.start, names }
    }

    /// The next field, or `None` at the end of the message.
    pub(super) fn next_field(&mut self) -> Result<Option<Field>, FormatError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let at = self.at as u64;
        let (number, kind) = self.key()?;
        let payload = match kind {
            3 => self.skip_group(number)?,
            4 => return Err(malformed(at, "field: a group ends that did not begin")),
            _ => self.payload(at, number, kind)?,
        };
        Ok(Some(Field { at, number, payload }))
    }

    /// The next plain varint, for packed lists; `None` at the end.
    pub(super) fn next_packed(&mut self, field: &'static str) -> Result<Option<u64>, FormatError> {
        if self.at >= self.bytes.len() { Ok(None) } else { self.varint(field).map(Some) }
    }

    fn remaining(&self) -> u64 {
        (self.bytes.len().saturating_sub(self.at)) as u64
    }

    fn varint(&mut self, field: &'static str) -> Result<u64, FormatError> {
        let start = self.at as u64;
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(FormatError::new(start, FormatFault::Truncated { field, need: 1, have: 0 }));
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has space for one bit.
            if shift == 63 && bits > 1 {
                return Err(malformed(start, "varint: more than 64 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed(start, "varint: more than 10 bytes"))
    }

    /// A field's number and wire type.
    fn key(&mut self) -> Result<(u32, u8), FormatError> {
        let start = self.at;
        let key = self.varint("field key")?;
        if self.at - start > varint_len(key) {
            return Err(malformed(
                start as u64,
                "field key: an over-long varint (MindSpore would silently load zeros for this field)",
            ));
        }
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok((key >> 3, (key & 7) as u8)),
            _ => Err(malformed(start as u64, "field key: no valid field number")),
        }
    }

    fn payload(&mut self, at: u64, number: u32, kind: u8) -> Result<Payload, FormatError> {
        let name = self.name(number);
        let need = match kind {
            0 => return self.varint(name).map(Payload::Varint),
            1 => 8,
            5 => 4,
            2 => self.varint(name)?,
            _ => return Err(malformed(at, "field key: no such wire type")),
        };
        let have = self.remaining();
        let end = usize::try_from(need).ok().filter(|_| need <= have).map(|need| self.at + need);
        let Some(end) = end else {
            return Err(FormatError::new(at, FormatFault::Truncated { field: name, need, have }));
        };
        let range = self.at..end;
        self.at = end;
        Ok(if kind == 2 { Payload::Bytes(range) } else { Payload::Skipped })
    }

    fn skip_group(&mut self, number: u32) -> Result<Payload, FormatError> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let at = self.at as u64;
            match self.key()? {
                (number, 3) if open.len() < limits::MAX_GROUP_DEPTH => open.push(number),
                (_, 3) => {
                    let limit = limits::MAX_GROUP_DEPTH as u64;
                    let what = FormatFault::LimitExceeded { field: "group depth", asked: limit + 1, limit };
                    return Err(FormatError::new(at, what));
                }
                (number, 4) if number == innermost => {
                    open.pop();
                }
                (_, 4) => return Err(malformed(at, "field: the wrong group ends")),
                (number, kind) => {
                    self.payload(at, number, kind)?;
                }
            }
        }
        Ok(Payload::Skipped)
    }

    fn name(&self, number: u32) -> &'static str {
        let known = usize::try_from(number).ok().and_then(|n| self.names.get(n));
        known.or(self.names.first()).copied().unwrap_or("field")
    }
}

/// How many bytes the minimal varint of a number takes, 1 to 10.
pub(super) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends the minimal varint of a number.
pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    put_varint_of(out, value, varint_len(value));
}

/// Appends a varint of exactly `len` bytes, over-long where that is more than the number needs.
pub(super) fn put_varint_of(out: &mut Vec<u8>, mut value: u64, len: usize) {
    for left in (0..len).rev() {
        out.push((value & 0x7f) as u8 | if left > 0 { 0x80 } else { 0 });
        value >>= 7;
    }
}

/// A [`FormatFault::Malformed`] at an offset.
pub(super) fn malformed(at: u64, what: &'static str) -> FormatError {
    FormatError::new(at, FormatFault::Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<Field>, FormatError> {
        let mut fields = Fields::new(bytes, &(0..bytes.len()), &["unknown field", "one"]);
        let mut all = Vec::new();
        while let Some(field) = fields.next_field()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn every_wire_type_is_walked() {
        let bytes = [
            &b"\x08\x96\x01"[..],                    // 1: varint 150 (the example of protobuf's documentation)
            b"\x12\x07testing",                      // 2: bytes (likewise)
            b"\x1d\x01\x02\x03\x04",                 // 3: fixed32
            b"\x21\x01\x02\x03\x04\x05\x06\x07\x08", // 4: fixed64
            b"\x2b\x08\x01\x33\x34\x2c",             // 5: group with a varint and a group 6 in it
            b"\xf8\xff\xff\xff\x0f\x00",             // 536870911: varint
        ]
        .concat();
        let all = fields(&bytes).unwrap();
        assert_eq!(
            all.iter().map(|f| (f.at, f.number)).collect::<Vec<_>>(),
            [(0, 1), (3, 2), (12, 3), (17, 4), (26, 5), (32, 536_870_911)]
        );
        assert_eq!(all[0].payload, Payload::Varint(150));
        assert_eq!(all[1].payload, Payload::Bytes(5..12));
    }

    #[test]
    fn lengths_may_be_over_long_up_to_ten_bytes() {
        let ten = b"\x0a\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00ab";
        assert_eq!(fields(ten).unwrap()[0].payload, Payload::Bytes(11..13));
        assert!(fields(b"\x0a\x82\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00ab").is_err());
        let minus_one = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(fields(minus_one).unwrap()[0].payload, Payload::Varint(u64::MAX));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let deep = b"\x0b".repeat(200);
        let cases: [(&[u8], &str); 11] = [
            (b"\x8a\x00\x00", "over-long key"),
            (b"\x02\x00", "field number 0"),
            (b"\x0e\x00", "wire type 6"),
            (b"\x0f\x00", "wire type 7"),
            (b"\x0c", "group end without a begin"),
            (b"\x0b\x14", "another group's end"),
            (b"\x0b", "group without an end"),
            (b"\x0a\x05abc", "length beyond the end"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "length of 2^64-1"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "65 bits"),
            (&deep, "deep groups"),
        ];
        for (bytes, what) in cases {
            assert!(fields(bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn a_message_ends_where_it_says() {
        let mut inner = Fields::new(b"\xff\x08\x01\x12\x05", &(1..3), &[]);
        assert_eq!(inner.next_field().unwrap().unwrap().payload, Payload::Varint(1));
        assert_eq!(inner.next_field().unwrap(), None);
    }

    #[test]
    fn varint_lengths_are_minimal() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (u64::MAX, 10)] {
            assert_eq!(varint_len(value), len);
        }
        let mut out = Vec::new();
        put_varint(&mut out, 150);
        put_varint_of(&mut out, 1, 5);
        assert_eq!(out, b"\x96\x01\x81\x80\x80\x80\x00");
    }
}
