//! Archives that contradict themselves. Sound ones are in `tests/it/pytorch.rs`.

use super::*;

/// An archive of stored entries, each part of which can be made to lie.
struct Built {
    file: Vec<u8>,
    /// Where the local headers, the directory records and the end record are.
    local: Vec<usize>,
    central: Vec<usize>,
    end: usize,
}

/// `long`: with sizes and offsets in zip64 fields.
fn build(entries: &[(&str, &[u8])], long: bool) -> Built {
    let mut built = Built { file: Vec::new(), local: Vec::new(), central: Vec::new(), end: 0 };
    let record = |signature: &[u8], fixed: usize, fields: &[(usize, u32, usize)]| {
        let mut record = signature.to_vec();
        record.resize(fixed, 0);
        for &(at, value, len) in fields {
            record[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        record
    };
    let number = |n: usize| u32::try_from(n).unwrap();
    let extra = |values: &[usize]| {
        let mut extra = vec![1, 0, u8::try_from(values.len() * 8).unwrap(), 0];
        extra.extend(values.iter().flat_map(|n| (*n as u64).to_le_bytes()));
        if long { extra } else { Vec::new() }
    };
    for (name, data) in entries {
        built.local.push(built.file.len());
        let size = if long { u32::MAX } else { number(data.len()) };
        let extra = extra(&[data.len(), data.len()]);
        let fields = [(18, size, 4), (22, size, 4), (26, number(name.len()), 2), (28, number(extra.len()), 2)];
        built.file.extend(record(LOCAL, LOCAL_LEN, &fields));
        built.file.extend(name.as_bytes());
        built.file.extend(extra);
        built.file.extend(*data);
    }
    let start = built.file.len();
    for ((name, data), &local) in entries.iter().zip(&built.local) {
        built.central.push(built.file.len());
        let size = if long { u32::MAX } else { number(data.len()) };
        let extra = extra(&[data.len(), data.len(), local]);
        let header = if long { u32::MAX } else { number(local) };
        let lens = [(28, number(name.len()), 2), (30, number(extra.len()), 2)];
        let fields = [&[(20, size, 4), (24, size, 4), (42, header, 4)][..], &lens].concat();
        built.file.extend(record(CENTRAL, CENTRAL_LEN, &fields));
        built.file.extend(name.as_bytes());
        built.file.extend(extra);
    }
    let (end, count) = (built.file.len(), number(entries.len()));
    if long {
        let fields = [(4, 44, 4), (24, count, 4), (32, count, 4), (40, number(end - start), 4), (48, number(start), 4)];
        built.file.extend(record(END64, END64_LEN, &fields));
        built.file.extend(record(LOCATOR64, LOCATOR64_LEN, &[(8, number(end), 4), (16, 1, 4)]));
    }
    built.end = built.file.len();
    let (size, start) = if long { (u32::MAX, u32::MAX) } else { (number(end - start), number(start)) };
    let fields = [(8, count, 2), (10, count, 2), (12, size, 4), (16, start, 4)];
    built.file.extend(record(END, END_LEN, &fields));
    built
}

const TWO: [(&str, &[u8]); 2] = [("a/one", b"first"), ("a/two", b"the second")];

fn why(file: &[u8]) -> String {
    Archive::read(file, &Budget::unlimited()).and_then(Archive::stored).expect_err("refused").what.to_string()
}

#[test]
fn entries_are_found_with_and_without_zip64() {
    for long in [false, true] {
        let built = build(&TWO, long);
        let archive = Archive::read(&built.file, &Budget::unlimited()).unwrap();
        assert_eq!(archive.first(), Some("a/one"));
        for (name, data) in TWO {
            assert_eq!(archive.get(name).and_then(|range| range.of(&built.file)), Some(data));
        }
        assert_eq!(archive.get("a/three"), None);
    }
    let mut commented = build(&TWO, false);
    commented.file[commented.end + 20] = 3;
    commented.file.extend(b"abc");
    assert_eq!(Archive::read(&commented.file, &Budget::unlimited()).unwrap().names().count(), 2);
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    for long in [false, true] {
        let built = build(&TWO, long);
        for end in 0..built.file.len() {
            assert!(Archive::read(&built.file[..end], &Budget::unlimited()).is_err(), "{end}");
        }
        for start in 1..built.file.len() {
            assert!(Archive::read(&built.file[start..], &Budget::unlimited()).is_err(), "{start}");
        }
    }
}

#[test]
fn each_lie_is_named() {
    let sound = build(&TWO, false);
    let (local, central, end) = (sound.local[1], sound.central[1], sound.end);
    for (at, byte, said) in [
        (central + 8, 1, "the zip entry `a/two` is encrypted"),
        (central + 9, 0x20, "the zip entry `a/two` is encrypted"),
        (local + 6, 1, "contradicts the directory"),
        (local + 6, 8, "contradicts the directory"),
        (central + 10, 8, "contradicts the directory"),
        (local + 8, 8, "contradicts the directory"),
        (central + 24, 9, "two sizes"),
        (central + 34, 1, "lies in another file"),
        (central + 46, b'b', "`b/two` has a local header that contradicts"),
        (central + 46, 0xff, "not UTF-8"),
        (central + 42, 0, "contradicts the directory"),
        (central + 45, 0x7f, "lies outside of the file"),
        (local + 18, 9, "contradicts the directory"),
        (local + 26, 4, "contradicts the directory"),
        (local + 29, 0x7f, "lies outside of the file"),
        (central, b'X', "malformed zip archive"),
        (central + 28, 6, "shorter than its entries"),
        (central + 32, 1, "shorter than its entries"),
        (end + 4, 1, "several files"),
        (end + 8, 1, "several files"),
        (end + 12, 1, "does not end at the end record"),
        (end + 16, 1, "does not end at the end record"),
        (end + 20, 1, "end record is missing"),
    ] {
        let mut file = sound.file.clone();
        file[at] = byte;
        let said_instead = why(&file);
        assert!(said_instead.contains(said), "{said:?}: {said_instead}");
    }
    let mut compressed = sound.file.clone();
    (compressed[central + 10], compressed[local + 8]) = (8, 8);
    assert!(why(&compressed).starts_with("the zip entry `a/two` is compressed"));
    let mut fewer = sound.file;
    (fewer[end + 8], fewer[end + 10]) = (1, 1);
    assert!(why(&fewer).contains("longer than its entries"));
}

#[test]
fn an_absurd_count_is_refused_before_anything_is_read() {
    let mut built = build(&TWO, true);
    let end64 = built.end - LOCATOR64_LEN - END64_LEN;
    for at in [24, 32] {
        built.file[end64 + at..end64 + at + 8].fill(0xff);
    }
    (built.file[built.end + 8], built.file[built.end + 9]) = (0xff, 0xff);
    (built.file[built.end + 10], built.file[built.end + 11]) = (0xff, 0xff);
    assert!(why(&built.file).starts_with("`zip entries` is 18446744073709551615, above the limit"));
    // The end records have to agree.
    let mut built = build(&TWO, true);
    built.file[end64 + 24] = 1;
    built.file[end64 + 32] = 1;
    assert!(why(&built.file).contains("contradict each other"));
}

#[test]
fn entries_that_share_bytes_or_a_name_are_refused() {
    let same = [TWO[0], TWO[0]];
    assert_eq!(why(&build(&same, false).file), "`a/one` is in the file twice");
    // The second entry is the first one's data: a header within.
    let inner = build(&[("a/b", b"x")], false);
    let data = &inner.file[..inner.central[0]];
    let mut built = build(&[("a/a", data), ("a/b", b"x")], false);
    let at = built.central[1] + 42;
    built.file[at] = u8::try_from(LOCAL_LEN + 3).unwrap();
    assert_eq!(why(&built.file), "the zip entry `a/b` overlaps the one before it");
}
