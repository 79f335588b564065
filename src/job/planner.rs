//! The one planner: from a source that is open to the plan of a conversion. The functions differ in what they ask of it.
//!
//! ```text
//! Case ─ reading ─► Facts: catalog, model, strategies ─ laid out over ranks, or as one whole model ─► Conversion: the plan, proved
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::case::Case;
use super::choices::{CkptRecords, Format};
use super::left_out::LeftOut;
use super::quantiser::Quantiser;
use super::reading::{self, Read};
use super::spec::Job;
use super::target::Strategies;
use super::{choices, head};
use crate::Error;
use crate::formats::{CKPT, FileLayout, FormatRef, SAFETENSORS, Segment};
use crate::input::{Companions, StrategySource};
use crate::model::FusionLayout;
use crate::model::Model;
use crate::model::naming::{HEAD, fused, is_network_buffer};
use crate::plan::{
    self, Arrangement, Catalog, Compared, ComputedEvidence, Evidence, OutputFile, Plan, PlanError, PlanOptions,
    QuantisedModel, SourceFile, StrategySet, TargetOptions, TargetRank, WholeModel, WholeReader,
};
use crate::report::Choice;
use crate::source::Extents;

/// Replicas of at most this many bytes are always compared: the norms of any model.
const SMALL_REPLICA: u64 = 1 << 20;

/// What is known of a source that was read.
pub(super) struct Facts<'a> {
    pub case: &'a Case<'a>,
    pub files: &'a [SourceFile<'a>],
    /// What is left out of it.
    pub left_out: LeftOut,
    /// Its parameters.
    pub catalog: Catalog,
    /// The model, as far as it is known.
    pub spec: Option<Model>,
    /// Whether `lm_head` is the embedding, where anything but the files says so.
    pub tied: Option<bool>,
    /// The strategy of the target, where it has one.
    pub target: Option<StrategySource>,
    /// The format of the target where none is requested.
    pub format: FormatRef,
    /// Whether large replicas are compared too.
    pub all_replicas: bool,
}

/// A plan and what belongs to it.
#[derive(Debug)]
pub(super) struct Conversion {
    pub plan: Plan,
    pub target: PathBuf,
    pub strategies: Option<Strategies>,
    /// What is compared before anything is written: replicas against what is used in their stead.
    pub replicas: (Plan, Vec<Vec<Extents>>),
    pub ignored: usize,
    /// Entries of training state that are left out: the beginning of the name, and how many.
    pub training_state: BTreeMap<&'static str, usize>,
    /// Decisions and their reasons, for the plan, the summary and the manifest.
    pub choices: Vec<Choice>,
}

/// A target whose files are laid out.
pub(super) struct LaidOut<'a> {
    pub files: Vec<SourceFile<'a>>,
    pub ranks: Vec<TargetRank>,
    pub quantised: Option<&'a QuantisedModel>,
    /// The directory.
    pub target: PathBuf,
    pub strategies: Option<Strategies>,
}

