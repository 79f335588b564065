//! Git LFS: the pointers in place of files that `git lfs pull` has not fetched.

/// What a pointer begins with (git-lfs, `docs/spec.md`).
const BEGINS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// A pointer is shorter than this (the same).
const SHORTER_THAN: usize = 1024;

/// The size of the file that these bytes point to, where they are a pointer.
pub fn lfs_pointer(file: &[u8]) -> Option<u64> {
    let rest = file.strip_prefix(BEGINS).filter(|_| file.len() < SHORTER_THAN)?;
    let text = std::str::from_utf8(rest).ok()?;
    text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_told_from_a_file() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 499723\n";
        assert_eq!(lfs_pointer(pointer), Some(499_723));
        for no in
            [&b""[..], b"{}", b"version https://git-lfs.github.com/spec/v1\n", &[pointer, &[b' '; 1024][..]].concat()]
        {
            assert_eq!(lfs_pointer(no), None);
        }
    }
}
