//! How many heads attention has: stated, or so far unknown that a cut may run through one.

use super::PlanError;
use super::catalog::Catalog;
use crate::model::Model;

/// Rows that a head commonly has, the most common first.
const COMMON: [u64; 7] = [128, 64, 80, 96, 160, 192, 256];

/// The numbers of heads as the user states them. Either one is enough where the rows of q and k are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: Option<u64>,
    /// Key/value heads.
    pub kv_heads: Option<u64>,
}

impl Heads {
    /// Whether anything is stated.
    pub fn is_stated(self) -> bool {
        self != Self::default()
    }

    /// The statement must be the model's.
    ///
    /// # Errors
    /// Where it is not.
    pub fn agree(self, model: &Model) -> Result<(), PlanError> {
        let pairs = [("--heads", self.heads, model.heads()), ("--kv-heads", self.kv_heads, model.kv_heads())];
        let other = pairs.into_iter().find_map(|(option, stated, known)| {
            let stated = stated.filter(|&stated| stated != known)?;
            Some(format!("{option} {stated}, but the model configuration says {known}"))
        });
        other.map_or(Ok(()), |why| Err(PlanError::Heads(why)))
    }

    /// Heads, kv heads and the rows of a head, where q and k have so many rows. `None`: nothing is stated.
    ///
    /// # Errors
    /// Where the heads do not divide the rows, or are of two sizes.
    pub fn of_rows(self, query: u64, key: u64) -> Result<Option<(u64, u64, u64)>, PlanError> {
        let size = |option: &str, count: Option<u64>, rows: u64, what: &str| match count {
            None => Ok(None),
            Some(count) if count > 0 && rows.is_multiple_of(count) => Ok(Some(rows / count)),
            Some(count) => Err(PlanError::Heads(format!("{option} {count} does not divide the {rows} {what} rows"))),
        };
        let by_query = size("--heads", self.heads, query, "q")?;
        let by_key = size("--kv-heads", self.kv_heads, key, "k")?;
        if let (Some(a), Some(b), Some(heads), Some(kv_heads)) = (by_query, by_key, self.heads, self.kv_heads)
            && a != b
        {
            let why = format!(
                "the {query} q rows in --heads {heads} make heads of {a} rows, the {key} k rows in --kv-heads {kv_heads} heads \
                 of {b}"
            );
            return Err(PlanError::Heads(why));
        }
        let Some(head_dim) = by_query.or(by_key) else { return Ok(None) };
        // Rotary embedding takes the rows of a head in pairs.
        let possible = head_dim > 0
            && head_dim.is_multiple_of(2)
            && query.is_multiple_of(head_dim)
            && key.is_multiple_of(head_dim)
            && (query / head_dim).is_multiple_of(key / head_dim);
        if !possible {
            let why = format!("heads of {head_dim} rows are not possible with {query} q rows and {key} k rows");
            return Err(PlanError::Heads(why));
        }
        Ok(Some((query / head_dim, key / head_dim, head_dim)))
    }
}

/// The numbers of heads and kv heads for each common size that the rows allow, the most common size first.
pub(super) fn common(query: u64, key: u64) -> Vec<(u64, u64, u64)> {
    let fits = |size: &u64| {
        // A model of one head is not what anybody cuts, and small models have small heads.
        query.is_multiple_of(*size)
            && key.is_multiple_of(*size)
            && query > *size
            && (query / size).is_multiple_of((key / size).max(1))
    };
    COMMON.into_iter().filter(fits).map(|size| (size, query / size, key / size)).collect()
}

/// Whether `ranks` ranks may share the attention of a model whose heads are not known.
///
/// Certain are cuts into as many parts as the source has, or a divisor of them: its own cut left every head whole. Else q and
/// k must have equally many rows, as fewer kv heads can be of any number, and all common sizes of a head that the rows and the
/// source's cut allow must be left whole. Where the rows allow none of them, the heads are those of a small model.
pub(super) fn check_cut(catalog: &Catalog, ranks: u64) -> Result<(), PlanError> {
    let Some((query, key)) = catalog.query_and_key_rows() else { return Ok(()) };
    let ways = catalog.attention_ways.max(1);
    // What the ranks do not divide at all has an error of its own.
    if ways.is_multiple_of(ranks) || query % ranks != 0 || key % ranks != 0 {
        return Ok(());
    }
    let sizes = common(query, key);
    let possible: Vec<_> = sizes.iter().filter(|(.., kv_heads)| kv_heads.is_multiple_of(ways)).collect();
    let cut: Vec<u64> =
        possible.iter().filter(|(.., kv_heads)| kv_heads % ranks != 0).map(|(size, ..)| *size).collect();
    let certain = query == key && (sizes.is_empty() || !possible.is_empty() && cut.is_empty());
    if certain { Ok(()) } else { Err(PlanError::HeadsUnknown { query, key, ranks, cut }) }
}

/// What to type, for users who know the model: examples for the sizes that the rows allow.
pub fn heads_examples(query: u64, key: u64) -> String {
    let shown = |(size, heads, kv_heads): (u64, u64, u64)| {
        format!("--heads {heads} --kv-heads {kv_heads} if a head has {size} rows")
    };
    common(query, key).into_iter().take(2).map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heads_must_divide_the_rows_and_be_of_one_size() {
        let model = crate::model::builtin("llama3_8b").unwrap();
        let of = |heads, kv_heads| Heads { heads, kv_heads }.of_rows(4096, 1024);
        assert_eq!(of(Some(64), None), Ok(Some((64, 16, 64))));
        assert_eq!(of(None, Some(8)), Ok(Some((32, 8, 128))));
        assert_eq!(of(Some(32), Some(8)), Ok(Some((32, 8, 128))));
        assert_eq!(of(None, None), Ok(None));
        for (heads, kv_heads) in [(Some(30), None), (Some(0), None), (Some(32), Some(16)), (Some(4096), None)] {
            assert!(matches!(of(heads, kv_heads), Err(PlanError::Heads(_))), "{heads:?} {kv_heads:?}");
        }
        assert!(matches!(of(Some(2), None), Err(PlanError::Heads(_))), "a head with more rows than k has");
        assert!(Heads { heads: Some(64), kv_heads: None }.agree(&model).is_err());
        // A parameter without rows, as any file may hold one.
        for (heads, kv_heads) in [(Some(2), None), (None, Some(2)), (Some(2), Some(2))] {
            assert!(
                matches!(Heads { heads, kv_heads }.of_rows(0, 0), Err(PlanError::Heads(_))),
                "{heads:?} {kv_heads:?}"
            );
        }
        let both = Heads { heads: Some(2), kv_heads: Some(2) };
        assert!(matches!(both.of_rows(0, 1024), Err(PlanError::Heads(_))));
    }

    #[test]
    fn common_sizes_are_those_that_both_rows_allow() {
        assert_eq!(common(4096, 4096), [(128, 32, 32), (64, 64, 64), (256, 16, 16)]);
        assert_eq!(common(896, 128), [(128, 7, 1), (64, 14, 2)]);
        assert_eq!(common(64, 64), []);
        assert_eq!(common(64, 16), []);
    }
}