impl<'a> Facts<'a> {
    /// Reads rank files as a model. `spec`: the model, as far as anything but its tensors says what it is; `other_grouped`:
    /// whether the heads of the target's rows matter.
    pub(super) fn of_ranks(
        case: &'a Case<'a>,
        files: &'a [SourceFile<'a>],
        left_out: LeftOut,
        strategy: Option<&StrategySource>,
        (spec, other_grouped): (Option<&Model>, bool),
    ) -> Result<Self, Error> {
        let Read { catalog, spec, inferred } = reading::read(
            files,
            &reading::Reading {
                evidence: case.input(),
                spec,
                strategy,
                fusion: case.source_order(),
                other_grouped,
                heads: case.job.heads(),
                ignore: &|name| left_out.leaves_out(name),
            },
        )?;
        if let Some(text) = inferred {
            case.note(&text);
        }
        let (format, all_replicas) = (case.input().format, case.job.checks.replicas);
        Ok(Self { case, files, left_out, catalog, spec, tied: None, target: None, format, all_replicas })
    }

    /// Of a rank that goes to the target as it is: nothing of it need be understood.
    pub(super) fn of_copies(
        case: &'a Case<'a>,
        files: &'a [SourceFile<'a>],
        left_out: LeftOut,
    ) -> Result<Self, PlanError> {
        let catalog = Catalog::copied(files, &|name| left_out.leaves_out(name))?;
        let (format, all_replicas) = (case.input().format, case.job.checks.replicas);
        Ok(Self { case, files, left_out, catalog, spec: None, tied: None, target: None, format, all_replicas })
    }

    /// Plans how it goes there, name by name.
    pub(super) fn copied(&self) -> Result<Conversion, Error> {
        let job = self.case.job;
        let (rank, layouts) = plan::copied(self.files, |name| self.left_out.leaves_out(name))?;
        let name = format!("{}_1p", job.precision);
        let strategies = Strategies::new(job.target.strategies.join(&name).join("strategy"), 1, &layouts);
        let (files, target) = (self.files.to_vec(), job.target.dir.join(name));
        let laid_out = LaidOut { files, ranks: vec![rank], quantised: None, target, strategies };
        self.planned(laid_out, &plan_options(job, self.format, 1)?)
    }

    /// Reads rank files for ranks: with the model that is known, and its head where it belongs.
    pub(super) fn for_ranks(
        case: &'a Case<'a>,
        files: &'a [SourceFile<'a>],
        left_out: LeftOut,
        strategy: Option<&StrategySource>,
        target: Option<StrategySource>,
    ) -> Result<Self, Error> {
        let known = case.known;
        if let Some(why) = &known.unused {
            case.note(why);
        }
        let other_grouped = case.target_order() == FusionLayout::Grouped;
        let mut facts = Self::of_ranks(case, files, left_out, strategy, (known.spec(), other_grouped))?;
        facts.tied = head::stated(case.job, known)?;
        let has_head =
            target.as_ref().is_some_and(|target| target.set.stages().iter().any(|stage| stage.contains_key(HEAD)));
        if facts.tied == Some(true) && !has_head {
            head::leave_copy_out(case, files, &mut facts.catalog)?;
        }
        facts.target = target;
        Ok(facts)
    }

    /// Plans how the source is laid over the ranks of the target. `quantiser`: makes another model of it.
    pub(super) fn over_ranks(&self, quantiser: Option<&Quantiser>) -> Result<Conversion, Error> {
        let (job, catalog, spec) = (self.case.job, &self.catalog, self.spec.as_ref());
        let wanted = self.target.as_ref().map(|strategy| self.wanted(&strategy.set));
        let ranks = job.target.ranks.map(u64::from);
        let arrangement = match &wanted {
            Some(set) => match ranks.filter(|ranks| *ranks != set.ranks()) {
                Some(ranks) => {
                    return Err(PlanError::StrategyRanks { side: "target", strategy: set.ranks(), ranks }.into());
                }
                None => Arrangement::Strategy(set),
            },
            None => Arrangement::Rules(ranks.unwrap_or(1)),
        };
        // What is whole on one rank need not be a model that is known.
        let any = arrangement.ranks() == 1 && spec.is_none() && !catalog.is_of_a_family();
        if matches!(arrangement, Arrangement::Rules(_)) && !any {
            catalog.check_complete(self.tied)?;
        }
        let named = self.case.known.named.as_ref();
        let fused = job.target.fused.or_else(|| named.and_then(|spec| spec.fused)).unwrap_or(catalog.fused);
        let whole = job.target.vocabulary_whole.or_else(|| named.map(|spec| spec.vocabulary_whole));
        let quantise = |quantiser: &Quantiser| {
            quantiser.model(job, self.files, catalog, self.spec.as_ref(), fused, arrangement.ranks())
        };
        let quantised = quantiser.map(quantise).transpose()?;
        let options = TargetOptions {
            spec,
            arrangement,
            fusion: self.case.target_order(),
            fused,
            vocabulary_whole: whole.unwrap_or(catalog.vocabulary_whole.unwrap_or(false)),
        };
        let mut files = self.files.to_vec();
        files.extend(quantised.as_ref().map(plan::computed_file));
        let laid_out = quantised.as_ref().map_or(catalog, |model| &model.catalog);
        let of_source: &dyn Evidence = self.case.input();
        let targets = match &quantised {
            Some(model) => plan::targets(laid_out, &files, &ComputedEvidence::new(of_source, model), &options)?,
            None => plan::targets(laid_out, &files, of_source, &options)?,
        };
        let ranks = targets.len();
        let layouts = plan::strategies(&targets, &options);
        let name = format!("{}_{ranks}p", job.precision);
        let suffix = if is_fused(&targets) { "_qkv" } else { "" };
        let strategies = Strategies::new(job.target.strategies.join(&name).join("strategy"), ranks, &layouts);
        let target = job.target.dir.join(format!("{name}{suffix}"));
        let plan_options = plan_options(job, self.format, ranks)?;
        self.planned(
            LaidOut { files, ranks: targets, quantised: quantised.as_ref(), target, strategies },
            &plan_options,
        )
    }

    /// The plan of a target that is laid out, proved.
    pub(super) fn planned(&self, laid_out: LaidOut<'_>, options: &PlanOptions) -> Result<Conversion, Error> {
        let LaidOut { files, ranks, quantised, target, strategies } = laid_out;
        let choices = self.case.fusion_choices(self.catalog.fused, is_fused(&ranks));
        let plan = match quantised {
            Some(model) => plan::build_quantised(&files, model, ranks, options)?,
            None => plan::build(self.files, &self.catalog, ranks, options)?,
        };
        plan::prove(&plan)?;
        let replicas = self.replicas()?;
        let ignored = self.left_out.ignored(&self.catalog);
        let training_state = self.left_out.training_state().clone();
        Ok(Conversion { plan, target, strategies, replicas, ignored, training_state, choices })
    }

    /// The target's strategy without what is to be left out, and without the buffers of the running network, which the strategy
    /// of an inference network names and no checkpoint holds.
    fn wanted(&self, target: &StrategySet) -> StrategySet {
        let asked_out = |name: &str| self.left_out.is_asked_out(name);
        let mut buffers: BTreeSet<String> = target.stages().iter().flat_map(BTreeMap::keys).cloned().collect();
        buffers.retain(|name| is_network_buffer(name) && self.catalog.get(name).is_none() && !asked_out(name));
        if !buffers.is_empty() {
            let names: Vec<String> = buffers.iter().cloned().collect();
            self.case.note(&format!(
                "the target's strategy names buffers that no checkpoint holds; they were left out: {}",
                plan::list(&names)
            ));
        }
        target.without(|name| buffers.contains(name) || asked_out(name))
    }

    /// What is compared before anything is written. What is not is said.
    fn replicas(&self) -> Result<(Plan, Vec<Vec<Extents>>), PlanError> {
        let (files, catalog) = (self.files, &self.catalog);
        let at_most = if self.all_replicas { u64::MAX } else { SMALL_REPLICA };
        let replicas = plan::compare(Compared::Replicas { at_most }, files, catalog, files, catalog);
        plan::prove_covered(&replicas.0)?;
        let larger = catalog.replicas_above(at_most);
        if larger > 0 {
            self.case.note(&format!(
                "{larger} replicas of large parameters are taken to be equal; --check-replicas compares them"
            ));
        }
        Ok(replicas)
    }
}

