//! The one place that decides in which order the rows of fused parameters are, and says why.
//!
//! | side | what decides, the first that says something |
//! |---|---|
//! | target | `--dst-fusion`; a yaml of mindformers 1.4 or later; a fused source whose manifest states its order; rank-concat |
//! | source | `--src-fusion`; our `manifest.json` beside it; rank-concat |
//!
//! rank-concat is the order of mindformers up to 1.3 and of the original scripts with their yamls. Two that contradict each other
//! are refused unless `--force-fusion` lets the option decide. The sizes of the source's rows are a check: they decide nothing,
//! but rank-concat is not taken as the usual order where they contradict it.

use super::choices::Fusion;
use super::observer::Observer;
use crate::Error;
use crate::formats::Entry;
use crate::input::{Beside, LoadedFile, Made};
use crate::model::FusionLayout;
use crate::model::VersionSign;
use crate::model::naming::{fused, is_lora};
use crate::report::Choice;

/// An order, and why it is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub layout: FusionLayout,
    pub why: String,
    /// Whether something states it, so that it is not only what is usual.
    pub stated: bool,
    /// Whether there are fused parameters at all.
    pub fused: bool,
}

impl Order {
    fn stated(layout: FusionLayout, why: String) -> Self {
        Self { layout, why, stated: true, fused: true }
    }

    fn usual(why: String) -> Self {
        Self { layout: FusionLayout::RankConcat, why, stated: false, fused: true }
    }

    /// Compares the order with the one that the sizes of the source's rows show, if any. Returns what to say where they show
    /// another: they are a check, and decide nothing.
    pub(super) fn check(&mut self, shown: Option<FusionLayout>) -> Option<String> {
        let shown = shown.filter(|_| self.fused)?;
        if shown == self.layout {
            self.why.push_str("; the sizes of its rows agree");
            return None;
        }
        self.why = format!("{}; but the sizes of its rows look {shown}", self.why);
        Some(format!(
            "the source is taken as {}, but the sizes of its gate and up rows look {shown}: check where it comes from",
            self.layout
        ))
    }

    /// As a decision. `side`: whose order it is.
    pub(super) fn choice(&self, side: &str) -> Choice {
        Choice::new(format!("order of fused rows in the {side}"), &self.layout, self.why.as_str())
    }
}

/// An option that states an order, and whether it decides against everything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed {
    pub option: &'static str,
    pub order: Option<FusionLayout>,
    pub force: bool,
}

impl Typed {
    pub(super) fn new(option: &'static str, order: Option<Fusion>, force: bool) -> Self {
        Self { option, order: order.map(FusionLayout::from), force }
    }

    /// The option's order against what `evidence` says, which requires `other`.
    fn against(self, other: FusionLayout, evidence: &str) -> Option<Result<Order, Error>> {
        let Self { option, order, force } = self;
        let order = order?;
        Some(if order == other {
            Ok(Order::stated(order, format!("{option}, and {evidence}")))
        } else if force {
            Ok(Order::stated(order, format!("{option} and --force-fusion, although {evidence}")))
        } else {
            Err(Error::FusionContradicted { option, order, evidence: evidence.to_owned(), other })
        })
    }

    /// What is passed on where it makes no difference.
    fn unfused(self) -> Order {
        Order { layout: self.order.unwrap_or_default(), ..Order::default() }
    }

    fn alone(self) -> Option<Order> {
        Some(Order::stated(self.order?, self.option.to_owned()))
    }
}

/// The order of a source's fused rows. `made`: our manifest beside it.
pub(super) fn source_order(typed: Typed, fused: bool, made: Option<&Made>) -> Result<Order, Error> {
    if !fused {
        return Ok(typed.unfused());
    }
    match made {
        Some(made) => {
            let evidence = format!("{} says so", made.manifest.display());
            typed.against(made.fusion, &evidence).unwrap_or_else(|| Ok(Order::stated(made.fusion, evidence)))
        }
        None => Ok(typed.alone().unwrap_or_else(|| {
            Order::usual(format!(
                "usual up to mindformers 1.3; neither {} nor a manifest.json of ckpt-convert beside it states another",
                typed.option
            ))
        })),
    }
}

/// What is known of a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetFacts<'a> {
    pub typed: Typed,
    /// Whether it may have fused parameters.
    pub fused: bool,
    /// The yaml, and what in it shows mindformers 1.4 or later.
    pub sign: Option<(&'a str, VersionSign)>,
    /// The order of the source's fused rows, where something else than an option states it.
    pub source: Option<FusionLayout>,
    /// Whether the source's ranks stay as they are.
    pub same_ranks: bool,
}

