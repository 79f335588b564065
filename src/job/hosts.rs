//! Which host this is, of how many.

use std::path::Path;

use crate::Error;
use crate::cli::args::ClusterArgs;
use crate::cli::commands::note;
use crate::cluster::{Asked, ClusterError, Environment, MAX_TABLE_BYTES, RankTable, Role, identify, rank_table_in};
use crate::sys;

/// What this process has to do, and the rank table if there is one.
pub(super) struct Hosts {
    pub role: Role,
    pub table: Option<RankTable>,
}

impl Hosts {
    /// Finds out from what was typed, the environment and the machine.
    pub(super) fn find(args: &ClusterArgs, env: &Environment) -> Result<Self, Error> {
        let unclear =
            |what: String| Error::from(ClusterError::Unclear { source_name: "the rank table".to_owned(), what });
        // One who is alone by his own word needs no table, and a scheduler has no use for one.
        let wanted = args.nodes != Some(1) && env.get("MS_ROLE").is_none_or(|role| role != "MS_SCHED");
        let table = match args.rank_table.as_deref().filter(|_| wanted) {
            None => None,
            Some(path) => {
                let bytes = sys::read_small(Path::new(path), MAX_TABLE_BYTES)
                    .map_err(|e| unclear(format!("{e} (named by --rank-table; --nodes 1 does without it)")))?;
                Some((path.to_owned(), RankTable::parse(&bytes)?))
            }
        };
        if let Some((variable, path)) = rank_table_in(env).filter(|_| wanted && table.is_none()) {
            note(&format!(
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
            node_rank: args.node_rank,
            nodes: args.nodes,
            // The two exclude one another.
            per_node: args.per_node && !args.per_process,
            table: table.as_ref().map(|(name, table)| (name.as_str(), table)),
            addresses,
            host_name: sys::host_name(),
        };
        Ok(Self { role: identify(&asked, env)?, table: table.map(|(_, table)| table) })
    }
}
