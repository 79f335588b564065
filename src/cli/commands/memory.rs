//! `-dc shm:NAME`: one rank of a target in shared memory.

use super::show;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::ConvertArgs;
use crate::cli::screen::Screen;
use crate::job::{InMemory, Job};

/// What the place of a target begins with that is in shared memory.
const SHARED: &str = "shm:";

/// Fills shared memory. `None`: the target is a directory.
pub(super) fn run(job: &Job, args: &ConvertArgs, screen: &Screen) -> Option<Result<ExitStatus, Error>> {
    let name = job.target.dir.to_str().and_then(|dir| dir.strip_prefix(SHARED));
    match (name, args.place.rank) {
        (Some(name), _) => Some(fill(name, job, args, screen)),
        (None, Some(_)) => {
            Some(Err(Error::Usage("--rank goes with -dc shm:NAME: a directory gets all ranks".to_owned())))
        }
        (None, None) => None,
    }
}

fn fill(name: &str, job: &Job, args: &ConvertArgs, screen: &Screen) -> Result<ExitStatus, Error> {
    let cluster = &args.cluster;
    let of_a_disk = [
        ("--dry-run", args.what.dry_run),
        ("--nodes", cluster.nodes.is_some()),
        ("--node-rank", cluster.node_rank.is_some()),
    ];
    if let Some((option, _)) = of_a_disk.iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!("{option} goes with a target on a disk, not in memory")));
    }
    let rank = InMemory::new(job, args.place.rank, screen, screen.cancel())?;
    let filled = rank.share(name, job.target.overwrite, screen, screen.cancel())?;
    show(args.output.json, &filled, || filled.text())?;
    Ok(ExitStatus::Done)
}
