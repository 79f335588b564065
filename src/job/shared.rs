//! A conversion of which this process does a part.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::hosts::Hosts;
use super::provenance::provenance;
use super::request::Request;
use super::run::{Planned, check_input, check_replicas, memory};
use super::{publish, quantise, targets};
use crate::Error;
use crate::cli::commands::note;
use crate::cli::{ExitStatus, config};
use crate::cluster::{self, EarlyFailures, FileSums, Finished, Identity, Measured, Publication, Session, Unit, Wanted};
use crate::engine::{self, CancelToken, EngineConfig};
use crate::input::{Input, MANIFEST};
use crate::job::reading;
use crate::job::target::{self, Strategies};
use crate::plan::Plan;
use crate::report::{PartOf, Progress, bytes, manifest};
use crate::sys::{self, Mapping};

/// What one process of several needs to know.
struct Share {
    wanted: Wanted,
    units: Vec<Unit>,
    /// For `--local-output`: which part this is, and the files of the whole.
    part: Option<PartOf>,
}

/// Does this process's share, and waits until all is published.
pub(super) fn run(
    request: &Request,
    mut planned: Planned,
    input: &Input,
    hosts: &Hosts,
    (me, early): (&Identity, &EarlyFailures),
) -> Result<ExitStatus, Error> {
    let mappings = input.mappings();
    let mut share = share(request, &mut planned, &mappings, hosts, me)?;
    share.wanted.early = (!request.args.cluster.local_output).then(|| early.clone());
    let own: u64 = share.units.iter().map(|unit| unit.range.len()).sum();
    note(&format!("{}; its share: {} in {} files", me.text(), bytes(own), share.units.len()));
    let target = planned.target.display().to_string();
    let strategies = planned.strategies.as_ref();
    let wait = share.wanted.stale_after;
    let published = || {
        // Whoever published the checkpoint may have died right after it.
        strategies.map(|strategies| targets::settle_strategies(request, strategies, wait)).transpose()?;
        note(&format!("{target} is published"));
        Ok(ExitStatus::Done)
    };
    if Session::is_finished(&share.wanted) {
        return published();
    }
    match targets::check(request, &planned, input) {
        // Just now.
        Err(_) if Session::is_finished(&share.wanted) => return published(),
        free => free?,
    };
    let chosen = config::settle(&request.wishes, &mappings, Some((&planned.target, own)));
    let memory = memory(&planned.plan, &chosen.config);
    if memory > chosen.memory {
        return Err(Error::TooLittleMemory { needed: memory, allowed: chosen.memory });
    }
    check_input(request, input, &chosen.config)?;
    check_replicas(request, &chosen.config, &planned, &mappings)?;
    let cancel = config::cancel_on_signal()?;
    let begun = Instant::now();
    early.arrived();
    let Some(session) = Session::begin(share.wanted.clone(), &cancel)? else { return published() };
    let peak = if session.is_complete() {
        0
    } else {
        let work = Work { request, engine: &chosen.config, mappings: &mappings, session: &session, cancel: &cancel };
        match work.share(&mut planned.plan, &share, &planned.target) {
            Ok(peak) => peak,
            // The others may have been done with what an earlier attempt of this host wrote.
            Err(_) if session.is_over() => return published(),
            Err(e) => return Err(session.stopped(&e.to_string()).map_or(e, Error::from)),
        }
    };
    match session.wait(&cancel, &mut |text| note(text))? {
        Finished::Published => published(),
        Finished::Left(others) => {
            let count = others.len();
            note(&format!("this host's share is written; {count} hosts have not begun, and the last one publishes"));
            Ok(ExitStatus::Done)
        }
        Finished::Ours(publication) => {
            let result = publication.result(&planned.plan)?;
            // The others may have read what has been in the same files since this host read them.
            let unchanged = reading::check_unchanged(&mappings);
            if let Err(e) = unchanged.and_then(|()| targets::check_again(request, &planned)) {
                publication.give_back();
                return Err(e);
            }
            let mut provenance = provenance(request, &share.wanted.plan, &planned.choices);
            provenance.strategies = strategies.map(Strategies::sum);
            provenance.part = share.part;
            publication.write(MANIFEST, |to| manifest(&planned.plan, &result, &provenance, to))?;
            give_names(request, strategies, *publication)?;
            let summary = publish::summary(&planned, &result, begun.elapsed(), peak);
            publish::report(request, &planned.target, &summary)
        }
    }
}

