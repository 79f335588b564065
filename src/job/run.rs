//! The one orchestrator: plan, check, compute, stage, run, publish, for one process that does all of it and for several.
//!
//! ```text
//! plan ─► place: all of it, or a part ─► targets, space, source, replicas ─► stage ─► computed ─► groups written ─► published
//!                                                                            └ a directory beside the target, or a session
//! ```
//!
//! What differs is hidden by [`Stage`] and [`Unpublished`]: a process that is alone stages below a hidden name and takes back what it
//! cannot finish ([`super::alone`]); one of several meets the others beside the target ([`super::together`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alone::Alone;
use super::dry_run::Completion;
use super::observer::{Observer, PeakMemory, Step};
use super::planned::Planned;
use super::planner::Conversion;
use super::spec::Job;
use super::stage::{Finished, Means, Stage, Unpublished};
use super::target::Strategies;
use super::together::Part;
use super::{checks, reading, settings, targets};
use crate::Error;
use crate::cluster::EarlyFailures;
use crate::engine::{self, Calculated, CancelToken, EngineConfig, EngineError, RunSummary};
use crate::plan::Plan;
use crate::report::{PartOf, Summary, manifest};
use crate::storage::LocalBlob;
use crate::sys::{FileError, FileOp};

/// How a job ended that did not fail.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The target is published, by this process.
    Published(Box<Summary>),
    /// The target was there; its strategies, which an interrupted run had not published, are now there too.
    Completed(Completion),
    /// The target is published, by another host of the same job.
    Elsewhere(PathBuf),
    /// This host's share is written; so many hosts have not begun, and the last one publishes.
    Left(usize),
}

impl Job {
    /// Plans and runs. Where the process is one of several, the others are notified of what stops it, the plan included.
    ///
    /// # Errors
    /// As [`Job::plan`] and [`Planned::run`].
    pub fn run(&self, observer: &dyn Observer, cancel: &CancelToken) -> Result<Outcome, Error> {
        telling_others(self, |early| Planned::make(self, observer)?.carry_out(observer, cancel, early))
    }
}

impl Planned {
    /// Moves the bytes and publishes what was made.
    ///
    /// # Errors
    /// A target that may not be made, a source or replicas that are not what they should be, too little space or memory, a
    /// machine that fails, another host that does, or `cancel`. Nothing is published then, unless the error says so.
    pub fn run(self, observer: &dyn Observer, cancel: &CancelToken) -> Result<Outcome, Error> {
        let job = self.job.clone();
        telling_others(&job, |early| self.carry_out(observer, cancel, early))
    }

    fn carry_out(
        mut self,
        observer: &dyn Observer,
        cancel: &CancelToken,
        early: Option<&EarlyFailures>,
    ) -> Result<Outcome, Error> {
        let place = Place::of(&mut self, early, observer)?;
        if place.is_over() {
            return place.elsewhere(&self, observer);
        }
        if let (Place::Whole, Some(strategies)) = (&place, targets::missing_strategies(&self)) {
            targets::keep_apart(&self)?;
            targets::complete(&self, strategies, observer)?;
            let (target, strategies) = (self.conversion.target.clone(), strategies.dir().to_owned());
            return Ok(Outcome::Completed(Completion { target, strategies }));
        }
        let free = match targets::check(&self) {
            // It was published in the meantime.
            Err(_) if place.is_over() => return place.elsewhere(&self, observer),
            Err(error) => {
                targets::say_whole(&self, &error, observer);
                return Err(error);
            }
            Ok(free) => free,
        };
        let free = place.reclaim(&self, free, observer)?;
        let mut mappings = self.opened.input().mappings();
        let bytes = place.bytes(&self.conversion.plan);
        let chosen = settings::settle(&self.job.requested(), &mappings, Some((&self.conversion.target, bytes)));
        place.check_room(&self, free)?;
        let memory = settings::memory(&self.conversion.plan, &chosen.config);
        if memory > chosen.memory {
            return Err(Error::TooLittleMemory { needed: memory, allowed: chosen.memory });
        }
        checks::check(&self, &chosen.config, observer, cancel)?;
        // Until here nothing is written, and the process may end in any way.
        observer.before_writing()?;
        self.gather(observer, cancel)?;
        let Some(mut stage) = place.begin(&self, early, observer, cancel)? else {
            return place.elsewhere(&self, observer);
        };
        let (mut begun, mut peak) = (Instant::now(), 0);
        if !stage.is_complete() {
            match self.write(&mut *stage, &mut mappings, &chosen.config, (observer, cancel)) {
                Ok(written) => (begun, peak) = written,
                Err(e) => {
                    return match stage.stopped(e) {
                        Some(e) => Err(e),
                        None => place.elsewhere(&self, observer),
                    };
                }
            }
        }
        match stage.finish(cancel, observer)? {
            Finished::Ours(unpublished) => {
                let result = self.publish(unpublished, &place, (observer, cancel))?;
                Ok(Outcome::Published(Box::new(self.conversion.summary(&result, begun.elapsed(), peak))))
            }
            Finished::Elsewhere => place.elsewhere(&self, observer),
            Finished::Left(hosts) => {
                observer.note(&format!(
                    "this host's share is written; {hosts} hosts have not begun, and the last one publishes"
                ));
                Ok(Outcome::Left(hosts))
            }
        }
    }

