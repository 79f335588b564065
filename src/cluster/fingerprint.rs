//! The fingerprint of a plan: hosts that come to the same one do the same work.

mod hash;

use std::ops::Deref;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use self::hash::Hash;
use super::Unit;
use crate::plan::{Plan, PlanHasher};

/// What is read of each source file, at five places from its first byte to its last.
const SAMPLE: usize = 4096;

/// The fingerprint of what a plan writes and from what: files, tensors, routes, what is computed and from which statistics, and
/// samples of the sources' bytes. Where the sources lie and when they were copied there does not matter. `sources`: the bytes of
/// each source, in the plan's order; what is computed may be there or not yet.
pub fn plan_id(plan: &Plan, sources: &[impl Deref<Target = [u8]>]) -> String {
    let mut feed = Hash::new();
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
    plan.feed(&mut feed);
    feed.finish()
}

/// The fingerprint of a request, before anything is known of the sources: the options that decide the result, as they
/// were typed, and over how many hosts.
pub(super) fn request_id(options: &[(String, Value)], nodes: u32) -> String {
    let mut feed = Hash::new();
    feed.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    feed.number(u64::from(nodes));
    for (name, value) in options {
        feed.bytes(name.as_bytes());
        feed.bytes(value.to_string().as_bytes());
    }
    feed.finish()
}

/// The fingerprint of a run: the plan, when its sources were last changed, and which host takes what. What an earlier run has left is
/// used only by one with the same.
pub fn run_id(plan: &Plan, plan_id: &str, shares: &[Vec<Unit>]) -> String {
    let mut feed = Hash::new();
    feed.bytes(plan_id.as_bytes());
    for source in &plan.sources {
        // On shared storage all hosts see the one server's reply. One that cannot be read is left to the plan's samples.
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

#[cfg(test)]
mod tests;
