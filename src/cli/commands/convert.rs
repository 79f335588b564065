//! Conversions: `-f`. Makes a job of what was typed, has it done, and prints what came of it.

use super::{memory, print_json, show};
use crate::Error;
use crate::cli::args::ConvertArgs;
use crate::cli::screen::Screen;
use crate::cli::{ExitStatus, job};
use crate::job::{Completion, Environment, Job, Observer, Outcome, Role};

/// Plans, and unless it is a dry run, moves and publishes.
pub(in crate::cli) fn run(args: &ConvertArgs, env: &Environment) -> Result<ExitStatus, Error> {
    let Some(mut job) = job::job(args) else { return Err(Error::Usage("missing: -f or -p".to_owned())) };
    let screen = Screen::new(&args.output);
    if let Some(done) = memory::run(&job, args, &screen) {
        return done;
    }
    match job.share_out(&job::division(&args.cluster), env, &screen)? {
        Role::Idle(why) => {
            screen.note(&format!("nothing to do: {why}"));
            return Ok(ExitStatus::Done);
        }
        Role::Alone(Some(why)) => screen.note(&format!("this host does all of the work, says {why}")),
        Role::Alone(None) | Role::Part(_) => {}
    }
    if args.place.src_ckpt_path.is_none() {
        return Err(Error::Usage("missing: -sc".to_owned()));
    }
    let json = args.output.json;
    if args.what.dry_run {
        return plan(&job, &screen, json);
    }
    match job.run(&screen, screen.cancel())? {
        Outcome::Published(summary) => {
            let printed = show(json, &summary, || summary.text());
            match printed {
                Ok(()) => Ok(ExitStatus::Done),
                // The target is there all the same.
                Err(Error::Output { source, .. }) => {
                    Err(Error::Output { published: Some(summary.target.into()), source })
                }
                Err(e) => Err(e),
            }
        }
        Outcome::Completed(completion) => completed(&completion, json),
        Outcome::Elsewhere(_) | Outcome::Left(_) => Ok(ExitStatus::Done),
    }
}

/// A dry run.
fn plan(job: &Job, screen: &Screen, json: bool) -> Result<ExitStatus, Error> {
    let planned = job.plan_with(screen)?;
    if let Some(part) = &job.cluster.part {
        screen.note(&part.text());
    }
    if let Some(completion) = planned.completion()? {
        screen.note(&format!(
            "{} already exists and is complete; only its strategies would be written, to {}",
            completion.target.display(),
            completion.strategies.display()
        ));
        return completed(&completion, json);
    }
    let report = planned.report_with(screen)?;
    show(json, &report, || report.text())?;
    Ok(if report.fits { ExitStatus::Done } else { ExitStatus::Machine })
}

fn completed(completion: &Completion, json: bool) -> Result<ExitStatus, Error> {
    let Completion { target, strategies } = completion;
    if json {
        let (target, strategies) = (target.display().to_string(), strategies.display().to_string());
        print_json(&serde_json::json!({"target": target, "strategies": strategies, "files": 0}))?;
    }
    Ok(ExitStatus::Done)
}
