//! A job whose source is open: what lies beside it, which model it is, and in which order fused rows are.

use super::choices::Function;
use super::fusion_order::{self, Order, TargetFacts, Typed};
use super::known_model::KnownModel;
use super::observer::Observer;
use super::patterns::Patterns;
use super::reading::Opened;
use super::row_sizes;
use super::spec::{Job, Model};
use crate::Error;
use crate::input::{Input, Made, RankGaps, load_version_sign};
use crate::model::FusionLayout;
use crate::report::Choice;

/// A job whose source is open.
pub(super) struct Case<'a> {
    pub job: &'a Job,
    pub observer: &'a dyn Observer,
    pub opened: &'a Opened,
    pub known: &'a KnownModel,
    pub beside: &'a Beside,
}

/// What lies beside a source, and what follows from it.
#[derive(Debug)]
pub(super) struct Beside {
    /// Our manifest.
    pub made: Option<Made>,
    pub orders: Orders,
    /// Whether every tensor goes whole from the one rank of the source to the one rank of the target, whatever it is: no family
    /// is known that it could be laid out by, and nothing is to be.
    pub copied: bool,
}

/// In which order the rows of fused parameters are.
#[derive(Debug)]
pub(super) struct Orders {
    pub source: Order,
    pub target: Order,
}

impl Case<'_> {
    pub(super) fn note(&self, text: &str) {
        self.observer.note(text);
    }

    pub(super) fn input(&self) -> &Input {
        self.opened.input()
    }

    /// The order of the source's fused rows.
    pub(super) fn source_order(&self) -> FusionLayout {
        self.beside.orders.source.layout
    }

    /// The order of the target's fused rows.
    pub(super) fn target_order(&self) -> FusionLayout {
        self.beside.orders.target.layout
    }

    /// The orders as decisions, for each side that is fused.
    pub(super) fn fusion_choices(&self, source_fused: bool, target_fused: bool) -> Vec<Choice> {
        let Orders { source, target } = &self.beside.orders;
        let source = (source_fused && source.fused).then(|| source.choice("source"));
        source.into_iter().chain((target_fused && target.fused).then(|| target.choice("target"))).collect()
    }
}

impl Beside {
    /// Looks at what lies beside the source, and decides in which order fused rows are.
    pub(super) fn look(job: &Job, observer: &dyn Observer, opened: &Opened, known: &KnownModel) -> Result<Self, Error> {
        let (source, input) = (&job.source.path, opened.input());
        let mut made = fusion_order::made(source, &input.files, observer)?;
        let fits = made.as_ref().map_or(Ok(()), |made| made.check(source, &input.files, job.gaps()));
        if let Err(stale) = fits {
            // No order of rows depends on it where the files are not rank files.
            if matches!(opened, Opened::Ours(_)) || job.checks.source {
                return Err(stale.into());
            }
            observer.note(&format!("{stale}; the manifest is not used"));
            made = None;
        }
        let yaml = job.model.yaml.as_deref();
        let sign = yaml.map(load_version_sign).transpose()?.flatten();
        let sign = yaml.zip(sign);
        let same_ranks = job.target.strip_only;
        let ours = matches!(opened, Opened::Ours(_));
        let copied = ours && known.spec().is_none() && is_copied(job, opened)?;
        let entries = || input.files.iter().flat_map(|file| &file.entries);
        let source_fused = ours && !copied && fusion_order::is_fused(entries());
        let force = job.model.force_fusion;
        let typed = Typed::new("--src-fusion", job.source.fusion, force);
        let mut source = fusion_order::source_order(typed, source_fused, made.as_ref())?;
        let shown = if source_fused { row_sizes::order(input)? } else { None };
        if source_fused && !source.stated && !same_ranks {
            let unusual = "rank-concat, the usual one up to mindformers 1.3, does not fit".to_owned();
            let evidence = sign.map(|(yaml, sign)| fusion_order::evidence(yaml, sign));
            let evidence = evidence.or((shown == Some(FusionLayout::Grouped)).then_some(unusual));
            if let Some(evidence) = evidence {
                return Err(Error::FusionUnknown { evidence, shown });
            }
        }
        if let Some(other) = source.check(shown) {
            observer.note(&other);
        }
        let by_names = job.target.strategy.is_some() || same_ranks;
        let fused = match job.target.fused {
            _ if job.function == Function::MsToPt || copied => false,
            _ if by_names => true,
            Some(fused) => fused,
            None => known.named.as_ref().and_then(|spec| spec.fused).unwrap_or(source_fused),
        };
        let facts = TargetFacts {
            typed: Typed::new("--dst-fusion", job.target.fusion, force),
            fused,
            sign,
            source: (source_fused && (made.is_some() || same_ranks)).then_some(source.layout),
            same_ranks,
        };
        let target = fusion_order::target_order(facts)?;
        Ok(Self { made, orders: Orders { source, target }, copied })
    }

    /// Whether the source has fused parameters.
    pub(super) fn source_is_fused(&self) -> bool {
        self.orders.source.fused
    }

    /// The job with what was left open settled, as the manifest says it.
    pub(super) fn settled(&self, job: &Job) -> Job {
        let mut job = job.clone();
        job.source.fusion = Some(self.orders.source.layout.into());
        job.target.fusion = Some(self.orders.target.layout.into());
        job
    }
}

/// Whether a job only copies the one rank of a model of no known family: nothing is said that it would have to be understood for.
fn is_copied(job: &Job, opened: &Opened) -> Result<bool, Error> {
    let (source, target) = (&job.source, &job.target);
    let by_strategy = source.strategy.is_some() || target.strategy.is_some();
    let ordered = source.fusion.is_some() || target.fusion.is_some() || target.fused.is_some();
    let several = target.ranks.is_some_and(|ranks| ranks != 1);
    let described = job.model != Model { families: job.model.families.clone(), ..Model::default() };
    if job.function != Function::DistributedWeightTransfer || by_strategy || several || ordered || described {
        return Ok(false);
    }
    let ignore = Patterns::of("--ignore", &job.edits.ignore)?;
    Ok(opened.is_of_no_family(&|name| ignore.matches(name)))
}

impl Job {
    /// Whether rank directories may be missing: replicas may replace them where there is a strategy.
    pub(super) fn gaps(&self) -> RankGaps {
        if self.source.strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused }
    }
}