    /// Computes what must be known before, then writes group by group. Returns when the first was begun, and the most anonymous
    /// memory that was seen since.
    fn write(
        &mut self,
        stage: &mut dyn Stage,
        mappings: &mut Vec<Arc<LocalBlob>>,
        engine: &EngineConfig,
        (observer, cancel): (&dyn Observer, &CancelToken),
    ) -> Result<(Instant, u64), Error> {
        if !self.conversion.plan.passes.is_empty() && stage.has_work() {
            stage.computed(compute(&self.conversion.plan, mappings, engine, (observer, cancel))?);
        }
        let (groups, bytes) = stage.groups(self, engine.workers, observer)?;
        let (begun, peak) = (Instant::now(), PeakMemory::watch());
        let step = Step::begin_whole(observer, "converting", bytes);
        let plan = &self.conversion.plan;
        for group in &groups {
            stage.write(plan, group, &Means { engine, mappings, step: &step, cancel })?;
            reading::check_unchanged(mappings, observer)?;
            stage.keep(plan, group)?;
        }
        stage.done()?;
        step.finish();
        Ok((begun, peak.finish()))
    }

    /// Publishes what is all written, after a last look at the sources and at what would be replaced.
    fn publish(
        &self,
        mut unpublished: Box<dyn Unpublished>,
        place: &Place,
        (observer, cancel): (&dyn Observer, &CancelToken),
    ) -> Result<RunSummary, Error> {
        let plan = &self.conversion.plan;
        let result = unpublished.result(plan)?;
        let mut ready = || {
            // Others may have read what has been in the same files since this process read them.
            reading::check_unchanged(&self.opened.input().mappings(), observer)?;
            let (id, part) = place.identity(self);
            let provenance = self.provenance(&id, part);
            unpublished.write(&mut |to| manifest(plan, &result, &provenance, to))?;
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled.into());
            }
            targets::check_again(self)
        };
        if let Err(e) = ready() {
            unpublished.give_back();
            return Err(e);
        }
        unpublished.publish(self, observer)?;
        Ok(result)
    }
}

impl Conversion {
    /// What a finished run did, whichever process did it.
    fn summary(&self, result: &RunSummary, time: Duration, peak: u64) -> Summary {
        let mut summary = Summary::new(&self.plan, result, time, peak);
        summary.target = self.target.display().to_string();
        summary.strategies = self.strategies.as_ref().map(|s| s.dir().display().to_string());
        summary.ignored = self.ignored;
        summary.training_state = self.training_state.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
        summary.choices.clone_from(&self.choices);
        summary
    }
}

/// Computes what must be known before anything is written; it becomes the last of the mappings.
pub(super) fn compute(
    plan: &Plan,
    mappings: &mut Vec<Arc<LocalBlob>>,
    engine: &EngineConfig,
    (observer, cancel): (&dyn Observer, &CancelToken),
) -> Result<Calculated, Error> {
    let step = Step::begin(observer, "measuring");
    let calculated = engine::calculate(plan, mappings, engine, &step, cancel)?;
    step.finish();
    let path = PathBuf::from("(computed)");
    let error = |source| FileError { op: FileOp::Map, path, source };
    mappings.push(Arc::new(LocalBlob::in_memory(&calculated.bytes).map_err(error)?));
    Ok(calculated)
}

