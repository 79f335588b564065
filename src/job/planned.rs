//! A job that is planned: what will be written, from what, and why so.

use std::path::{Path, PathBuf};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::case::{Beside, Case};
use super::choices::Function;
use super::known_model::KnownModel;
use super::observer::{Observer, Once, Silent};
use super::planner::Conversion;
use super::reading::{self, Opened};
use super::spec::Job;
use super::statistics::Gathering;
use super::target::Strategies;
use super::{families, gguf_to_hf, ms_to_pt, pt_to_ms, quant_weight, train_to_infer, transfer};
use crate::Error;
use crate::cluster::plan_id;
use crate::engine::CancelToken;
use crate::plan::Plan;
use crate::report::{Choice, PartOf, Provenance};

/// A job that is planned. Nothing was written.
#[derive(Debug)]
pub struct Planned {
    pub(super) job: Job,
    pub(super) opened: Opened,
    known: KnownModel,
    pub(super) beside: Beside,
    pub(super) conversion: Conversion,
    notes: Vec<String>,
}

impl Job {
    /// Opens the source and plans what is to be written. Reads headers, writes nothing; what a user should know is in
    /// [`Planned::notes`].
    ///
    /// The files of the source, and everything else that the job names, must stay unchanged as long as the plan is there.
    ///
    /// # Errors
    /// What does not go together in the job, a source that cannot be read or is not what the job says, a target that cannot be made
    /// of it.
    pub fn plan(&self) -> Result<Planned, Error> {
        self.plan_with(&Silent)
    }

    /// As [`Self::plan`]; each note also goes to the observer, where an error may follow.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_with(&self, observer: &dyn Observer) -> Result<Planned, Error> {
        let planned = Planned::make(self, observer)?;
        if self.runs_the_model() {
            observer.note("a dry run does not run the model: the numbers of its activations are not in this plan");
        }
        Ok(planned)
    }
}

impl Planned {
    pub(super) fn make(job: &Job, observer: &dyn Observer) -> Result<Self, Error> {
        let once = Once::new(observer, Vec::new());
        job.check()?;
        families::read_missing(&job.model.families, &once)?;
        let opened = Opened::of_job(job, &once)?;
        opened.refuse_whole_numbers(job, &once)?;
        if let Some(text) = reading::other_strategies(&job.source.path, job.source.strategy.as_deref())? {
            once.note(&text);
        }
        let known = KnownModel::of_job(job)?;
        let beside = Beside::look(job, &once, &opened, &known)?;
        let case = Case { job, observer: &once, opened: &opened, known: &known, beside: &beside };
        let conversion = reading::as_read(&opened.input().mappings(), recipe(&case, Gathering::Placeholder))?;
        let notes = once.into_said();
        Ok(Self { job: job.clone(), opened, known, beside, conversion, notes })
    }

    /// Runs the model for the statistics that nothing else has, and plans anew with them.
    pub(super) fn gather(&mut self, observer: &dyn Observer, cancel: &CancelToken) -> Result<(), Error> {
        if !self.job.runs_the_model() {
            return Ok(());
        }
        let mut keep = self.conversion.target.clone().into_os_string();
        keep.push(".statistics.safetensors");
        let keep = PathBuf::from(keep);
        let once = Once::new(observer, std::mem::take(&mut self.notes));
        let (job, opened, known, beside) = (&self.job, &self.opened, &self.known, &self.beside);
        let case = Case { job, observer: &once, opened, known, beside };
        let gathering = Gathering::Run { keep: &keep, cancel };
        self.conversion = reading::as_read(&self.opened.input().mappings(), recipe(&case, gathering))?;
        self.notes = once.into_said();
        Ok(())
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The plan.
    pub(crate) fn plan_value(&self) -> &Plan {
        &self.conversion.plan
    }

    /// The directory that will be made.
    pub fn target(&self) -> &Path {
        &self.conversion.target
    }

    /// The directory of strategy files that will be made with it, if any.
    pub fn strategies(&self) -> Option<&Path> {
        self.conversion.strategies.as_ref().map(Strategies::dir)
    }

    /// What was decided that the files did not settle alone, and why.
    pub fn choices(&self) -> &[Choice] {
        &self.conversion.choices
    }

    /// What a user should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The fingerprint of the plan: two that are the same write the same bytes.
    pub fn id(&self) -> String {
        plan_id(&self.conversion.plan, &reading::sources(&self.opened.input().mappings()))
    }

    /// Where the result comes from: the job as it was settled, restricted to what decides. `plan`: the fingerprint of the plan;
    /// `part`: which part of a whole it is.
    pub(super) fn provenance(&self, plan: &str, part: Option<PartOf>) -> Provenance {
        Provenance {
            options: self.beside.settled(&self.job).deciding(),
            choices: self.conversion.choices.clone(),
            plan: plan.to_owned(),
            strategies: self.conversion.strategies.as_ref().map(Strategies::sum),
            part,
        }
    }
}

/// The job with what was left open settled, and what will be made.
impl Serialize for Planned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let files: Vec<_> = self.conversion.plan.outputs.iter().map(|file| (&file.path, file.layout.len())).collect();
        let mut planned = serializer.serialize_struct("Planned", 6)?;
        planned.serialize_field("job", &self.beside.settled(&self.job))?;
        planned.serialize_field("plan", &self.id())?;
        planned.serialize_field("target", &self.conversion.target.display().to_string())?;
        planned.serialize_field("files", &files)?;
        planned.serialize_field("choices", &self.conversion.choices)?;
        planned.serialize_field("notes", &self.notes)?;
        planned.end()
    }
}

/// The recipe of the job's function.
fn recipe(case: &Case<'_>, gathering: Gathering<'_>) -> Result<Conversion, Error> {
    let planned = match (case.opened, case.job.function) {
        (Opened::Foreign(source), function) => match &source.gguf {
            Some(gguf) if function == Function::MsToPt => gguf_to_hf::plan(case, source, gguf),
            _ => pt_to_ms::plan(case, source),
        },
        (Opened::Ours(_), Function::MsToPt) => ms_to_pt::plan(case),
        (Opened::Ours(_), Function::QuantWeight) => quant_weight::plan(case, gathering),
        (Opened::Ours(_), Function::TrainToInfer) => train_to_infer::plan(case),
        (Opened::Ours(_), Function::DistributedWeightTransfer | Function::PtToMs) => transfer::plan(case),
    };
    let mut conversion = planned.map_err(|error| case.known.explain(error))?;
    conversion.choices.extend(case.known.choice());
    if conversion.plan.totals().tensors == 0 {
        return Err(Error::Usage(
            "nothing is left to convert: every tensor of the source is left out (--ignore, --drop, or no part of the model)"
                .to_owned(),
        ));
    }
    Ok(conversion)
}
