//! The identity of this process: which host, or which process, of how many. From flags, a rank table, or what the launcher has set.
//!
//! Everything that is there is read, and all of it must agree; what counts is what was started last (the most processes).
//! A source that speaks of one process only says nothing: every shell inside a Slurm job has such variables.

mod answer;
mod launchers;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::answer::Environment;
use self::answer::{Answer, Place, count, unclear};
use super::{ClusterError, RankTable};

/// What the user requested, and what the machine is.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// `--node-rank`.
    pub node_rank: Option<u32>,
    /// `--nodes`.
    pub nodes: Option<u32>,
    /// `--per-node`: the first process of each host does the host's work, the others have nothing to do.
    pub per_node: bool,
    /// The rank table, and what it is called.
    pub table: Option<(&'a str, &'a RankTable)>,
    /// This machine's addresses.
    pub addresses: Vec<IpAddr>,
    /// This machine's name.
    pub host_name: String,
}

/// What this process has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of the work, alone. With the reason where there is one.
    Alone(Option<String>),
    /// A part of the work.
    Part(Identity),
    /// Nothing, and why.
    Idle(String),
}

/// One of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which, from 0 on.
    pub index: u32,
    /// Of how many.
    pub count: u32,
    /// The source that says so.
    pub source: String,
    /// Where there is a rank table: for each of the `count` the host of the table that it is on.
    pub hosts: Option<Vec<usize>>,
    /// Whether the launcher may start one after the other (arrays, indexed jobs), so that no host can be waited for that has not
    /// begun.
    pub staggered: bool,
}

impl Identity {
    /// As text: `host 1 of 2, says the rank table ...`.
    pub fn text(&self) -> String {
        format!("host {} of {} (counted from 0), says {}", self.index, self.count, self.source)
    }
}

/// The rank table that the environment names, and the variable that names it (`RANK_TABLE_FILE` is MindSpore's,
/// `RANKTABLEFILE` the original scripts'). Every shell of a machine with NPUs may have one, so it makes no run of several
/// machines: only a table that was requested does.
pub fn rank_table_in(env: &Environment) -> Option<(&'static str, &str)> {
    let variables = ["RANK_TABLE_FILE", "RANKTABLEFILE"];
    variables.into_iter().find_map(|name| Some((name, env.get(name)?.as_str()))).filter(|(_, path)| !path.is_empty())
}

/// Finds out which part of the work is this process's.
///
/// # Errors
/// Where a source says nonsense, or two sources do not agree.
pub fn identify(asked: &Asked<'_>, env: &Environment) -> Result<Role, ClusterError> {
    if env.get("MS_ROLE").is_some_and(|role| role == "MS_SCHED") {
        return Ok(Role::Idle("this process is msrun's scheduler (MS_ROLE=MS_SCHED)".to_owned()));
    }
    if asked.nodes == Some(1) {
        return match asked.node_rank {
            None | Some(0) => Ok(Role::Alone(Some("--nodes 1".to_owned()))),
            Some(rank) => Err(unclear("--node-rank", format!("{rank}, but --nodes is 1"))),
        };
    }
    let mut answers = Vec::new();
    answers.extend(flags(asked)?);
    answers.extend(launchers::answers(env, asked.nodes)?.into_iter().filter(|a| a.process.count > 1));
    let table = asked.table.filter(|(_, table)| table.servers.len() > 1);
    if let Some((name, table)) = table {
        let place = find_in_table(asked, table, env, &answers)?;
        let at = usize::from(asked.node_rank.is_some()).min(answers.len());
        let source = format!("the rank table {name} ({})", place.1);
        answers.insert(at, Answer::of(source, place.0, count(table.servers.len())));
    }
    for (at, second) in answers.iter().enumerate() {
        if let Some(first) = answers[..at].iter().find(|first| !first.agrees(second)) {
            return Err(ClusterError::Disagree {
                first: first.source.clone(),
                first_says: first.says(),
                second: second.source.clone(),
                second_says: second.says(),
            });
        }
    }
    // What counts is the finest division; the first source that states it.
    let Some(most) = answers.iter().map(|a| a.process.count).max() else {
        return match asked.nodes {
            Some(nodes) => Err(unclear("--nodes", format!("{nodes}, but nothing says which of them this is"))),
            None => Ok(Role::Alone(None)),
        };
    };
    let Some(answer) = answers.iter().find(|a| a.process.count == most) else { return Ok(Role::Alone(None)) };
    if let Some(nodes) = asked.nodes.filter(|&n| answer.host_of(n).is_none()) {
        let (says, source) = (answer.says(), answer.source.clone());
        let (first, first_says) = ("--nodes".to_owned(), nodes.to_string());
        return Err(ClusterError::Disagree { first, first_says, second: source, second_says: says });
    }
    let place = if asked.per_node { leader(asked, answer, table.map(|(_, t)| t))? } else { Some(answer.process) };
    let Some(place) = place else {
        let why =
            format!("{} is not the first process of its host, and --per-node leaves the work to that", answer.says());
        return Ok(Role::Idle(why));
    };
    if place.count == 1 {
        return Ok(Role::Alone(Some(answer.source.clone())));
    }
    let hosts = table.map(|(_, table)| {
        let each = place.count / count(table.servers.len()).min(place.count);
        (0..place.count).map(|index| usize::try_from(index / each).unwrap_or(usize::MAX)).collect()
    });
    // All sources that say the same are worth naming.
    let sources: Vec<&str> = answers.iter().map(|a| a.source.as_str()).collect();
    Ok(Role::Part(Identity {
        index: place.index,
        count: place.count,
        source: sources.join(" and "),
        hosts,
        staggered: answers.iter().any(|a| a.staggered),
    }))
}

