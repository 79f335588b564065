//! One process of several: it takes its part of the plan, meets the others beside the target, and the one that finds all parts
//! written publishes.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::observer::Observer;
use super::planned::Planned;
use super::stage::{Finished, Means, Stage, Unpublished};
use super::target::{self, Strategies};
use crate::Error;
use crate::cluster::{self, EarlyFailures, FileSums, Identity, Measured, Publication, Session, Unit, Wanted};
use crate::engine::{self, Calculated, CancelToken, PartFile, RunSummary};
use crate::input::MANIFEST;
use crate::plan::Plan;
use crate::report::{PartOf, bytes};
use crate::sys;

/// A process's part of the work.
pub(super) struct Part {
    wanted: Wanted,
    units: Vec<Unit>,
    /// For `--local-output`: which part this is, and the files of the whole.
    of: Option<PartOf>,
}

impl Part {
    /// Which host takes what, and which run this is. With `--local-output` the plan is cut down to this host's files.
    pub(super) fn of(
        planned: &mut Planned,
        me: &Identity,
        early: Option<&EarlyFailures>,
        observer: &dyn Observer,
    ) -> Result<Self, Error> {
        let id = planned.id();
        let (cluster, plan) = (&planned.job.cluster, &mut planned.conversion.plan);
        let local = cluster.local_output;
        let shares = match (&cluster.table, &me.hosts) {
            (Some(table), Some(of)) => match cluster::shares_by_cards(plan, table, of) {
                Ok(shares) => shares,
                // On shared storage any host can do any rank.
                Err(e) if !local => {
                    observer.note(&format!("{e}: the files are shared out by their bytes"));
                    cluster::shares(plan, me.count)
                }
                Err(e) => return Err(e.into()),
            },
            _ => cluster::shares(plan, me.count),
        };
        let whole = |unit: &Unit| cluster::is_whole(plan, unit);
        let enough = plan.outputs.len() >= shares.len() && shares.iter().flatten().all(whole);
        if local && !enough {
            let text = "--local-output: there are more hosts than files, and a file in parts needs shared storage";
            return Err(Error::Usage(text.to_owned()));
        }
        let run = cluster::run_id(plan, &id, &shares);
        let index = usize::try_from(me.index).unwrap_or(usize::MAX);
        let mut units = shares.into_iter().nth(index).unwrap_or_default();
        let mut wanted = Wanted {
            target: planned.conversion.target.clone(),
            plan: id,
            part: None,
            run,
            node: me.index,
            nodes: (0..me.count).collect(),
            replace: planned.job.target.overwrite,
            durable: !planned.job.run.no_sync,
            stale_after: cluster.stale_after,
            staggered: me.staggered,
            early: early.cloned(),
        };
        let mut of = None;
        if local {
            let text = format!("{} of {}", me.index, me.count);
            of = Some(PartOf::new(text.clone(), plan));
            // The others' places may be the same by mistake: what they leave there is not this host's.
            wanted.run = format!("{}-{}", wanted.run, me.index);
            (wanted.part, wanted.nodes) = (Some(text), vec![me.index]);
            let mut at = 0..;
            let own: BTreeSet<usize> = units.iter().map(|unit| unit.file).collect();
            plan.outputs.retain(|_| at.next().is_some_and(|at| own.contains(&at)));
            for (file, unit) in units.iter_mut().enumerate() {
                unit.file = file;
            }
        }
        let part = Self { wanted, units, of };
        observer.note(&format!("{}; its share: {} in {} files", me.text(), bytes(part.bytes()), part.units.len()));
        Ok(part)
    }