/// Who takes what, and which run this is. With `--local-output` the plan is cut down to this host's files.
fn share(
    request: &Request,
    planned: &mut Planned,
    mappings: &[Arc<Mapping>],
    hosts: &Hosts,
    me: &Identity,
) -> Result<Share, Error> {
    let plan = &mut planned.plan;
    let local = request.args.cluster.local_output;
    let shares = match (&hosts.table, &me.hosts) {
        (Some(table), Some(of)) => match cluster::shares_by_cards(plan, table, of) {
            Ok(shares) => shares,
            // On shared storage any host can do any rank.
            Err(e) if !local => {
                note(&format!("{e}: the files are shared out by their bytes"));
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
    let id = cluster::plan_id(plan, &sources(mappings));
    let run = cluster::run_id(plan, &id, &shares);
    let index = usize::try_from(me.index).unwrap_or(usize::MAX);
    let mut units = shares.into_iter().nth(index).unwrap_or_default();
    let mut wanted = Wanted {
        target: planned.target.clone(),
        plan: id,
        part: None,
        run,
        node: me.index,
        nodes: (0..me.count).collect(),
        replace: request.args.place.overwrite,
        durable: !request.args.run.no_sync,
        stale_after: request.args.cluster.stale_after,
        staggered: me.staggered,
        early: None,
    };
    let mut part = None;
    if local {
        let text = format!("{} of {}", me.index, me.count);
        part = Some(PartOf::new(text.clone(), plan));
        // The others' places may be the same by mistake: what they leave there is not this host's.
        wanted.run = format!("{}-{}", wanted.run, me.index);
        (wanted.part, wanted.nodes) = (Some(text), vec![me.index]);
        let mut at = 0..;
        let own: std::collections::BTreeSet<usize> = units.iter().map(|unit| unit.file).collect();
        plan.outputs.retain(|_| at.next().is_some_and(|at| own.contains(&at)));
        for (file, unit) in units.iter_mut().enumerate() {
            unit.file = file;
        }
    }
    Ok(Share { wanted, units, part })
}

/// The sources' bytes, in the plan's order.
pub(super) fn sources(mappings: &[Arc<Mapping>]) -> Vec<&[u8]> {
    mappings.iter().map(|mapping| &***mapping).collect()
}

/// What writing a share takes.
struct Work<'a> {
    request: &'a Request,
    engine: &'a EngineConfig,
    mappings: &'a [Arc<Mapping>],
    session: &'a Session,
    cancel: &'a CancelToken,
}

impl Work<'_> {
    /// Writes what of the share is not there yet, group by group. Answers the most anonymous memory that was seen.
    fn share(&self, plan: &mut Plan, share: &Share, target: &Path) -> Result<u64, Error> {
        let (mut finished, mut todo) = kept(plan, share, self.session);
        let mut mappings = self.mappings.to_vec();
        let mut computed = self.session.computed().cloned().filter(|_| !finished.is_empty());
        if plan.computed.is_some() && !todo.is_empty() {
            let calculated = quantise::compute(self.request, self.engine, plan, &mut mappings, self.cancel)?;
            let now = Measured::new(&calculated);
            // An earlier attempt was on another machine, where the same came out otherwise.
            if computed.as_ref().is_some_and(|before| *before != now) {
                (finished, todo) = (Vec::new(), share.units.clone());
            }
            computed = Some(now);
        }
        if !finished.is_empty() {
            note(&format!("kept {} files that an earlier attempt had finished", finished.len()));
            self.session.keep(&[], &finished, computed.as_ref())?;
        }
        // What an earlier attempt had begun is removed by now; files in ranges have their space already.
        let free = target::free(target)?;
        let files = self.session.files();
        let reserved = |unit: &&Unit| {
            let output = &plan.outputs[unit.file];
            !cluster::is_whole(plan, unit) && sys::occupied_bytes(&files.join(&output.path)) >= output.layout.len()
        };
        let needed: u64 = todo.iter().filter(|unit| !reserved(unit)).map(|unit| unit.range.len()).sum();
        if free < needed {
            return Err(Error::NoRoom { dir: self.request.args.place.dst_ckpt_path.clone(), needed, free });
        }
        let secure_every = self.request.args.cluster.secure_every.as_u64();
        let bytes = todo.iter().map(|unit| unit.range.len()).sum();
        let mode = config::progress(&self.request.args.output);
        let progress = Progress::start_whole(mode, "converting", bytes);
        for group in groups(plan, &todo, secure_every, self.engine.workers) {
            self.group(plan, &group, &mappings, &mut finished, &progress)?;
            reading::check_unchanged(&mappings)?;
            let whole = group.iter().filter(|unit| cluster::is_whole(plan, unit));
            let whole: Vec<&str> = whole.map(|unit| plan.outputs[unit.file].path.as_str()).collect();
            self.session.keep(&whole, &finished, computed.as_ref())?;
        }
        self.session.done(&finished, computed.as_ref())?;
        Ok(progress.finish())
    }

    fn group(
        &self,
        plan: &mut Plan,
        group: &[Unit],
        mappings: &[Arc<Mapping>],
        finished: &mut Vec<FileSums>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let in_place = group.iter().any(|unit| !cluster::is_whole(plan, unit));
        let work = if in_place { None } else { Some(self.session.make_work()?) };
        let dir = work.as_ref().map_or_else(|| self.session.held(), Ok)?;
        let (part, places) = cluster::parts(plan, group);
        let result = engine::run_parts(&part, &places, mappings, dir, self.engine, progress, self.cancel);
        if let Ok(result) = &result {
            let files = group.iter().zip(&part.outputs).zip(&result.tensors);
            finished.extend(files.map(|((unit, output), sums)| cluster::sums_of(output, unit.range.start(), sums)));
        }
        (plan.sources, plan.tensors, plan.computed) = (part.sources, part.tensors, part.computed);
        result?;
        Ok(())
    }
}

/// What earlier attempts have finished and is still there, byte by byte; and what is left to do.
fn kept(plan: &Plan, share: &Share, session: &Session) -> (Vec<FileSums>, Vec<Unit>) {
    let (mut finished, mut todo) = (Vec::new(), Vec::new());
    let files = session.files();
    for unit in &share.units {
        let output = &plan.outputs[unit.file];
        let same =
            |sums: &&FileSums| (&sums.path, sums.at, sums.len) == (&output.path, unit.range.start(), unit.range.len());
        let holds =
            |sums: &&FileSums| cluster::holds(&cluster::part_of(output, unit.range), sums, output.layout.len(), &files);
        // The latest first.
        match session.earlier().iter().rev().filter(same).find(holds) {
            Some(sums) => finished.push(sums.clone()),
            None => todo.push(*unit),
        }
    }
    (finished, todo)
}

/// Files in groups of at least so many bytes, and enough for all workers unless the smallest groups are asked for; ranges, which
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

/// Publishes the checkpoint, then the strategies that it names, which are flushed before. Other hosts may have seen the checkpoint
/// by then, so it is not taken back: the same command publishes the strategies later.
fn give_names(request: &Request, strategies: Option<&Strategies>, publication: Publication) -> Result<(), Error> {
    let stage = |strategies: &Strategies| strategies.stage(request.publish(), request.durability);
    let staged = strategies.map(stage).transpose()?.flatten();
    let ready = staged.map(|staged| staged.ready(Vec::new())).transpose()?;
    publication.publish()?;
    let Some(ready) = ready else { return Ok(()) };
    match ready.publish() {
        Ok(published) => {
            if let Some(stuck) = published.keep() {
                note(&format!("{} was replaced but could not be removed", stuck.display()));
            }
            Ok(())
        }
        Err(source) => Err(Error::StrategiesMissing {
            strategies: strategies.map(|s| s.dir().to_owned()).unwrap_or_default(),
            source,
        }),
    }
}
