//! Standard error as a bar needs it. indicatif's own looks at standard output for the width, which may be a file.

use std::io::{self, Write, stderr};

use indicatif::TermLike;

use crate::sys::columns;

/// Of a terminal that does not say how wide it is.
const COLUMNS: usize = 80;

/// Prints lines on standard error in one piece: those of several processes on one terminal do not mix.
pub fn say(text: &str) {
    // What cannot be said is no failure.
    let _ = stderr().write_all(format!("{text}\n").as_bytes());
}

/// The terminal that standard error leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen;

impl Screen {
    /// Its columns.
    pub(super) fn columns() -> usize {
        columns().unwrap_or(COLUMNS)
    }

    fn moved(count: usize, direction: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { write!(stderr(), "\x1b[{count}{direction}") }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(Self::columns()).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        Self::moved(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        Self::moved(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        Self::moved(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        Self::moved(count, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        writeln!(stderr(), "{text}")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        write!(stderr(), "{text}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(stderr(), "\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        stderr().flush()
    }
}