    /// Bytes of the part.
    pub(super) fn bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.range.len()).sum()
    }

    /// Whether the target is published.
    pub(super) fn is_over(&self) -> bool {
        Session::is_finished(&self.wanted)
    }

    /// How long another is waited for that is about to publish.
    pub(super) fn patience(&self) -> Duration {
        self.wanted.stale_after
    }

    /// The fingerprint of the plan, and which part of it is published.
    pub(super) fn identity(&self) -> (String, Option<PartOf>) {
        (self.wanted.plan.clone(), self.of.clone())
    }

    /// Meets the others. `None`: the target is published.
    pub(super) fn begin(&self, planned: &Planned, cancel: &CancelToken) -> Result<Option<Together>, Error> {
        let Some(session) = Session::begin(self.wanted.clone(), cancel)? else { return Ok(None) };
        let plan = &planned.conversion.plan;
        let (finished, todo) = if session.is_complete() { (Vec::new(), Vec::new()) } else { self.kept(plan, &session) };
        let computed = session.computed().cloned().filter(|_| !finished.is_empty());
        let (units, files) = (self.units.clone(), session.files());
        Ok(Some(Together { session, units, files, finished, todo, computed }))
    }

    /// What earlier attempts have finished and is still there, byte by byte; and what is left to do.
    fn kept(&self, plan: &Plan, session: &Session) -> (Vec<FileSums>, Vec<Unit>) {
        let (mut finished, mut todo) = (Vec::new(), Vec::new());
        let files = session.files();
        for unit in &self.units {
            let output = &plan.outputs[unit.file];
            let same = |sums: &&FileSums| {
                (&sums.path, sums.at, sums.len) == (&output.path, unit.range.start(), unit.range.len())
            };
            let holds = |sums: &&FileSums| cluster::holds(&PartFile::new(output, unit.range), sums, &files);
            // The latest first.
            match session.earlier().iter().rev().filter(same).find(holds) {
                Some(sums) => finished.push(sums.clone()),
                None => todo.push(*unit),
            }
        }
        (finished, todo)
    }
}

/// A part that is being written.
pub(super) struct Together {
    session: Session,
    /// The part.
    units: Vec<Unit>,
    /// Where finished files are.
    files: PathBuf,
    /// What is written of it.
    finished: Vec<FileSums>,
    todo: Vec<Unit>,
    /// What was computed before, by this attempt or an earlier one.
    computed: Option<Measured>,
}

impl Stage for Together {
    fn is_complete(&self) -> bool {
        self.session.is_complete()
    }

    fn has_work(&self) -> bool {
        !self.todo.is_empty()
    }

    fn computed(&mut self, calculated: Calculated) {
        let now = Measured::new(&calculated);
        // An earlier attempt was on another machine, where the same came out otherwise.
        if self.computed.as_ref().is_some_and(|before| *before != now) {
            (self.finished, self.todo) = (Vec::new(), self.units.clone());
        }
        self.computed = Some(now);
    }

    fn groups(
        &mut self,
        planned: &Planned,
        workers: usize,
        observer: &dyn Observer,
    ) -> Result<(Vec<Vec<Unit>>, u64), Error> {
        if !self.finished.is_empty() {
            observer.note(&format!("kept {} files that an earlier attempt had finished", self.finished.len()));
            self.session.keep(&[], &self.finished, self.computed.as_ref())?;
        }
        let plan = &planned.conversion.plan;
        // What an earlier attempt had begun is removed by now; files in ranges have their space already.
        let free = target::free(&planned.conversion.target)?;
        let reserved = |unit: &&Unit| {
            let output = &plan.outputs[unit.file];
            let len = output.layout.len();
            !cluster::is_whole(plan, unit) && sys::occupied_bytes(&self.files.join(&output.path)) >= len
        };
        let needed: u64 = self.todo.iter().filter(|unit| !reserved(unit)).map(|unit| unit.range.len()).sum();
        if free < needed {
            return Err(Error::NoRoom { dir: planned.job.target.dir.clone(), needed, free });
        }
        let bytes = self.todo.iter().map(|unit| unit.range.len()).sum();
        Ok((groups(plan, &self.todo, planned.job.cluster.secure_every, workers), bytes))
    }