/// The order of a target's fused rows.
pub(super) fn target_order(facts: TargetFacts<'_>) -> Result<Order, Error> {
    let TargetFacts { typed, fused, sign, source, same_ranks } = facts;
    if !fused {
        return Ok(typed.unfused());
    }
    if let Some((yaml, sign)) = sign.filter(|_| !same_ranks) {
        let evidence = evidence(yaml, sign);
        let grouped = FusionLayout::Grouped;
        return typed.against(grouped, &evidence).unwrap_or_else(|| Ok(Order::stated(grouped, evidence)));
    }
    Ok(match (typed.alone(), source) {
        (Some(order), _) => order,
        (None, Some(order)) => Order::stated(order, "as the source".to_owned()),
        (None, None) => Order::usual(
            "as the original scripts and mindformers up to 1.3 have it; nothing shows a later version, for which \
             --dst-fusion grouped is right"
                .to_owned(),
        ),
    })
}

/// A yaml of mindformers 1.4 or later, in words.
pub(super) fn evidence(yaml: &str, sign: VersionSign) -> String {
    format!("{yaml} is for mindformers 1.4 or later: it has `{}`, known since {}", sign.key, sign.since)
}

/// Whether entries hold a fused weight or bias.
pub(super) fn is_fused<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> bool {
    entries.any(|entry| !is_lora(&entry.name) && fused(&entry.name).is_some_and(|f| *f.name == *entry.name))
}

/// Our manifest beside a source. A note says that another program's is not read.
pub(super) fn made(
    source: &std::path::Path,
    found: &[LoadedFile],
    observer: &dyn Observer,
) -> Result<Option<Made>, Error> {
    Ok(match Made::beside(source, found)? {
        Beside::Made(made) => Some(made),
        Beside::Other(path) => {
            observer.note(&format!("{} is not a manifest of ckpt-convert and is not read", path.display()));
            None
        }
        Beside::Nothing => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANK: FusionLayout = FusionLayout::RankConcat;
    const GROUPED: FusionLayout = FusionLayout::Grouped;

    /// (--dst-fusion, --force-fusion, fused, a sign of 1.4, the source's manifest, the ranks are kept) and what follows;
    /// `None`: refused.
    type Row = (Option<FusionLayout>, bool, bool, bool, Option<FusionLayout>, bool, Option<FusionLayout>);

    #[test]
    fn the_targets_order_follows_the_table() {
        let rows: [Row; 16] = [
            (None, false, true, false, None, false, Some(RANK)),
            (None, false, true, true, None, false, Some(GROUPED)),
            (None, false, true, true, Some(RANK), false, Some(GROUPED)),
            (None, false, true, false, Some(GROUPED), false, Some(GROUPED)),
            (None, false, true, false, Some(RANK), false, Some(RANK)),
            (None, false, false, true, Some(GROUPED), false, Some(RANK)),
            (None, true, true, true, None, false, Some(GROUPED)),
            (None, false, true, true, Some(RANK), true, Some(RANK)),
            (Some(GROUPED), false, true, false, None, false, Some(GROUPED)),
            (Some(GROUPED), false, true, false, Some(RANK), false, Some(GROUPED)),
            (Some(GROUPED), false, true, true, Some(RANK), false, Some(GROUPED)),
            (Some(RANK), false, true, false, Some(GROUPED), false, Some(RANK)),
            (Some(RANK), false, true, true, None, false, None),
            (Some(RANK), true, true, true, None, false, Some(RANK)),
            (Some(RANK), false, false, true, None, false, Some(RANK)),
            (Some(GROUPED), false, false, false, None, false, Some(GROUPED)),
        ];
        for row in rows {
            let (order, force, fused, signed, source, same_ranks, expected) = row;
            let sign = signed.then_some(("a.yaml", VersionSign { key: "use_legacy", since: "1.5.0" }));
            let typed = Typed { option: "--dst-fusion", order, force };
            let decided = target_order(TargetFacts { typed, fused, sign, source, same_ranks });
            assert_eq!(decided.as_ref().map(|order| order.layout).ok(), expected, "{row:?}: {decided:?}");
            assert!(!fused || decided.is_err() || !decided.unwrap().why.is_empty(), "{row:?}");
        }
    }
}
