//! The tensors of one rank as they are, of a model whose names are only names.

use super::Catalog;
use super::add::Adding;
use super::reader::{Reader, index};
use crate::plan::{Arrangement, PlanError, SourceFile};

impl Catalog {
    /// Every tensor of the files of one rank but those to be left out, whole. They can be compared, and copied to one rank.
    ///
    /// # Errors
    /// A name that two files hold.
    pub fn copied(files: &[SourceFile<'_>], ignore: &dyn Fn(&str) -> bool) -> Result<Self, PlanError> {
        let mut catalog = Self::default();
        let named = catalog.names(files, None, ignore)?;
        let reader = Reader {
            files,
            dialect: None,
            spec: None,
            arrangement: Arrangement::Rules(1),
            rank_concat: false,
            strides: &|_, _| None,
            foreign: false,
            by_blocks: false,
            named: &named,
            index: index(&named),
        };
        let mut adding = Adding::new(&mut catalog);
        for one in &named {
            reader.loose(one, &mut adding)?;
        }
        adding.finish()?;
        Ok(catalog)
    }
}
