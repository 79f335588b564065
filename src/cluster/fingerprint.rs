//! The fingerprint of a plan: hosts that come to the same one do the same work.

use std::fmt::Write;
use std::ops::Deref;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Unit;
use crate::formats::Segment;
use crate::plan::Plan;
use crate::source::Extents;

/// What is looked at of each source file, at five places from its first byte to its last.
const SAMPLE: usize = 4096;

/// Values on their way into a hash, each with its length, so that no two lists run into one another.
struct Feed(Sha256);

impl Feed {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn extents(&mut self, extents: &Extents) {
        self.number(extents.parts().len() as u64);
        for (_, range) in extents.parts() {
            self.number(range.start());
            self.number(range.len());
        }
    }

    /// The first 128 bits as hexadecimal digits.
    fn finish(self) -> String {
        self.0.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// The fingerprint of what a plan writes and from what: files, tensors, routes, and samples of the sources' bytes. Where the
/// sources lie and when they were copied there does not matter. `sources`: the bytes of each source, in the plan's order.
pub fn plan_id(plan: &Plan, sources: &[impl Deref<Target = [u8]>]) -> String {
    let mut feed = Feed(Sha256::new());
    feed.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    feed.number(plan.sources.len() as u64);
    for (source, bytes) in plan.sources.iter().zip(sources) {
        feed.bytes(source.path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default());
        feed.number(u64::from(source.rank));
        feed.number(source.len);
        let bytes: &[u8] = bytes;
        let last = bytes.len().saturating_sub(SAMPLE);
        for quarter in 0..=4 {
            let at = last / 4 * quarter + if quarter == 4 { last % 4 } else { 0 };
            feed.bytes(&bytes[at..bytes.len().min(at + SAMPLE)]);
        }
    }
    feed.number(plan.tensors.len() as u64);
    for tensor in &plan.tensors {
        feed.number(tensor.file as u64);
        feed.bytes(tensor.name.as_bytes());
        feed.bytes(tensor.dtype.name().as_bytes());
        feed.extents(&tensor.extents);
    }
    outputs(plan, &mut feed);
    feed.finish()
}

fn outputs(plan: &Plan, feed: &mut Feed) {
    // The text of a transform is made once for each, not for each of a million routes.
    let mut last = None;
    let mut text = String::new();
    feed.number(plan.outputs.len() as u64);
    for output in &plan.outputs {
        feed.bytes(output.path.as_bytes());
        feed.number(output.rank.map_or(u64::MAX, u64::from));
        feed.number(u64::from(output.crc));
        feed.number(output.tensor_crcs.len() as u64);
        feed.number(output.layout.segments.len() as u64);
        for segment in &output.layout.segments {
            match segment {
                Segment::Literal(bytes) => feed.bytes(bytes),
                Segment::Data { tensor, range } => {
                    feed.number(*tensor as u64);
                    feed.number(range.start());
                    feed.number(range.len());
                }
            }
        }
        feed.number(output.tensors.len() as u64);
        for tensor in &output.tensors {
            feed.bytes(tensor.name.as_bytes());
            feed.bytes(tensor.dtype.name().as_bytes());
            feed.number(tensor.routes.len() as u64);
            for route in &tensor.routes {
                if last != Some(route.transform) {
                    text = format!("{:?}", route.transform);
                    last = Some(route.transform);
                }
                feed.bytes(text.as_bytes());
                let moves = &route.moves;
                let ends = [route.source as u64, moves.src, moves.dst, moves.run, moves.dims.len() as u64];
                let dims = moves.dims.iter().flat_map(|d| [d.count, d.src_stride, d.dst_stride]);
                ends.into_iter().chain(dims).for_each(|n| feed.number(n));
            }
        }
    }
}

/// The fingerprint of a run: the plan, when its sources were last changed, and who takes what. What an earlier run has left is
/// used only by one with the same.
pub fn run_id(plan: &Plan, plan_id: &str, shares: &[Vec<Unit>]) -> String {
    let mut feed = Feed(Sha256::new());
    feed.bytes(plan_id.as_bytes());
    for source in &plan.sources {
        // On shared storage all hosts see the one server's answer. One that cannot be had is left to the plan's samples.
        let changed = std::fs::metadata(&source.path).and_then(|meta| meta.modified()).ok();
        let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        feed.number(since.as_secs());
        feed.number(u64::from(since.subsec_nanos()));
    }
    feed.number(shares.len() as u64);
    for share in shares {
        feed.number(share.len() as u64);
        for unit in share {
            feed.number(unit.file as u64);
            feed.number(unit.range.start());
            feed.number(unit.range.len());
        }
    }
    feed.finish()
}
