//! The two file formats, a few lines each.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::ValueEnum;

use crate::model::{Job, Param, Part};

const BUFFER: usize = 4 << 20;
/// A record of a `.ckpt` holds at most this many content bytes.
pub(crate) const RECORD: u64 = 512 << 20;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Format {
    Ckpt,
    Safetensors,
}

impl Job {
    /// Writes the file of `rank` and returns its length.
    pub(crate) fn write(&self, rank: u64, format: Format, to: impl Write) -> io::Result<u64> {
        self.write_params(&self.params(rank), format, to)
    }

    /// Writes a file of these parameters and returns its length.
    pub(crate) fn write_params(&self, params: &[Param], format: Format, to: impl Write) -> io::Result<u64> {
        let mut out = Out { to, buf: Vec::with_capacity(BUFFER), flushed: 0 };
        match format {
            Format::Ckpt => {
                for p in params {
                    self.ckpt_param(p, &mut out)?;
                }
            }
            Format::Safetensors => {
                out.bytes(&self.safetensors_header(params))?;
                for p in params {
                    out.content(&mut Cursor::new(p), p.len())?;
                }
            }
        }
        out.finish()
    }

    fn ckpt_param<W: Write>(&self, p: &Param, out: &mut Out<W>) -> io::Result<()> {
        let mut fixed = Vec::new();
        for &d in &p.dims {
            fixed.push(0x08);
            varint(&mut fixed, d);
        }
        fixed.push(0x12);
        text(&mut fixed, self.dtype.ckpt_name());
        let mut cursor = Cursor::new(p);
        let mut left = p.len();
        while left > 0 {
            let n = left.min(self.record);
            let mut tensor = fixed.clone();
            tensor.push(0x1a);
            varint(&mut tensor, n);
            let mut value = vec![0x0a];
            text(&mut value, &p.name);
            value.push(0x12);
            varint(&mut value, tensor.len() as u64 + n);
            value.extend(tensor);
            let mut head = vec![0x0a];
            varint(&mut head, value.len() as u64 + n);
            head.extend(value);
            out.bytes(&head)?;
            out.content(&mut cursor, n)?;
            left -= n;
        }
        Ok(())
    }

    fn safetensors_header(&self, params: &[Param]) -> Vec<u8> {
        let mut json = String::from(r#"{"__metadata__":{"format":"ms"}"#);
        let mut at = 0;
        for p in params {
            let (dtype, end) = (self.dtype.safetensors_name(), at + p.len());
            let dims: Vec<_> = p.dims.iter().map(u64::to_string).collect();
            let dims = dims.join(",");
            let _ = write!(json, r#","{}":{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{at},{end}]}}"#, p.name);
            at = end;
        }
        json.push('}');
        while json.len() % 8 != 0 {
            json.push(' ');
        }
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json.into_bytes());
        header
    }
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

fn text(to: &mut Vec<u8>, s: &str) {
    varint(to, s.len() as u64);
    to.extend(s.bytes());
}

/// A position in a parameter's content.
struct Cursor<'a> {
    parts: &'a [Part],
    run: u64,
    done: u64,
}

impl<'a> Cursor<'a> {
    fn new(p: &'a Param) -> Self {
        Self { parts: &p.parts, run: 0, done: 0 }
    }

    /// Fills `buf` with the next bytes.
    fn read(&mut self, mut buf: &mut [u8]) {
        while let Some(p) = self.parts.first()
            && !buf.is_empty()
        {
            let n = (p.run - self.done).min(buf.len() as u64);
            let (now, later) = buf.split_at_mut(n as usize);
            p.source.fill(p.start + self.run * p.row + self.done, now);
            buf = later;
            self.done += n;
            if self.done == p.run {
                (self.done, self.run) = (0, self.run + 1);
            }
            if self.run == p.runs {
                (self.run, self.parts) = (0, &self.parts[1..]);
            }
        }
    }
}

/// A buffered writer whose buffer the content is made in.
struct Out<W> {
    to: W,
    buf: Vec<u8>,
    flushed: u64,
}

impl<W: Write> Out<W> {
    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.buf)?;
        self.flushed += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    fn bytes(&mut self, b: &[u8]) -> io::Result<()> {
        if self.buf.len() + b.len() > BUFFER {
            self.flush()?;
        }
        self.buf.extend_from_slice(b);
        Ok(())
    }

    fn content(&mut self, from: &mut Cursor<'_>, mut left: u64) -> io::Result<()> {
        while left > 0 {
            if self.buf.len() >= BUFFER {
                self.flush()?;
            }
            let at = self.buf.len();
            let n = left.min((BUFFER - at) as u64);
            self.buf.resize(at + n as usize, 0);
            from.read(&mut self.buf[at..]);
            left -= n;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.to.flush()?;
        Ok(self.flushed)
    }
}