/// Does the part of one process of several, and leaves the others a notice where it fails before it has come to them.
fn telling_others<T>(job: &Job, act: impl FnOnce(Option<&EarlyFailures>) -> Result<T, Error>) -> Result<T, Error> {
    let Some(me) = &job.cluster.part else { return act(None) };
    // A process that publishes alone keeps no other waiting.
    let awaited = (!job.cluster.local_output).then(|| EarlyFailures::new(&job.target.dir, &job.deciding(), me.count));
    if let Some(early) = &awaited {
        early.withdraw(me.index);
    }
    let one_machine = if job.runs_the_model() {
        Err(Error::Usage(
            "-d and -dp run the model, which one machine does: start it there with --nodes 1, or give every machine the \
             statistics that such a run leaves, with --stats"
                .to_owned(),
        ))
    } else {
        Ok(())
    };
    one_machine.and_then(|()| act(awaited.as_ref())).inspect_err(|e| {
        if let Some(early) = &awaited {
            early.leave(me.index, &e.to_string());
        }
    })
}

/// How much of the work is this process's.
pub(super) enum Place {
    Whole,
    Part(Box<Part>),
}

impl Place {
    /// Of a process of several, a part; with `--local-output` the plan is cut down to it.
    fn of(planned: &mut Planned, early: Option<&EarlyFailures>, observer: &dyn Observer) -> Result<Self, Error> {
        match planned.job.cluster.part.clone() {
            Some(me) => Ok(Self::Part(Box::new(Part::of(planned, &me, early, observer)?))),
            None => Ok(Self::Whole),
        }
    }

    /// Whether others have published the target.
    fn is_over(&self) -> bool {
        match self {
            Self::Whole => false,
            Self::Part(part) => part.is_over(),
        }
    }

    /// The process that published the checkpoint may have died right after it.
    fn elsewhere(&self, planned: &Planned, observer: &dyn Observer) -> Result<Outcome, Error> {
        let Conversion { target, strategies, .. } = &planned.conversion;
        if let (Self::Part(part), Some(strategies)) = (self, strategies) {
            targets::settle_strategies(&planned.job, strategies, part.patience())?;
        }
        observer.note(&format!("{} is published", target.display()));
        Ok(Outcome::Elsewhere(target.clone()))
    }

    /// Removes what an interrupted run has left, which may be the space that this one needs. Others may still need it.
    fn reclaim(&self, planned: &Planned, free: u64, observer: &dyn Observer) -> Result<u64, Error> {
        match self {
            Self::Whole => targets::reclaim(&planned.conversion.target, free, observer),
            Self::Part(_) => Ok(free),
        }
    }

    /// Bytes that this process is to write.
    fn bytes(&self, plan: &Plan) -> u64 {
        match self {
            Self::Whole => plan.totals().written,
            Self::Part(part) => part.bytes(),
        }
    }

    /// Of a part it is not known yet how much an earlier attempt has left of it.
    fn check_room(&self, planned: &Planned, free: u64) -> Result<(), Error> {
        let strategies = planned.conversion.strategies.as_ref().map_or(0, Strategies::len);
        let needed = planned.conversion.plan.totals().written + strategies;
        if matches!(self, Self::Whole) && free < needed {
            return Err(Error::NoRoom { dir: planned.job.target.dir.clone(), needed, free });
        }
        Ok(())
    }

    /// Makes the place where the work is done. `None`: others have published the target meanwhile.
    fn begin(
        &self,
        planned: &Planned,
        early: Option<&EarlyFailures>,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Option<Box<dyn Stage>>, Error> {
        match self {
            Self::Whole => Ok(Some(Box::new(Alone::begin(planned, observer)?))),
            Self::Part(part) => {
                early.inspect(|early| early.arrived());
                Ok(part.begin(planned, cancel)?.map(|stage| Box::new(stage) as Box<dyn Stage>))
            }
        }
    }

    /// The fingerprint of the plan, and which part of it is published.
    fn identity(&self, planned: &Planned) -> (String, Option<PartOf>) {
        match self {
            Self::Whole => (planned.id(), None),
            Self::Part(part) => part.identity(),
        }
    }
}
