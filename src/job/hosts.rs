//! Which host a process is, of how many.

use std::path::Path;

use super::observer::Observer;
use super::spec::Job;
use crate::Error;
use crate::cluster::{Asked, ClusterError, Environment, MAX_TABLE_BYTES, RankTable, Role, identify, rank_table_in};
use crate::sys;

/// What is asked of the division of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Division {
    /// `--nodes`: how many machines or processes take part.
    pub nodes: Option<u32>,
    /// `--node-rank`: which of them this is.
    pub node_rank: Option<u32>,
    /// `--per-node`: the first process of each machine does the machine's whole share.
    pub per_node: bool,
}

impl Job {
    /// Finds out from the request, the environment and the machine which part of the job is this process's, and makes it the
    /// job's. Returns what there is to do.
    ///
    /// # Errors
    /// A rank table that cannot be read, or says something else than the launcher.
    pub fn share_out(
        &mut self,
        division: &Division,
        env: &Environment,
        observer: &dyn Observer,
    ) -> Result<Role, Error> {
        let unclear =
            |what: String| Error::from(ClusterError::Unclear { source_name: "the rank table".to_owned(), what });
        // A host that says it is alone needs no table, and a scheduler has no use for one.
        let wanted = division.nodes != Some(1) && env.get("MS_ROLE").is_none_or(|role| role != "MS_SCHED");
        let table = match self.cluster.rank_table.as_deref().filter(|_| wanted) {
            None => None,
            Some(path) => {
                let bytes = sys::read_small(Path::new(path), MAX_TABLE_BYTES)
                    .map_err(|e| unclear(format!("{e} (named by --rank-table; --nodes 1 does without it)")))?;
                Some((path.to_owned(), RankTable::parse(&bytes)?))
            }
        };
        if let Some((variable, path)) = rank_table_in(env).filter(|_| wanted && table.is_none()) {
            observer.note(&format!(
                "{variable} names the rank table {path}, which this run does not use (--rank-table {path} would share the \
                 work out by it)"
            ));
        }
        let addresses = match &table {
            Some(_) => {
                sys::addresses().map_err(|e| unclear(format!("this machine's addresses cannot be seen: {e}")))?
            }
            None => Vec::new(),
        };
        let asked = Asked {
            node_rank: division.node_rank,
            nodes: division.nodes,
            per_node: division.per_node,
            table: table.as_ref().map(|(name, table)| (name.as_str(), table)),
            addresses,
            host_name: sys::host_name(),
        };
        let role = identify(&asked, env)?;
        self.cluster.part = if let Role::Part(me) = &role { Some(me.clone()) } else { None };
        self.cluster.table = table.map(|(_, table)| table);
        Ok(role)
    }
}
