//! What one source says of this process's place.

use std::collections::BTreeMap;

use crate::cluster::ClusterError;

/// Variables of the environment, as far as they are text. Read once, by the program.
pub type Environment = BTreeMap<String, String>;

/// One of several, at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub index: u32,
    pub count: u32,
}

/// What one source says.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub source: String,
    /// Among all processes, or hosts where the source knows no processes.
    pub process: Place,
    /// Among hosts, where the source states both.
    pub host: Option<Place>,
    /// Which of this host's processes.
    pub local: Option<u32>,
    pub staggered: bool,
}

impl Answer {
    pub(super) fn of(source: impl Into<String>, index: u32, count: u32) -> Self {
        let process = Place { index, count };
        Self { source: source.into(), process, host: None, local: None, staggered: false }
    }

    pub(super) fn says(&self) -> String {
        let Place { index, count } = self.process;
        format!("{index} of {count}")
    }

    /// The place among `hosts` hosts, as far as it is known.
    pub(super) fn host_of(&self, hosts: u32) -> Option<u32> {
        let host = self.host.filter(|host| host.count == hosts).map(|host| host.index);
        let same = (self.process.count == hosts).then_some(self.process.index);
        let even = self.host.is_none() && self.process.count.is_multiple_of(hosts);
        host.or(same).or_else(|| even.then(|| self.process.index / (self.process.count / hosts)))
    }

    /// Whether both can be true.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let (more, fewer) = if self.process.count >= other.process.count { (self, other) } else { (other, self) };
        more.host_of(fewer.process.count) == Some(fewer.process.index)
    }
}

pub(super) fn unclear(source: &str, what: String) -> ClusterError {
    ClusterError::Unclear { source_name: source.to_owned(), what }
}

/// A count of things that are in memory, which are not four thousand million.
pub(super) fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
