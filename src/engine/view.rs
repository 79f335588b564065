//! What a gather reads from: windows where they were read ahead, the mapping everywhere else.

use std::cell::Cell;
use std::sync::Arc;

use super::windows::Window;
use crate::plan::SourceTensor;
use crate::source::{ByteRange, Extents, index};
use crate::storage::LocalBlob;

/// The sources as one task sees them, and how many bytes it took from where.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    /// Sorted by source and place. They do not overlap.
    windows: &'a [Arc<Window>],
    /// Source bytes read from mappings.
    pub from_mappings: Cell<u64>,
    /// Source bytes read from windows.
    pub from_windows: Cell<u64>,
    /// Target bytes that were converted.
    pub converted: Cell<u64>,
}

impl<'a> View<'a> {
    /// The windows must be sorted by source and place.
    pub(super) fn new(windows: &'a [Arc<Window>]) -> Self {
        Self { windows, ..Self::default() }
    }
}

/// Adds to a count.
pub(super) fn count(counter: &Cell<u64>, bytes: usize) {
    counter.set(counter.get() + bytes as u64);
}

/// A source tensor's bytes.
pub(super) struct Source<'a> {
    file: &'a [u8],
    extents: &'a Extents,
    /// Where the tensor lies in the file, if in one piece.
    whole: Option<ByteRange>,
    /// The windows of this file, in order. None as a rule.
    windows: &'a [Arc<Window>],
    view: &'a View<'a>,
}

impl<'a> Source<'a> {
    pub(super) fn new(tensor: &'a SourceTensor, mappings: &'a [Arc<LocalBlob>], view: &'a View<'a>) -> Self {
        let file: &[u8] = &mappings[tensor.file.index()];
        let whole = tensor.extents.as_contiguous().filter(|range| range.of(file).is_some());
        let all = view.windows;
        let from = all.partition_point(|w| w.source < tensor.file.index());
        let to = from + all[from..].partition_point(|w| w.source == tensor.file.index());
        Self { file, extents: &tensor.extents, whole, windows: &all[from..to], view }
    }

    /// The tensor's bytes `at .. at + len`, where they lie in one piece.
    pub(super) fn piece(&self, at: u64, len: usize) -> Option<&'a [u8]> {
        let at = self.whole?.start() + at;
        let Some(next) = self.next_window(at) else {
            count(&self.view.from_mappings, len);
            return Some(&self.file[index(at)..index(at) + len]);
        };
        let end = at + len as u64;
        if at >= next.at && end <= next.end() {
            count(&self.view.from_windows, len);
            let start = index(at - next.at);
            return Some(&next.bytes()[start..start + len]);
        }
        (end <= next.at).then(|| {
            count(&self.view.from_mappings, len);
            &self.file[index(at)..index(end)]
        })
    }

    /// Copies the tensor's bytes from `at` on.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) {
        if let Some(piece) = self.piece(at, buf.len()) {
            buf.copy_from_slice(piece);
            return;
        }
        let mut done = 0;
        for range in self.extents.locate(at, buf.len() as u64) {
            let len = index(range.len());
            self.copy(range.start(), &mut buf[done..done + len]);
            done += len;
        }
        assert_eq!(done, buf.len(), "a proved plan reads only what is there");
    }

    /// The first window of the file that ends after an offset.
    fn next_window(&self, at: u64) -> Option<&'a Window> {
        if self.windows.is_empty() {
            return None;
        }
        self.windows.get(self.windows.partition_point(|w| w.end() <= at)).map(|w| &**w)
    }

    /// Copies the file's bytes from `at` on, changing over at the borders of windows.
    fn copy(&self, mut at: u64, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            let left = buf.len() as u64;
            let (bytes, start, len, counter): (&[u8], _, _, _) = match self.next_window(at) {
                Some(window) if window.at <= at => {
                    (window.bytes(), at - window.at, left.min(window.end() - at), &self.view.from_windows)
                }
                Some(window) => (self.file, at, left.min(window.at - at), &self.view.from_mappings),
                None => (self.file, at, left, &self.view.from_mappings),
            };
            let (head, tail) = buf.split_at_mut(index(len));
            head.copy_from_slice(&bytes[index(start)..index(start + len)]);
            count(counter, head.len());
            at += len;
            buf = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SourceId;
    use crate::sys::{AlignedBuf, StableInputs};
    use crate::tensor::Dtype;

    fn window(source: usize, at: u64, len: usize) -> Arc<Window> {
        let mut buf = AlignedBuf::new(4096).unwrap();
        for (byte, value) in buf.iter_mut().zip(at..) {
            *byte = u8::try_from(value % 100 + 100).unwrap();
        }
        Arc::new(Window { source, at, len, buf })
    }

    fn tensor(file: usize, parts: &[(u64, u64)]) -> SourceTensor {
        let mut extents = Extents::default();
        for &(from, to) in parts {
            extents.push(ByteRange::new(from, to - from).unwrap());
        }
        SourceTensor { file: SourceId::new(file), name: "weight".into(), dtype: Dtype::F16, extents }
    }

    /// Byte i of a file is i in the mapping and i + 100 in a window, so that it shows where it was taken from.
    #[test]
    fn reads_change_over_at_the_borders_of_windows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, (0..100).collect::<Vec<u8>>()).unwrap();
        let mapping = Arc::new(LocalBlob::open(&path, StableInputs::in_test()).unwrap());
        let mappings = [Arc::clone(&mapping), Arc::clone(&mapping), mapping];
        let windows = [window(0, 0, 100), window(1, 10, 10), window(1, 20, 5), window(1, 40, 60), window(2, 0, 1)];
        let held = |at: u64| (10..25).contains(&at) || (40..100).contains(&at);
        let expected = |at: u64| u8::try_from(if held(at) { at + 100 } else { at }).unwrap();
        let view = View::new(&windows);
        for parts in [vec![(3, 97)], vec![(50, 60), (3, 30), (35, 45), (60, 97)]] {
            let places: Vec<u64> = parts.iter().flat_map(|&(from, to)| from..to).collect();
            let tensor = tensor(1, &parts);
            let source = Source::new(&tensor, &mappings, &view);
            for from in 0..places.len() {
                for to in from..=places.len() {
                    view.from_windows.take();
                    view.from_mappings.take();
                    let wanted: Vec<u8> = places[from..to].iter().map(|at| expected(*at)).collect();
                    let mut buf = vec![0; to - from];
                    source.read(from as u64, &mut buf);
                    assert_eq!(buf, wanted, "{parts:?} {from} {to}");
                    let taken = places[from..to].iter().filter(|at| held(**at)).count() as u64;
                    assert_eq!(
                        (view.from_windows.get(), view.from_mappings.get()),
                        (taken, wanted.len() as u64 - taken)
                    );
                    if let Some(piece) = source.piece(from as u64, to - from) {
                        assert_eq!(piece, wanted);
                    }
                }
            }
        }
        // Without windows a tensor in one piece is there in one piece.
        let (view, tensor) = (View::default(), tensor(1, &[(3, 97)]));
        let whole: Vec<u8> = (3..97).collect();
        assert_eq!(Source::new(&tensor, &mappings, &view).piece(0, 94), Some(&whole[..]));
    }
}
