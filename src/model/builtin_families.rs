//! The families that are compiled in.

use std::sync::OnceLock;

use super::error::FamilyFileErrors;
use super::family::Family;
use super::file::Rows;
use super::texts::family_texts;

/// The families of the files, bases before those that extend them, and what is wrong with the others.
fn read_all(rows: Rows) -> (Vec<Family>, Vec<FamilyFileErrors>) {
    let mut left: Vec<(&str, &str)> = family_texts().collect();
    let mut read: Vec<Family> = Vec::new();
    loop {
        let before = left.len();
        let mut errors = Vec::new();
        for (name, text) in std::mem::take(&mut left) {
            match Family::read_with(name, text, &|base| read.iter().find(|family| family.name == base).cloned(), rows) {
                Ok(family) => read.push(family),
                Err(error) => {
                    errors.push(error);
                    left.push((name, text));
                }
            }
        }
        if left.len() == before {
            return (read, errors);
        }
    }
}

fn all() -> &'static [Family] {
    static ALL: OnceLock<Vec<Family>> = OnceLock::new();
    // A test shows what is wrong with a file.
    ALL.get_or_init(|| read_all(Rows::Trusted).0)
}

/// The families that are compiled in, bases before those that extend them. A base of others has no `model_types`.
pub fn builtin_families() -> &'static [Family] {
    all()
}

/// A family that is compiled in.
pub fn builtin_family(name: &str) -> Option<&'static Family> {
    all().iter().find(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::texts::builtin_text;

    #[test]
    fn every_file_is_a_family_of_its_name() {
        let (read, errors) = read_all(Rows::Checked);
        assert!(errors.is_empty(), "{}", errors[0]);
        assert_eq!(read.len(), family_texts().count());
        for family in read {
            assert!(!builtin_text(&family.name).is_empty(), "{}", family.name);
        }
    }
}
