//! Rank tables: which cards, by their global rank, are in which machine.
//!
//! Shapes and their sources: v1.0 and v1.2 from Huawei's HCCL documents (CANN 9.0, `hcclug_000067` and `hcclug_000014`), where
//! v1.2 adds super pods and may group servers; v0 from the test stubs of cann/hcomm and cann/ge. Numbers are strings in
//! all of them, and plain numbers in some files of the field.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::ClusterError;

/// Bytes of a rank table. One card takes some 150 bytes: 16 MiB is a hundred thousand cards.
pub const MAX_TABLE_BYTES: u64 = 16 << 20;

/// The machines of a rank table, by their lowest rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankTable {
    /// The machines; machine i is host i.
    pub servers: Vec<Server>,
}

/// A machine of a rank table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it is called: `server_id`, `host_ip`, `container_ip`, as far as they are there. Each once.
    pub names: Vec<String>,
    /// The ranks of its cards, ascending.
    pub ranks: Vec<u32>,
}

impl RankTable {
    /// Reads a table.
    ///
    /// # Errors
    /// Where it is no table, is not `completed`, or its ranks are not 0 to n-1, each once.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClusterError> {
        if bytes.len() as u64 > MAX_TABLE_BYTES {
            return Err(table(format!("{} bytes, more than {MAX_TABLE_BYTES}", bytes.len())));
        }
        let root: Value = serde_json::from_slice(bytes).map_err(|e| table(format!("no JSON: {e}")))?;
        let status = root.get("status").and_then(Value::as_str);
        if status != Some("completed") {
            let status = status.unwrap_or("not there");
            return Err(table(format!("`status` is {status}, not completed: whoever writes it has not finished")));
        }
        let mut cards = Cards::default();
        match root.get("version").map(text) {
            Some(Some(version)) if version == "1.0" || version == "1.2" => v1(&root, &mut cards)?,
            None if root.get("group_list").is_some() => v0(&root, &mut cards)?,
            None if root.get("server_list").is_some() => v1(&root, &mut cards)?,
            Some(version) => {
                let version = version.unwrap_or_default();
                return Err(table(format!("`version` {version} is none of 1.0, 1.2 and the one without a version")));
            }
            None => return Err(table("neither `server_list` nor `group_list` is there".to_owned())),
        }
        cards.table()
    }

    /// All ranks together.
    pub fn ranks(&self) -> usize {
        self.servers.iter().map(|s| s.ranks.len()).sum()
    }

    /// The machine that has a rank.
    pub fn server_of(&self, rank: u32) -> Option<usize> {
        self.servers.iter().position(|s| s.ranks.binary_search(&rank).is_ok())
    }
}

fn table(what: String) -> ClusterError {
    ClusterError::Table(what)
}

/// The cards as they are found, by machine.
#[derive(Default)]
struct Cards {
    servers: BTreeMap<String, Server>,
    addresses: HashSet<String>,
}

impl Cards {
    fn add(&mut self, id: &str, rank: u32, device: &Value) -> Result<(), ClusterError> {
        let address = device.get("device_ip").and_then(text).filter(|ip| !ip.is_empty() && ip != "0.0.0.0");
        if let Some(address) = address
            && !self.addresses.insert(address.clone())
        {
            return Err(table(format!("two cards have the `device_ip` {address}")));
        }
        let server = self.servers.entry(id.to_owned());
        server.or_insert_with(|| Server { names: vec![id.to_owned()], ranks: Vec::new() }).ranks.push(rank);
        Ok(())
    }

    fn table(self) -> Result<RankTable, ClusterError> {
        let mut servers: Vec<Server> = self.servers.into_values().filter(|s| !s.ranks.is_empty()).collect();
        for server in &mut servers {
            server.ranks.sort_unstable();
        }
        // Their order in the file means nothing: tools join tables in whatever order they find them.
        servers.sort_by_key(|s| s.ranks.first().copied());
        let mut ranks: Vec<u32> = servers.iter().flat_map(|s| s.ranks.iter().copied()).collect();
        ranks.sort_unstable();
        if ranks.is_empty() {
            return Err(table("there is no card in it".to_owned()));
        }
        for (expected, rank) in (0u32..).zip(&ranks) {
            if *rank > expected {
                return Err(table(format!("no card has the rank {expected}, though there are {} cards", ranks.len())));
            }
            if *rank < expected {
                return Err(table(format!("two cards have the rank {rank}")));
            }
        }
        Ok(RankTable { servers })
    }
}

/// `server_list`, or groups of it.
fn v1(root: &Value, cards: &mut Cards) -> Result<(), ClusterError> {
    if let Some(groups) = root.get("server_group_list").and_then(Value::as_array) {
        return groups.iter().try_for_each(|group| server_list(group, cards));
    }
    server_list(root, cards)
}

fn server_list(root: &Value, cards: &mut Cards) -> Result<(), ClusterError> {
    let Some(servers) = root.get("server_list").and_then(Value::as_array) else {
        return Err(table("`server_list` is not there".to_owned()));
    };
    if let Some(count) = root.get("server_count").and_then(number)
        && count != servers.len() as u64
    {
        return Err(table(format!("`server_count` is {count}, but {} servers are listed", servers.len())));
    }
    for server in servers {
        let Some(id) = server.get("server_id").and_then(text) else {
            return Err(table("a server without `server_id`".to_owned()));
        };
        let known = cards.servers.contains_key(&id);
        if known {
            return Err(table(format!("two servers have the `server_id` {id}")));
        }
        let devices = server.get("device").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for device in devices {
            let rank = device.get("rank_id").and_then(rank);
            let rank = rank.ok_or_else(|| table(format!("a card of server {id} without a `rank_id`")))?;
            cards.add(&id, rank, device)?;
        }
        if let Some(added) = cards.servers.get_mut(&id) {
            let more = ["host_ip", "container_ip"].into_iter().filter_map(|key| server.get(key).and_then(text));
            for name in more.filter(|name| !name.is_empty()) {
                if !added.names.contains(&name) {
                    added.names.push(name);
                }
            }
        }
    }
    Ok(())
}

/// `group_list`: an instance for each rank.
fn v0(root: &Value, cards: &mut Cards) -> Result<(), ClusterError> {
    let groups = root.get("group_list").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let Some(count) = root.get("group_count").and_then(number)
        && count != groups.len() as u64
    {
        return Err(table(format!("`group_count` is {count}, but {} groups are listed", groups.len())));
    }
    for instance in groups.iter().filter_map(|g| g.get("instance_list").and_then(Value::as_array)).flatten() {
        let Some(id) = instance.get("server_id").and_then(text) else {
            return Err(table("an instance without `server_id`".to_owned()));
        };
        let Some(rank) = instance.get("rank_id").and_then(rank) else {
            return Err(table(format!("an instance on server {id} without a `rank_id`")));
        };
        match instance.get("devices").and_then(Value::as_array).map(Vec::as_slice) {
            Some([device]) => cards.add(&id, rank, device)?,
            devices => {
                let count = devices.map_or(0, <[Value]>::len);
                return Err(table(format!("the instance of rank {rank} has {count} devices, not one")));
            }
        }
    }
    Ok(())
}

/// A string, or a number as one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    text(value)?.parse().ok()
}

fn rank(value: &Value) -> Option<u32> {
    text(value)?.parse().ok()
}

#[cfg(test)]
#[path = "rank_table_tests.rs"]
mod tests;
