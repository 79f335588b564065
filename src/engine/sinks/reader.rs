//! Any range of any file that a plan writes, put together when somebody asks for it.

use std::sync::{Arc, OnceLock};

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;

use crate::engine::feed::Gathered;
use crate::engine::fill::{Inputs, Target};
use crate::engine::late::Covered;
use crate::engine::view::View;
use crate::formats::Segment;
use crate::plan::{OutputFile, Plan};
use crate::source::{ByteRange, index};
use crate::storage::LocalBlob;

/// Bytes that are summed at once for a checksum that a file holds of its own bytes.
const STEP: usize = 1 << 20;

/// Any range of the files that a plan writes, put together when it is asked for. Threads may share it.
#[derive(Debug)]
pub struct OutputReader<'a> {
    plan: &'a Plan,
    mappings: &'a [Arc<LocalBlob>],
    files: Vec<File<'a>>,
    gathered: Gathered<'a>,
}

#[derive(Debug)]
struct File<'a> {
    target: Target<'a>,
    covered: Covered,
    /// The sums of what is covered, computed when first requested.
    sums: Vec<OnceLock<u32>>,
}

impl<'a> OutputReader<'a> {
    /// A reader of the files of a plan that was [proved](crate::plan::prove), whose sources are mapped in its order.
    ///
    /// # Panics
    /// Where there is not one mapping of the right length for each source.
    pub fn new(plan: &'a Plan, mappings: &'a [Arc<LocalBlob>]) -> Self {
        let lengths = plan.sources.iter().map(|source| source.len);
        assert!(lengths.eq(mappings.iter().map(|mapping| mapping.len() as u64)), "one mapping for each source");
        let file = |output: &'a OutputFile| {
            let covered = Covered::new(&output.layout);
            let sums = (0..covered.len()).map(|_| OnceLock::new()).collect();
            File { target: Target::of(output), covered, sums }
        };
        let files = plan.outputs.iter().map(file).collect();
        Self { plan, mappings, files, gathered: Gathered::new(u64::MAX, mappings) }
    }

    /// Reads bytes `at ..` of output file `file`, by its index in the plan. A checksum of the file's own bytes costs reading all
    /// that it covers, once. Returns how many finite values became infinite; one that lies only partly in the range is counted
    /// where it begins.
    ///
    /// # Panics
    /// Where the range ends behind the file.
    pub fn read(&self, file: usize, at: u64, buf: &mut [u8]) -> u64 {
        let end = at.checked_add(buf.len() as u64);
        assert!(end.is_some_and(|end| end <= self.files[file].target.len()), "the range ends past the end of the file");
        let overflowed = self.fill(file, at, buf);
        self.put_sums(file, at, buf);
        overflowed
    }

    /// Everything but checksums.
    fn fill(&self, file: usize, at: u64, buf: &mut [u8]) -> u64 {
        let inputs = Inputs { plan: self.plan, mappings: self.mappings };
        let view = View::new(&[]);
        let overflowed = inputs.fill_target(&self.files[file].target, at, buf, &view);
        self.gathered.note(view.from_mappings.get());
        overflowed.into_iter().map(|(_, count)| count).sum()
    }

    /// The checksums in a range.
    fn put_sums(&self, file: usize, at: u64, buf: &mut [u8]) {
        let of = &self.files[file];
        for span in of.target.overlapping(at, buf.len() as u64) {
            let Segment::Late(checksum) = span.segment else { continue };
            let Some(number) = of.covered.number(checksum.of) else { continue };
            let sum = *of.sums[number].get_or_init(|| self.sum(file, checksum.of));
            let (from, to) = (at.max(span.at), (at + buf.len() as u64).min(span.at + checksum.len()));
            let bytes = &checksum.encode(sum)[index(from - span.at)..index(to - span.at)];
            buf[index(from - at)..index(to - at)].copy_from_slice(bytes);
        }
    }

    /// The CRC-32 of a range, in which there is no checksum.
    fn sum(&self, file: usize, range: ByteRange) -> u32 {
        let mut digest = crc_fast::Digest::new(Crc32IsoHdlc);
        let mut buf = vec![0; STEP.min(index(range.len()))];
        let mut at = range.start();
        while at < range.end() {
            let part = &mut buf[..STEP.min(index(range.end() - at))];
            self.fill(file, at, part);
            digest.update(part);
            at += part.len() as u64;
        }
        u32::try_from(digest.finalize()).unwrap_or_default()
    }
}
