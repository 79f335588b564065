//! The files under `families/`, which are compiled in.

/// The files: a family is added by adding one.
static FILES: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/src/model/families");
/// The one file there that is no family.
const COMPANIONS: &str = "companions.yaml";

/// The text of the file beside the families.
pub(super) fn companions_text() -> &'static str {
    FILES.get_file(COMPANIONS).and_then(include_dir::File::contents_utf8).unwrap_or_default()
}

/// The file of a family that is compiled in.
pub(super) fn builtin_text(name: &str) -> &'static str {
    FILES.get_file(format!("{name}.yaml")).and_then(include_dir::File::contents_utf8).unwrap_or_default()
}

/// The files of the families, with their names.
pub(super) fn family_texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    let texts = FILES.files().filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)));
    texts.filter(|(name, _)| *name != COMPANIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_text() {
        assert_eq!(family_texts().count() + 1, FILES.files().count());
        assert!(!companions_text().is_empty());
    }
}
