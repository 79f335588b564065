//! The tensors of one rank as they are, of a model whose names are only names.

use super::{Catalog, CatalogOptions, Reader, index};
use crate::models::FusionLayout;
use crate::plan::{Arrangement, PlanError, SourceFile};

impl Catalog {
    /// Every tensor of the files of one rank but those to be left out, whole. They can be compared, and copied to one rank.
    ///
    /// # Errors
    /// A name that two files hold.
    pub fn copied(files: &[SourceFile<'_>], ignore: &dyn Fn(&str) -> bool) -> Result<Self, PlanError> {
        let (arrangement, fusion) = (Arrangement::Rules(1), FusionLayout::RankConcat);
        let options = CatalogOptions { spec: None, arrangement, fusion, heads_matter: false, ignore };
        let mut catalog = Self::default();
        let named = catalog.names(files, &options)?;
        let reader = Reader { files, options: &options, named: &named, index: index(&named) };
        for one in &named {
            reader.loose(one, &mut catalog)?;
        }
        Ok(catalog)
    }
}
