//! The tensors of one rank as they are, of a model whose names are only names.

use super::Catalog;
use super::add::Adding;
use crate::plan::{PlanError, SourceFile};

impl Catalog {
    /// Every tensor of the files of one rank but those to be left out, whole. They can be compared, and copied to one rank.
    ///
    /// # Errors
    /// A name that two files hold.
    pub fn copied(files: &[SourceFile<'_>], ignore: &dyn Fn(&str) -> bool) -> Result<Self, PlanError> {
        let mut catalog = Self::default();
        let named = catalog.names(files, None, ignore)?;
        let mut adding = Adding::new(&mut catalog);
        for one in &named {
            one.loose(files, &mut adding)?;
        }
        adding.finish()?;
        Ok(catalog)
    }
}
