//! Which part of a plan each process takes: by a fixed rule, so that all come to the same result without communicating.
//!
//! Files by bytes, the largest first, each to the host that has the least so far (the first of those); equal files in the plan's order.
//! Where there are fewer files than processes, all files are laid end to end and cut into equal ranges. With a rank table each
//! host takes the files of its own cards, and the processes of the host divide those by the first rule.

use std::collections::BTreeSet;

use super::{ClusterError, RankTable};
use crate::engine::Part;
use crate::plan::{OutputFile, Plan};
use crate::source::ByteRange;

/// Ranges are cut at multiples of this: the largest page of any kernel, so that no two machines write to one page.
const GRAIN: u64 = 64 << 10;

/// A file of a plan, or a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Index of the file among the plan's outputs.
    pub file: usize,
    /// Which of its bytes.
    pub range: ByteRange,
}

/// The lengths of the plan's files, in order.
fn lengths(plan: &Plan) -> Vec<u64> {
    plan.outputs.iter().map(|f| f.layout.len()).collect()
}

/// What each of `count` processes takes, by bytes.
pub fn shares(plan: &Plan, count: u32) -> Vec<Vec<Unit>> {
    let count = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
    let lens = lengths(plan);
    // A file that holds sums over its own bytes is made by one process.
    if lens.len() >= count || plan.outputs.iter().any(|f| f.layout.late().next().is_some()) {
        return packed(&lens, (0..lens.len()).collect(), count);
    }
    let total: u128 = lens.iter().map(|&len| u128::from(len)).sum();
    // Where process `index` begins within a file that begins at `base`.
    let cut = |index: usize, base: u128, len: u64| -> u64 {
        let at = (total * index as u128 / count as u128).saturating_sub(base);
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        if at >= len { len } else { at / GRAIN * GRAIN }
    };
    let mut shares = vec![Vec::new(); count];
    let mut base = 0u128;
    for (file, &len) in lens.iter().enumerate() {
        let mut taken = false;
        for (index, share) in shares.iter_mut().enumerate() {
            let (from, to) = (cut(index, base, len), cut(index + 1, base, len));
            // A file without bytes belongs to a host, too.
            let empty = len == 0 && !taken && index + 1 == count;
            if let Some(range) = ByteRange::new(from, to - from).filter(|r| !r.is_empty() || empty) {
                share.push(Unit { file, range });
                taken = true;
            }
        }
        base += u128::from(len);
    }
    shares
}

/// What each process takes where each host takes its own cards. `hosts`: for each process, the server of the table it is on.
///
/// # Errors
/// Where the table's cards are not the target's ranks.
pub fn shares_by_cards(plan: &Plan, table: &RankTable, hosts: &[usize]) -> Result<Vec<Vec<Unit>>, ClusterError> {
    let ranks: BTreeSet<u32> = plan.outputs.iter().filter_map(|f| f.rank).collect();
    let unequal = ranks.len() != table.ranks() || ranks.iter().any(|&rank| table.server_of(rank).is_none());
    if unequal {
        return Err(ClusterError::Cards { cards: table.ranks(), ranks: ranks.len() });
    }
    let lens = lengths(plan);
    let mut shares = vec![Vec::new(); hosts.len()];
    for server in 0..table.servers.len() {
        // What belongs to no rank goes with rank 0.
        let own = |file: &OutputFile| table.server_of(file.rank.unwrap_or(0)) == Some(server);
        let files = plan.outputs.iter().enumerate().filter(|(_, f)| own(f)).map(|(at, _)| at).collect();
        let processes: Vec<usize> = (0..hosts.len()).filter(|&p| hosts[p] == server).collect();
        for (process, share) in processes.iter().zip(packed(&lens, files, processes.len())) {
            shares[*process] = share;
        }
    }
    Ok(shares)
}

/// Whole files, the largest first, each to the host that has the least.
fn packed(lens: &[u64], mut files: Vec<usize>, count: usize) -> Vec<Vec<Unit>> {
    files.sort_by_key(|&file| std::cmp::Reverse(lens[file]));
    let mut shares = vec![Vec::new(); count];
    // (bytes so far, which): the least is the first of those that have the least.
    let mut least: BTreeSet<(u64, usize)> = (0..count).map(|at| (0, at)).collect();
    for file in files {
        let Some((bytes, at)) = least.pop_first() else { break };
        shares[at].extend(ByteRange::new(0, lens[file]).map(|range| Unit { file, range }));
        least.insert((bytes.saturating_add(lens[file]), at));
    }
    for share in &mut shares {
        share.sort_by_key(|unit: &Unit| unit.file);
    }
    shares
}

/// Whether a unit is a whole file.
pub fn is_whole(plan: &Plan, unit: &Unit) -> bool {
    unit.range.start() == 0 && unit.range.len() == plan.outputs[unit.file].layout.len()
}

/// What a process writes that takes these units.
pub fn part<'a>(plan: &'a Plan, units: &[Unit]) -> Part<'a> {
    Part::of(plan, units.iter().map(|unit| (unit.file, unit.range)))
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