    fn write(&mut self, plan: &Plan, group: &[Unit], means: &Means<'_>) -> Result<(), Error> {
        let &Means { engine, mappings, step, cancel } = means;
        let in_place = group.iter().any(|unit| !cluster::is_whole(plan, unit));
        let work = if in_place { None } else { Some(self.session.make_work()?) };
        let dir = work.as_ref().map_or_else(|| self.session.held(), Ok)?;
        let part = cluster::part(plan, group);
        let result = engine::run_part(&part, mappings, dir, engine, step, cancel)?;
        let files = part.files.iter().zip(&result.tensors);
        self.finished.extend(files.map(|(file, sums)| cluster::sums_of(file, sums)));
        Ok(())
    }

    fn keep(&mut self, plan: &Plan, group: &[Unit]) -> Result<(), Error> {
        let whole = group.iter().filter(|unit| cluster::is_whole(plan, unit));
        let whole: Vec<&str> = whole.map(|unit| plan.outputs[unit.file].path.as_str()).collect();
        Ok(self.session.keep(&whole, &self.finished, self.computed.as_ref())?)
    }

    fn done(&mut self) -> Result<(), Error> {
        Ok(self.session.done(&self.finished, self.computed.as_ref())?)
    }

    fn stopped(self: Box<Self>, error: Error) -> Option<Error> {
        // The others may have been done with what an earlier attempt of this host wrote.
        if self.session.is_over() {
            return None;
        }
        Some(self.session.stopped(&error.to_string()).map_or(error, Error::from))
    }

    fn finish(self: Box<Self>, cancel: &CancelToken, observer: &dyn Observer) -> Result<Finished, Error> {
        Ok(match self.session.wait(cancel, &mut |text| observer.note(text))? {
            cluster::Finished::Published => Finished::Elsewhere,
            cluster::Finished::Left(others) => Finished::Left(others.len()),
            cluster::Finished::Ours(publication) => Finished::Ours(Box::new(Claimed(publication))),
        })
    }
}

/// The finished files of all, in the hands of this process.
struct Claimed(Box<Publication>);

impl Unpublished for Claimed {
    fn result(&mut self, plan: &Plan) -> Result<RunSummary, Error> {
        Ok(self.0.result(plan)?)
    }

    fn give_back(&self) {
        self.0.give_back();
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        Ok(self.0.write(MANIFEST, fill)?)
    }

    /// Other hosts may have seen the checkpoint by the time its strategies follow, so it is not taken back: the same command
    /// publishes the strategies later.
    fn publish(self: Box<Self>, planned: &Planned, observer: &dyn Observer) -> Result<(), Error> {
        let strategies = planned.conversion.strategies.as_ref();
        let stage = |strategies: &Strategies| strategies.stage(planned.job.publish(), planned.job.durability());
        let staged = strategies.map(stage).transpose()?.flatten();
        let ready = staged.map(|staged| staged.ready(Vec::new())).transpose()?;
        self.0.publish()?;
        let Some(ready) = ready else { return Ok(()) };
        match ready.publish() {
            Ok(published) => {
                if let Some(stuck) = published.keep() {
                    observer.note(&format!("{} was replaced but could not be removed", stuck.display()));
                }
                Ok(())
            }
            Err(source) => Err(Error::StrategiesMissing {
                strategies: strategies.map(|s| s.dir().to_owned()).unwrap_or_default(),
                source,
            }),
        }
    }
}

/// Files in groups of at least so many bytes, and enough for all workers unless the smallest groups are requested; ranges, which
/// lie in their place from the start, apart from whole files.
fn groups(plan: &Plan, units: &[Unit], at_least: u64, workers: usize) -> Vec<Vec<Unit>> {
    let mut groups: Vec<Vec<Unit>> = Vec::new();
    let (whole, ranges): (Vec<Unit>, Vec<Unit>) = units.iter().copied().partition(|unit| cluster::is_whole(plan, unit));
    for (units, workers) in [(whole, workers), (ranges, 1)] {
        let mut open = false;
        for unit in units {
            match groups.last_mut().filter(|_| open) {
                Some(group) => group.push(unit),
                None => groups.push(vec![unit]),
            }
            let bytes = |group: &Vec<Unit>| group.iter().map(|unit| unit.range.len()).sum::<u64>();
            open =
                groups.last().is_some_and(|group| bytes(group) < at_least || (group.len() < workers && at_least > 1));
        }
    }
    groups
}