/// The place among hosts, for the first process of each. `None`: this is not the first.
fn leader(asked: &Asked<'_>, answer: &Answer, table: Option<&RankTable>) -> Result<Option<Place>, ClusterError> {
    let hosts = asked.nodes.or_else(|| table.map(|t| count(t.servers.len()))).or(answer.host.map(|host| host.count));
    let process = answer.process;
    let Some(hosts) = hosts else {
        // A source that knows no processes beside the hosts.
        if answer.local.is_none() {
            return Ok(Some(process));
        }
        let what = "does not say how many hosts there are, which --per-node needs; give --nodes".to_owned();
        return Err(ClusterError::Unclear { source_name: answer.source.clone(), what });
    };
    let Some(index) = answer.host_of(hosts) else { return Ok(Some(process)) };
    let each = process.count / hosts.min(process.count);
    let local = answer.local.unwrap_or(process.index % each.max(1));
    Ok((local == 0).then_some(Place { index, count: hosts }))
}

fn flags(asked: &Asked<'_>) -> Result<Option<Answer>, ClusterError> {
    let Some(rank) = asked.node_rank else { return Ok(None) };
    let table = || asked.table.map(|(_, table)| count(table.servers.len()));
    let Some(nodes) = asked.nodes.or_else(table) else {
        return Err(unclear("--node-rank", "goes with --nodes".to_owned()));
    };
    if rank >= nodes {
        return Err(unclear("--node-rank", format!("{rank}, but the hosts are 0 to {}", nodes.saturating_sub(1))));
    }
    Ok(Some(Answer::of("--node-rank", rank, nodes)))
}

/// The server of the table that this machine is: by its addresses and name, else by `RANK_ID`, else as the others say.
fn find_in_table(
    asked: &Asked<'_>,
    table: &RankTable,
    env: &Environment,
    answers: &[Answer],
) -> Result<(u32, String), ClusterError> {
    let own: Vec<String> = asked.addresses.iter().map(ToString::to_string).chain([asked.host_name.clone()]).collect();
    let own: Vec<String> = own.into_iter().filter(|name| !name.is_empty()).collect();
    let is_own = |name: &String| {
        let ip = name.parse::<IpAddr>();
        ip.map_or_else(|_| own.contains(name), |ip| asked.addresses.contains(&ip))
    };
    let matching =
        table.servers.iter().enumerate().filter_map(|(at, s)| Some((at, s.names.iter().find(|n| is_own(n))?)));
    let found: Vec<(usize, &String)> = matching.collect();
    match found.as_slice() {
        [(at, name)] => return Ok((count(*at), format!("{name} is this machine"))),
        [] => {}
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
            return Err(ClusterError::TwiceInTable(names.join(", ")));
        }
    }
    if let Some(rank) = launchers::number(env, "RANK_ID")? {
        let Some(at) = table.server_of(rank) else {
            return Err(unclear("RANK_ID", format!("{rank} is not a rank of the table")));
        };
        return Ok((count(at), format!("RANK_ID {rank} is there")));
    }
    let servers = count(table.servers.len());
    if let Some((at, source)) = answers.iter().find_map(|a| Some((a.host_of(servers)?, a.source.clone()))) {
        return Ok((at, format!("no address of it is here; {source} decides")));
    }
    let listed: Vec<String> = table.servers.iter().map(|s| s.names.join("/")).collect();
    Err(ClusterError::NotInTable { own: own.join(", "), listed: listed.join(", ") })
}