impl Conversion {
    /// Adds files to the target that are carried along.
    pub(super) fn carry_along(&mut self, case: &Case<'_>, carried: Companions) {
        carried.notes.iter().for_each(|text| case.note(text));
        for (path, content) in carried.files {
            let segments = if content.is_empty() { Vec::new() } else { vec![Segment::Literal(content)] };
            let layout = FileLayout { segments };
            self.plan.outputs.push(OutputFile { path, rank: None, format: None, layout, tensors: Vec::new() });
        }
    }
}

fn is_fused(targets: &[TargetRank]) -> bool {
    targets.iter().flat_map(|t| &t.entries).any(|e| fused(&e.name).is_some_and(|f| *f.name == *e.name))
}

/// How rank files are written.
fn plan_options(job: &Job, source: FormatRef, ranks: usize) -> Result<PlanOptions, Error> {
    let target = &job.target;
    let format = match target.format {
        Some(Format::Ckpt) => CKPT,
        Some(Format::Safetensors) => SAFETENSORS,
        // No rank file is one of PyTorch's.
        None | Some(Format::Bin) => source,
    };
    if target.max_shard_size.is_some() && (ranks != 1 || !format.is_numbered()) {
        return Err(Error::Usage("--max-shard-size goes with -w 1 and --format safetensors".to_owned()));
    }
    if target.crc && !format.writes_crc() {
        return Err(Error::Usage(
            "--crc goes with --format ckpt: a safetensors file would state its CRC before the bytes, which are written as \
             they come; the manifest has the sums of all tensors"
                .to_owned(),
        ));
    }
    Ok(PlanOptions {
        precision: job.weights(),
        norms: job.norms(),
        format,
        crc: target.crc,
        padding: target.ckpt_records == CkptRecords::Aligned,
        whole: target.max_shard_size.map(|shard_bytes| WholeModel { shard_bytes, reader: WholeReader::MindSpore }),
    })
}

/// A quantised checkpoint keeps its precision, which must be the one that was named.
pub(super) fn check_precision(precision: choices::Precision, catalog: &Catalog) -> Result<(), PlanError> {
    let asked = precision.quantises();
    let held = catalog.quantised_as();
    if asked == held || (precision == choices::Precision::Keep) {
        return Ok(());
    }
    let why = match (held, asked) {
        (None, _) => {
            format!("the source is not quantised: -f quant_weight -p {precision} makes {precision} of it")
        }
        (Some(held), _) => match choices::Precision::ALL.iter().find(|p| p.quantises() == Some(held)) {
            Some(same) => format!("the source is quantised ({same}) and stays so: -p {same}, not -p {precision}"),
            None => format!("the source is quantised ({held}) and stays so: -p keep, not -p {precision}"),
        },
    };
    Err(PlanError::Quantised(why))
}
