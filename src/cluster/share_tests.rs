//! Every byte belongs to one host; all hosts agree; shares are balanced as far as the rule allows.

use proptest::prelude::*;

use super::*;
use crate::cluster::rank_table::Server;
use crate::formats::{CKPT, Checksum, ChecksumKind, Encoding, FileLayout, Segment};

fn plan(lens: &[u64], crc: bool) -> Plan {
    let segments = |len: u64| {
        let of = ByteRange::new(0, 3).unwrap();
        let sum = Checksum { kind: ChecksumKind::Crc32, of, encoding: Encoding::LittleEndian };
        let data = ByteRange::new(0, len - if crc { 7 } else { 3 }).unwrap();
        let all = [Segment::Literal(vec![7; 3]), Segment::Data { tensor: 0, range: data }, Segment::Late(sum)];
        all.into_iter().take(if crc { 3 } else { 2 }).collect()
    };
    let file = |(index, &len): (usize, &u64)| OutputFile {
        path: format!("rank_{index}/checkpoint_{index}.ckpt"),
        rank: u32::try_from(index).ok(),
        format: Some(CKPT),
        layout: FileLayout { segments: segments(len) },
        tensors: Vec::new(),
    };
    Plan { outputs: lens.iter().enumerate().map(file).collect(), ..Plan::default() }
}

fn files(share: &[Unit]) -> Vec<usize> {
    share.iter().map(|u| u.file).collect()
}

#[test]
fn the_largest_go_first_and_ties_go_to_the_first() {
    let shares = shares(&plan(&[10, 50, 10, 30, 10, 10], false), 2);
    // 50 | 30, then the tens in order: the second has the least three times; then both have 50 and 60.
    assert_eq!([files(&shares[0]), files(&shares[1])], [vec![1, 4], vec![0, 2, 3, 5]]);
    let shares = super::shares(&plan(&[10; 16], false), 4);
    assert_eq!(files(&shares[0]), [0, 4, 8, 12]);
    assert_eq!(files(&shares[3]), [3, 7, 11, 15]);
}

#[test]
fn fewer_files_than_hosts_are_cut_at_large_pages() {
    let len = 10 * GRAIN + 5;
    let shares = shares(&plan(&[len], false), 3);
    let ranges: Vec<(u64, u64)> = shares.iter().map(|s| (s[0].range.start(), s[0].range.end())).collect();
    assert_eq!(ranges, [(0, 3 * GRAIN), (3 * GRAIN, 6 * GRAIN), (6 * GRAIN, len)]);
    // Two files for three: the second takes the end of one and the start of the other.
    let shares = super::shares(&plan(&[6 * GRAIN, 6 * GRAIN], false), 3);
    assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1]);
    // A file that ends in a sum over itself has one writer.
    let shares = super::shares(&plan(&[len], true), 3);
    assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
}

#[test]
fn with_a_table_each_host_takes_its_own_cards() {
    let server = |ranks: &[u32]| Server { names: Vec::new(), ranks: ranks.to_vec() };
    let table = RankTable { servers: vec![server(&[0, 3]), server(&[1, 2])] };
    let shares = shares_by_cards(&plan(&[10; 4], false), &table, &[0, 1]).unwrap();
    assert_eq!([files(&shares[0]), files(&shares[1])], [[0, 3], [1, 2]]);
    let shares = shares_by_cards(&plan(&[10; 4], false), &table, &[0, 0, 1, 1]).unwrap();
    assert_eq!(shares.iter().map(|s| files(s)).collect::<Vec<_>>(), [[0], [3], [1], [2]]);
    let error = shares_by_cards(&plan(&[10; 8], false), &table, &[0, 1]).unwrap_err();
    assert!(error.to_string().contains("4 cards, the target has 8 ranks"), "{error}");
}

proptest! {
    #[test]
    fn every_byte_is_somebodys_once(lens in prop::collection::vec(7u64..1_000_000, 0..9), count in 1u32..12, crc: bool) {
        let plan = plan(&lens, crc);
        let shares = shares(&plan, count);
        prop_assert_eq!(shares.len(), usize::try_from(count).unwrap());
        for (file, &len) in lens.iter().enumerate() {
            let mut ranges: Vec<ByteRange> =
                shares.iter().flatten().filter(|u| u.file == file).map(|u| u.range).collect();
            ranges.sort();
            let mut at = 0;
            for range in ranges {
                prop_assert_eq!(range.start(), at);
                at = range.end();
            }
            prop_assert_eq!(at, len);
        }
        // No host has more than the mean and the largest file (or the grain) on top.
        let bytes = |share: &Vec<Unit>| share.iter().map(|u| u.range.len()).sum::<u64>();
        let most = shares.iter().map(bytes).max().unwrap();
        let mean = lens.iter().sum::<u64>() / u64::from(count);
        prop_assert!(most <= mean + 1 + lens.iter().max().copied().unwrap_or(0).max(GRAIN));
    }
}
