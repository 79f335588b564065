//! What the launchers set in the environment of what they start.
//!
//! Sources: Slurm's sbatch and srun manuals; torch's elastic agent; Open MPI's and MPICH's manuals; Kubernetes' Indexed Job
//! documents; Volcano's env plugin and Huawei's cloud training documents; `mindspore/parallel/cluster/process_entity/_api.py` for
//! msrun. `RANK` and `WORLD_SIZE` alone mean processes to some and hosts to others, so they are never read without torchrun's
//! own `GROUP_RANK`.

use super::answer::{Answer, Environment, Place, count, unclear};
use crate::cluster::ClusterError;

type Found = Result<Option<Answer>, ClusterError>;

/// What every launcher says whose variables are there, in the order in which they are asked.
pub(super) fn answers(env: &Environment, nodes: Option<u32>) -> Result<Vec<Answer>, ClusterError> {
    let found = [
        slurm_array(env)?,
        slurm_step(env)?,
        torchrun(env)?,
        open_mpi(env)?,
        pmi(env)?,
        volcano(env, nodes)?,
        kubernetes(env, nodes)?,
        msrun(env)?,
    ];
    Ok(found.into_iter().flatten().collect())
}

/// A variable that must be a number where it is there.
pub(super) fn number(env: &Environment, name: &str) -> Result<Option<u32>, ClusterError> {
    let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| unclear(name, format!("`{text}` is not a number")))
}

fn place(env: &Environment, index: &str, count: &str) -> Result<Option<Place>, ClusterError> {
    let (Some(at), Some(of)) = (number(env, index)?, number(env, count)?) else { return Ok(None) };
    if at >= of {
        return Err(unclear(index, format!("{at}, but {count} is {of}")));
    }
    Ok(Some(Place { index: at, count: of }))
}

