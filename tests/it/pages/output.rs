//! Whether a program printed what a page says that it prints.

use std::sync::LazyLock;

use regex::Regex;

/// The first line that differs: its number in what was printed, and what was expected there.
pub(super) fn difference(expected: &str, printed: &str) -> Option<String> {
    let expected = lines(expected);
    let printed = lines(printed);
    // How far each beginning of the expected lines reaches: the ends of what it can match.
    let mut reached = vec![0];
    for (number, want) in expected.iter().enumerate() {
        let mut next: Vec<usize> = if want.trim() == "..." {
            reached.first().map(|&first| (first..=printed.len()).collect()).unwrap_or_default()
        } else {
            let fits = |&at: &usize| printed.get(at).is_some_and(|line| line_fits(want, line));
            reached.iter().filter(|at| fits(at)).map(|at| at + 1).collect()
        };
        next.dedup();
        if next.is_empty() {
            let after_any = number > 0 && expected[number - 1].trim() == "...";
            let at = reached.first().copied().unwrap_or_default();
            let found = printed.get(at).map_or("the end", String::as_str);
            return Some(if after_any {
                format!("line {} of the block is nowhere after line {at} of the output: {want}", number + 1)
            } else {
                format!("line {} of the block: {want}\n         the program prints: {found}", number + 1)
            });
        }
        reached = next;
    }
    let rest = reached.last().copied().unwrap_or_default();
    (rest < printed.len()).then(|| format!("the block ends before this line of the output: {}", printed[rest]))
}

/// Lines without what differs from run to run.
fn lines(text: &str) -> Vec<String> {
    // A slow run is measured in other units than a quick one.
    static SPEED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b\d+(\.\d+)? ?(?:[kKMGT]i?)?B/s\b").expect("a pattern"));
    static DURATION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b\d+(\.\d+)? ?(?:ns|µs|us|ms|s|min|h)\b").expect("a pattern"));
    let normal = |line: &str| {
        let line = SPEED.replace_all(line.trim_end(), "# B/s");
        DURATION.replace_all(&line, "# s").into_owned()
    };
    text.trim_end().lines().map(normal).collect()
}

/// Whether a line is the expected one, in which `…` is any text.
fn line_fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A block without comments, which each language has in its own words.
pub(super) fn uncommented(text: &str) -> String {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:^|\s+)#(?:\s.*)?$").expect("a pattern"));
    let lines = text.lines().map(|line| COMMENT.replace(line, "").trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn output_is_what_the_block_says() {
    for (expected, printed) in [
        ("a\nb\n", "a\nb\n"),
        ("a\nb\n", "a  \nb\n\n"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("a\n...\nb", "a\nb"),
        ("a\n  ...", "a"),
        ("...", ""),
        ("...\nx\n...\nx", "x\ny\nx"),
        ("...\nx\ny", "x\nx\ny"),
        ("wrote … files, …", "wrote 3 files, 4 kB"),
        ("… of …", "1 of 2 of 3"),
        ("in 0.02 s (0.00 GB/s)", "in 12.5 s (1.73 MB/s)"),
        ("3 ms", "1.2 s"),
    ] {
        assert_eq!(difference(expected, printed), None, "{expected:?} {printed:?}");
    }
    for (expected, printed, said) in [
        ("a\nb", "a", "line 2 of the block: b"),
        ("a", "a\nb", "ends before this line of the output: b"),
        ("a\nx\nc", "a\nb\nc", "the program prints: b"),
        ("a\n...\nd", "a\nb\nc", "line 3 of the block is nowhere after line 1"),
        ("a\n...\nd", "a\nd\nc", "ends before this line of the output: c"),
        ("wrote … files", "wrote 3 files, 4 kB", "line 1"),
        ("wrote … files", "has wrote 3 files", "line 1"),
        ("ab…ba", "aba", "line 1"),
        ("21 parameters", "22 parameters", "line 1"),
        ("45.38 kB", "45.39 kB", "line 1"),
        ("4 steps", "5 steps", "line 1"),
        ("", "a", "ends before this line of the output: a"),
    ] {
        let found = difference(expected, printed).unwrap_or_else(|| panic!("{expected:?} {printed:?}"));
        assert!(found.contains(said), "{found}");
    }
}

#[test]
fn only_comments_may_differ_between_languages() {
    assert_eq!(uncommented("# on the first\nls -l  # all\n\n#\nx\n"), uncommented("# 第一台\nls -l # 全部\nx"));
    assert_ne!(uncommented("ls -l"), uncommented("ls"));
    assert_eq!(uncommented("a#b\necho \"#x\""), "a#b\necho \"#x\"");
}
