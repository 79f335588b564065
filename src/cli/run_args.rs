//! Headings *Tuning* and *Output*: how data is moved or compared, and what is shown. What is not given is chosen from what can be
//! seen.

use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;

use crate::job::{Reader, Reflink, Writer, Writes, is_chunk};

/// How the work is done where something is written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct RunArgs {
    /// How sources are read.
    #[command(flatten)]
    pub(super) reading: ReadArgs,
    /// How output is written
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", hide_short_help = true)]
    pub(super) writes: Writes,
    /// How chunks reach the disk
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", hide_short_help = true)]
    pub(super) writer: Writer,
    /// Whether source and target may share blocks on the disk
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", hide_short_help = true)]
    pub(super) reflink: Reflink,
    /// Do not flush the target to the disk before it is published
    #[arg(long = "no-sync", hide_short_help = true)]
    pub(super) no_sync: bool,
}

/// How the work is done where it is only read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct ReadArgs {
    /// Most memory, apart from the page cache
    ///
    /// Default: 1GiB, or half of the available memory if that is less.
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub(super) memory: Option<ByteSize>,
    /// Number of threads, 1 to 256
    ///
    /// Default: the number of processors; fewer for network file systems.
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(super) workers: Option<usize>,
    /// Largest read or write: a power of two from 64KiB to 64MiB
    ///
    /// Default: by the file system.
    #[arg(long, value_name = "SIZE", value_parser = chunk, hide_short_help = true)]
    pub(super) chunk: Option<u64>,
    /// Reads and writes in flight for each thread, 1 to 256
    ///
    /// Default: by the chunk.
    #[arg(long, value_name = "N", value_parser = depth, hide_short_help = true)]
    pub(super) depth: Option<usize>,
    /// How sources are read
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", hide_short_help = true)]
    pub(super) reader: Reader,
}

/// What is shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Print JSON instead of text on standard output
    #[arg(long)]
    pub(super) json: bool,
    /// Show no progress
    #[arg(short = 'q', long)]
    pub(super) quiet: bool,
}

fn chunk(text: &str) -> Result<u64, String> {
    let bytes = ByteSize::from_str(text)?.as_u64();
    if is_chunk(bytes) { Ok(bytes) } else { Err("must be a power of two from 64KiB to 64MiB".to_owned()) }
}

fn depth(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|depth| (1..=256).contains(depth))
        .ok_or_else(|| "must be a number from 1 to 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_powers_of_two_and_depths_are_counts() {
        assert_eq!(chunk("64KiB"), Ok(64 << 10));
        assert_eq!(chunk("8MiB"), Ok(8 << 20));
        assert_eq!(chunk("1048576"), Ok(1 << 20));
        for bad in ["", "0", "32KiB", "3MiB", "1MB", "128MiB", "-1", "x", "99999999999999999999TiB"] {
            assert!(chunk(bad).is_err(), "{bad}");
        }
        assert_eq!(depth("1"), Ok(1));
        for bad in ["", "0", "257", "-1", "8.0", "x"] {
            assert!(depth(bad).is_err(), "{bad}");
        }
    }
}