/// `sbatch --array`: each task is a job of its own. A list with gaps has no index that could be computed.
fn slurm_array(env: &Environment) -> Found {
    let Some(id) = number(env, "SLURM_ARRAY_TASK_ID")? else { return Ok(None) };
    let get = |name| number(env, name);
    let (count, min) = (get("SLURM_ARRAY_TASK_COUNT")?, get("SLURM_ARRAY_TASK_MIN")?);
    let (max, step) = (get("SLURM_ARRAY_TASK_MAX")?, get("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1));
    let (Some(count), Some(min), Some(max)) = (count, min, max) else {
        return Err(unclear("SLURM_ARRAY_TASK_ID", "without SLURM_ARRAY_TASK_COUNT, _MIN and _MAX".to_owned()));
    };
    let even = max >= min
        && count.checked_sub(1) == Some((max - min) / step)
        && id >= min
        && id <= max
        && (id - min).is_multiple_of(step);
    if !even {
        let what = format!(
            "{count} tasks from {min} to {max} in steps of {step}: a list with gaps has no order; use 0-{}",
            count.saturating_sub(1)
        );
        return Err(unclear("the Slurm array", what));
    }
    Ok(Some(Answer {
        staggered: true,
        ..Answer::of("the Slurm array (SLURM_ARRAY_TASK_ID)", (id - min) / step, count)
    }))
}

/// `srun`. A batch script has `SLURM_PROCID` and `SLURM_NTASKS` too, though only one process runs: it has no step.
fn slurm_step(env: &Environment) -> Found {
    if !env.contains_key("SLURM_STEP_ID") {
        return Ok(None);
    }
    let Some(process) = place(env, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")? else { return Ok(None) };
    let host = place(env, "SLURM_NODEID", "SLURM_STEP_NUM_NODES")?;
    let local = number(env, "SLURM_LOCALID")?;
    let source = "srun (SLURM_PROCID)";
    Ok(Some(Answer { host, local, ..Answer::of(source, process.index, process.count) }))
}

/// torchrun: only where its own variables say that `RANK` is its.
fn torchrun(env: &Environment) -> Found {
    let Some(host) = place(env, "GROUP_RANK", "GROUP_WORLD_SIZE")? else { return Ok(None) };
    let Some(process) = place(env, "RANK", "WORLD_SIZE")? else { return Ok(None) };
    let local = number(env, "LOCAL_RANK")?;
    let answer = Answer::of("torchrun (RANK, GROUP_RANK)", process.index, process.count);
    Ok(Some(Answer { host: Some(host), local, ..answer }))
}

/// Open MPI states the number of processes and of those on this host; hosts only where all have as many processes, one host after the other.
fn open_mpi(env: &Environment) -> Found {
    let Some(process) = place(env, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")? else { return Ok(None) };
    let local = place(env, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")?;
    let even = |l: &Place| process.count.is_multiple_of(l.count) && process.index % l.count == l.index;
    let host = local.filter(even).map(|l| Place { index: process.index / l.count, count: process.count / l.count });
    let answer = Answer::of("Open MPI (OMPI_COMM_WORLD_RANK)", process.index, process.count);
    Ok(Some(Answer { host, local: local.map(|l| l.index), ..answer }))
}

/// MPICH, Intel MPI and what else sets `PMI_RANK`. `PMIX_RANK` comes without a count, so it only has to agree.
fn pmi(env: &Environment) -> Found {
    if let Some(process) = place(env, "PMI_RANK", "PMI_SIZE")? {
        return Ok(Some(Answer::of("PMI (PMI_RANK)", process.index, process.count)));
    }
    let (Some(rank), Some(ranks)) = (number(env, "PMIX_RANK")?, number(env, "OMPI_COMM_WORLD_SIZE")?) else {
        return Ok(None);
    };
    Ok((rank < ranks).then(|| Answer::of("PMIx (PMIX_RANK)", rank, ranks)))
}

/// Volcano, and Huawei's cloud, which is built on it. Volcano counts within a task group and does not say how many there are.
fn volcano(env: &Environment, nodes: Option<u32>) -> Found {
    let (vc, vk) = (number(env, "VC_TASK_INDEX")?, number(env, "VK_TASK_INDEX")?);
    if let (Some(a), Some(b)) = (vc, vk)
        && a != b
    {
        return Err(unclear("VC_TASK_INDEX", format!("{a}, but VK_TASK_INDEX is {b}")));
    }
    let Some(index) = vc.or(vk) else { return Ok(None) };
    let listed = env.get("VC_WORKER_HOSTS").map(|hosts| hosts.split(',').filter(|h| !h.trim().is_empty()).count());
    let counts = [number(env, "VC_WORKER_NUM")?, number(env, "MA_NUM_HOSTS")?, listed.map(count), nodes];
    of_count("Volcano (VC_TASK_INDEX)", index, &counts)
}

/// An Indexed Job's pods know their index, not their number.
fn kubernetes(env: &Environment, nodes: Option<u32>) -> Found {
    let Some(index) = number(env, "JOB_COMPLETION_INDEX")? else { return Ok(None) };
    let answer = of_count("Kubernetes (JOB_COMPLETION_INDEX)", index, &[nodes])?;
    Ok(answer.map(|answer| Answer { staggered: true, ..answer }))
}

/// An index whose number comes from elsewhere.
fn of_count(source: &str, index: u32, counts: &[Option<u32>]) -> Found {
    let mut known = counts.iter().flatten();
    let Some(&count) = known.next() else {
        return Err(unclear(source, format!("{index}, but not of how many; give --nodes")));
    };
    if let Some(other) = known.find(|&&other| other != count) {
        return Err(unclear(source, format!("of {count} or of {other}?")));
    }
    if index >= count {
        return Err(unclear(source, format!("{index}, but there are {count}")));
    }
    Ok(Some(Answer::of(source, index, count)))
}

/// msrun. `MS_NODE_ID` is a worker, not a machine; the local number of workers is not stated.
fn msrun(env: &Environment) -> Found {
    if env.get("MS_ROLE").is_none_or(|role| role != "MS_WORKER") {
        return Ok(None);
    }
    let Some(count) = number(env, "MS_WORKER_NUM")? else { return Ok(None) };
    let rank = number(env, "RANK_ID")?;
    let node = env.get("MS_NODE_ID").and_then(|id| id.trim().parse::<u32>().ok());
    if let (Some(a), Some(b)) = (rank, node)
        && a != b
    {
        return Err(unclear("RANK_ID", format!("{a}, but MS_NODE_ID is {b}")));
    }
    let Some(index) = rank.or(node) else {
        let what = "does not say which worker this is; give it --node_rank".to_owned();
        return if count > 1 { Err(unclear("msrun", what)) } else { Ok(None) };
    };
    if index >= count {
        return Err(unclear("msrun", format!("worker {index}, but MS_WORKER_NUM is {count}")));
    }
    let local = number(env, "DEVICE_ID")?;
    Ok(Some(Answer { local, ..Answer::of("msrun (MS_WORKER_NUM)", index, count) }))
}
