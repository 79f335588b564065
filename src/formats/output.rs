//! What a writer returns: which bytes of an output file are header and which are tensor data.

use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// A tensor that an output file shall hold.
#[derive(Clone, Debug)]
pub struct TensorToWrite {
    /// The parameter's name.
    pub name: TensorName,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions in this file.
    pub shape: Shape,
    /// The offset modulo [`FileLayout::BLOCK`] that the first data byte should have, so that whole blocks can be
    /// written straight from the mapped source. `None`: any.
    pub phase: Option<u64>,
}

/// A piece of an output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Header, padding or trailer bytes.
    Literal(Vec<u8>),
    /// Bytes `range` of the tensor with this index among the file's tensors.
    Data {
        /// Index of the tensor, in the order given to the writer.
        tensor: usize,
        /// Which of the tensor's bytes.
        range: ByteRange,
    },
    /// A checksum that is known only when the bytes that it covers are written.
    Late(Checksum),
}

/// A checksum that a file holds of other bytes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// Which checksum.
    pub kind: ChecksumKind,
    /// Of which bytes of the file. None of them is itself of a [`Segment::Late`].
    pub of: ByteRange,
    /// How it is stored.
    pub encoding: Encoding,
}

/// A kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// The CRC-32 of zip and zlib.
    Crc32,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// In as many bytes as it has, the lowest first.
    LittleEndian,
    /// In as many bytes as it has, the highest first.
    BigEndian,
}

impl Checksum {
    /// The number of bytes that it takes.
    pub const fn len(&self) -> u64 {
        match self.kind {
            ChecksumKind::Crc32 => 4,
        }
    }

    /// Whether it takes none, which no checksum does.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes to store.
    pub fn encode(&self, sum: u32) -> [u8; 4] {
        match (self.kind, self.encoding) {
            (ChecksumKind::Crc32, Encoding::LittleEndian) => sum.to_le_bytes(),
            (ChecksumKind::Crc32, Encoding::BigEndian) => sum.to_be_bytes(),
        }
    }
}

impl Segment {
    /// The number of bytes it takes in the file.
    pub fn len(&self) -> u64 {
        match self {
            Self::Literal(bytes) => bytes.len() as u64,
            Self::Data { range, .. } => range.len(),
            Self::Late(checksum) => checksum.len(),
        }
    }

    /// Whether it takes no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An output file as a sequence of segments without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FileLayout {
    /// The pieces, in file order.
    pub segments: Vec<Segment>,
}

impl FileLayout {
    /// The unit of direct I/O that phases refer to.
    pub const BLOCK: u64 = 4096;

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each of `count` tensors lies in the file.
    pub fn extents(&self, count: usize) -> Vec<Extents> {
        let mut extents = vec![Extents::default(); count];
        let mut at = 0;
        for segment in &self.segments {
            if let Segment::Data { tensor, range } = segment
                && let Some(range) = ByteRange::new(at, range.len())
            {
                extents[*tensor].push(range);
            }
            at += segment.len();
        }
        extents
    }

    /// The checksums that are known only when what they cover is written, each with its offset.
    pub fn late(&self) -> impl Iterator<Item = (u64, &Checksum)> {
        let mut at = 0;
        self.segments.iter().filter_map(move |segment| {
            let begin = at;
            at += segment.len();
            if let Segment::Late(checksum) = segment { Some((begin, checksum)) } else { None }
        })
    }

    /// Appends header bytes, joining them to a literal that already ends the file.
    pub(crate) fn literal(&mut self, bytes: &[u8]) {
        if let Some(Segment::Literal(last)) = self.segments.last_mut() {
            last.extend_from_slice(bytes);
        } else if !bytes.is_empty() {
            self.segments.push(Segment::Literal(bytes.to_vec()));
        }
    }

    /// Appends a checksum of earlier or later bytes.
    pub(crate) fn checksum(&mut self, checksum: Checksum) {
        self.segments.push(Segment::Late(checksum));
    }

    /// Appends tensor data.
    pub(crate) fn data(&mut self, tensor: usize, range: ByteRange) {
        if !range.is_empty() {
            self.segments.push(Segment::Data { tensor, range });
        }
    }
}
