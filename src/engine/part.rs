//! A part of a plan: some of its files, or ranges of them, that one process of several writes.

use std::borrow::Cow;

use crate::formats::{FileLayout, Segment};
use crate::plan::{OutputFile, OutputTensor, Plan};
use crate::source::ByteRange;
use crate::sys::FilePart;

/// What one process writes of a plan.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// The plan that it is a part of.
    pub plan: &'a Plan,
    /// Its files, or ranges of files.
    pub files: Vec<PartFile<'a>>,
}

/// A file of a plan, or a range of one.
#[derive(Clone, Debug)]
pub struct PartFile<'a> {
    file: &'a OutputFile,
    /// Of the range, as if it were a file that begins at 0.
    layout: Cow<'a, FileLayout>,
    /// Which range it is; `None`: the whole file.
    place: Option<FilePart>,
}

impl<'a> Part<'a> {
    /// All of a plan.
    pub fn whole(plan: &'a Plan) -> Self {
        let file = |file: &'a OutputFile| PartFile { file, layout: Cow::Borrowed(&file.layout), place: None };
        Self { plan, files: plan.outputs.iter().map(file).collect() }
    }

    /// Ranges of files, by their index in the plan.
    pub fn of(plan: &'a Plan, ranges: impl IntoIterator<Item = (usize, ByteRange)>) -> Self {
        let file = |(file, range): (usize, ByteRange)| PartFile::new(&plan.outputs[file], range);
        Self { plan, files: ranges.into_iter().map(file).collect() }
    }
}

impl<'a> PartFile<'a> {
    /// A range of a file. One that is not all of it begins at a whole block, and the file holds no checksum of its own bytes.
    pub fn new(file: &'a OutputFile, range: ByteRange) -> Self {
        let len = file.layout.len();
        if range.start() == 0 && range.len() == len {
            return Self { file, layout: Cow::Borrowed(&file.layout), place: None };
        }
        let place = FilePart { at: range.start(), of: len };
        Self { file, layout: Cow::Owned(cut(&file.layout, range)), place: Some(place) }
    }

    /// The path of the whole file below the target.
    pub fn path(&self) -> &'a str {
        &self.file.path
    }

    /// All tensors of the file: the segments of the range name some of them.
    pub fn tensors(&self) -> &'a [OutputTensor] {
        &self.file.tensors
    }

    /// The segments of the range.
    pub fn layout(&self) -> &FileLayout {
        &self.layout
    }

    /// Where it begins in the file.
    pub fn at(&self) -> u64 {
        self.place.map_or(0, |place| place.at)
    }

    /// The length of the whole file.
    pub fn of(&self) -> u64 {
        self.place.map_or_else(|| self.layout.len(), |place| place.of)
    }

    /// Which range of the file it is, where it is not all of it.
    pub(super) fn place(&self) -> Option<FilePart> {
        self.place
    }
}

/// The segments of a range, as a file of its own.
fn cut(layout: &FileLayout, range: ByteRange) -> FileLayout {
    let mut segments = Vec::new();
    let mut at = 0;
    for segment in &layout.segments {
        let (from, to) = (range.start().max(at), range.end().min(at + segment.len()));
        if from < to {
            let (skip, len) = (from - at, to - from);
            segments.extend(match segment {
                Segment::Literal(bytes) => {
                    ByteRange::new(skip, len).and_then(|r| r.of(bytes)).map(|bytes| Segment::Literal(bytes.to_vec()))
                }
                Segment::Data { tensor, range } => {
                    ByteRange::new(range.start() + skip, len).map(|range| Segment::Data { tensor: *tensor, range })
                }
                // A file that holds one is never cut.
                Segment::Late(checksum) => Some(Segment::Late(*checksum)),
            });
        }
        at += segment.len();
    }
    FileLayout { segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_holds_its_bytes_of_every_segment() {
        let range = |from, len| ByteRange::new(from, len).unwrap();
        let data = |from, len| Segment::Data { tensor: 0, range: range(from, len) };
        let file = OutputFile {
            path: "rank_0/checkpoint_0.ckpt".to_owned(),
            rank: Some(0),
            format: None,
            layout: FileLayout { segments: vec![Segment::Literal(vec![5, 6, 7]), data(0, 97)] },
            tensors: Vec::new(),
        };
        let part = PartFile::new(&file, range(2, 11));
        assert_eq!(part.layout().segments, [Segment::Literal(vec![7]), data(0, 10)]);
        assert_eq!((part.at(), part.of(), part.place()), (2, 100, Some(FilePart { at: 2, of: 100 })));
        let part = PartFile::new(&file, range(50, 50));
        assert_eq!(part.layout().segments, [data(47, 50)]);
        let part = PartFile::new(&file, range(0, 100));
        assert_eq!((part.layout(), part.at(), part.of(), part.place()), (&file.layout, 0, 100, None));
    }
}
