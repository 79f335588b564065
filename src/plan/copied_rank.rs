//! A rank's file that is another rank's, copied: what is cut over the ranks is never the same in two of them.

use std::collections::HashMap;

use super::PlanError;
use super::agreement::Sources;
use super::evidence::{InFile, Unread};

/// How many parameters of each file are looked at.
pub(super) const LOOKED_AT: usize = 4;

/// How many bytes of each are compared before more are.
const FIRST_LOOK: u64 = 1 << 10;

/// A parameter that the ranks share: where it is held (file and entry) and where each one's block begins.
pub(super) type Shared = Vec<(InFile, Vec<u64>)>;

/// No two files may hold the same bytes of all that is looked at, where those are blocks of different places.
pub(super) fn check(sources: Sources<'_>, shared: &[Shared]) -> Result<(), PlanError> {
    let files = sources.files;
    // By file: what its entries begin with. Bytes that are all alike are no evidence.
    let mut begins: HashMap<usize, Vec<(usize, u64)>> = HashMap::new();
    for (number, holders) in shared.iter().enumerate() {
        for (held, _) in holders {
            if let Some(print) = sources.evidence.beginning(*held, FIRST_LOOK)? {
                begins.entry(held.0).or_default().push((number, print));
            }
        }
    }
    let mut alike: HashMap<&[(usize, u64)], Vec<usize>> = HashMap::new();
    for (file, begins) in &begins {
        alike.entry(begins).or_default().push(*file);
    }
    let mut suspects: Vec<Vec<usize>> = alike.into_values().filter(|group| group.len() > 1).collect();
    for group in &mut suspects {
        group.sort_by_key(|&file| files[file].rank);
    }
    suspects.sort();
    for group in suspects {
        for (at, &first) in group.iter().enumerate() {
            for &second in &group[at + 1..] {
                if is_copy(sources, shared, first, second)? {
                    return Err(PlanError::CopiedRank {
                        rank: files[second].rank,
                        path: files[second].path.clone(),
                        of: files[first].rank,
                        of_path: files[first].path.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Whether two files hold the same of every parameter of which they should hold different blocks.
fn is_copy(sources: Sources<'_>, shared: &[Shared], first: usize, second: usize) -> Result<bool, Unread> {
    let mut compared = 0;
    for holders in shared {
        let of = |file: usize| holders.iter().find(|((holder, _), _)| *holder == file);
        let (Some((a, a_block)), Some((b, b_block))) = (of(first), of(second)) else { continue };
        // Replicas are the same by right.
        if a_block == b_block || !sources.agree(&[*a, *b])? {
            return Ok(false);
        }
        compared += 1;
    }
    Ok(compared > 0)
}
