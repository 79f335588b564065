//! What a host has written, as numbers: enough to see later that it is still there, and to join it to what the others wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;
use crc_fast::Digest;
use serde::{Deserialize, Serialize};

use super::ClusterError;
use crate::engine::{Calculated, Crc64, PartFile, QuantError, RunSummary, TensorResult, Values};
use crate::formats::Segment;
use crate::plan::{OutputFile, Plan};
use crate::source::ByteRange;
use crate::sys;

/// What is known of a file, or of a range of one, that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSums {
    /// Its path below the target.
    pub path: String,
    /// Where the range begins.
    pub at: u64,
    /// Its bytes.
    pub len: u64,
    /// For each of the file's tensors, what is known of the bytes that lie in the range.
    pub tensors: Vec<TensorSum>,
}

/// What is known of a tensor, or of the part of it in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSum {
    /// The CRC-64/NVME of its bytes.
    pub crc: u64,
    /// Finite values that became infinite.
    pub overflowed: u64,
    /// What is remarkable about its values.
    pub values: Values,
}

/// What a host computed before it wrote anything. All hosts of a run come to the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The CRC-64/NVME of the computed range.
    crc: u64,
    /// What quantising does to each matrix.
    matrices: Vec<MatrixError>,
}

/// `node-<i>.<attempt>.done`, and `.kept` for what is finished so far.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Written {
    /// What is written.
    pub files: Vec<FileSums>,
    /// What was computed before that, where anything is.
    #[serde(default)]
    pub computed: Option<Measured>,
}

/// A [`QuantError`] as a record holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MatrixError {
    name: String,
    greatest: f64,
    rms: f64,
    rms_of_elements: f64,
    clipped: f64,
}

impl Measured {
    /// What was computed last.
    pub fn new(calculated: &Calculated) -> Self {
        let matrix = |e: &QuantError| MatrixError {
            name: e.name.to_string(),
            greatest: e.greatest,
            rms: e.rms,
            rms_of_elements: e.rms_of_elements,
            clipped: e.clipped,
        };
        Self { crc: Crc64::of(&calculated.bytes).0, matrices: calculated.errors.iter().map(matrix).collect() }
    }

    fn errors(&self) -> Vec<QuantError> {
        let error = |m: &MatrixError| QuantError {
            name: m.name.as_str().into(),
            greatest: m.greatest,
            rms: m.rms,
            rms_of_elements: m.rms_of_elements,
            clipped: m.clipped,
        };
        self.matrices.iter().map(error).collect()
    }
}

/// The sums of the part that was written last.
pub fn sums_of(part: &PartFile<'_>, results: &[TensorResult]) -> FileSums {
    let tensors =
        results.iter().map(|r| TensorSum { crc: r.sum.0, overflowed: r.overflowed, values: r.values }).collect();
    FileSums { path: part.path().to_owned(), at: part.at(), len: part.layout().len(), tensors }
}

/// Whether a file below `dir` still holds what was written: every byte of it is read.
pub fn holds(part: &PartFile<'_>, sums: &FileSums, dir: &Path) -> bool {
    matches(part, sums, dir).unwrap_or(false)
}

/// `None`: it cannot be read, or is not as long as it should be.
fn matches(part: &PartFile<'_>, sums: &FileSums, dir: &Path) -> Option<bool> {
    if sums.tensors.len() != part.tensors().len() || sums.len != part.layout().len() {
        return Some(false);
    }
    let mut file = sys::open_regular(&dir.join(part.path())).ok()?;
    if file.metadata().ok()?.len() != part.of() {
        return Some(false);
    }
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(sums.at)).ok()?;
    let mut found = vec![Crc64::EMPTY; part.tensors().len()];
    let mut buf = vec![0; 1 << 20];
    let mut covered: BTreeMap<ByteRange, Digest> =
        part.layout().late().map(|(_, checksum)| (checksum.of, Digest::new(Crc32IsoHdlc))).collect();
    let mut at: u64 = 0;
    for segment in &part.layout().segments {
        let mut done = 0;
        while done < segment.len() {
            let len = (segment.len() - done).min(buf.len() as u64);
            let chunk = buf.get_mut(..usize::try_from(len).ok()?)?;
            file.read_exact(chunk).ok()?;
            for (range, digest) in &mut covered {
                let (from, to) = (range.start().max(at), range.end().min(at + len));
                if from < to {
                    digest.update(&chunk[usize::try_from(from - at).ok()?..usize::try_from(to - at).ok()?]);
                }
            }
            match segment {
                Segment::Literal(bytes) => {
                    let from = usize::try_from(done).ok()?;
                    if bytes.get(from..from + chunk.len())? != chunk {
                        return Some(false);
                    }
                }
                Segment::Data { tensor, .. } => {
                    let sum = found.get_mut(*tensor)?;
                    *sum = sum.followed_by(Crc64::of(chunk), len);
                }
                Segment::Late(_) => {}
            }
            (at, done) = (at + len, done + len);
        }
    }
    // The sums that the file itself holds.
    for (at, checksum) in part.layout().late() {
        let sum = u32::try_from(covered.get(&checksum.of)?.finalize()).ok()?;
        if !reads(&file, at, &checksum.encode(sum)) {
            return Some(false);
        }
    }
    Some(found.iter().zip(&sums.tensors).all(|(found, sum)| found.0 == sum.crc))
}

/// Whether a file holds these bytes there.
fn reads(file: &File, at: u64, expected: &[u8]) -> bool {
    let mut found = vec![0; expected.len()];
    file.read_exact_at(&mut found, at).is_ok() && found == expected
}

/// Joins what all hosts have written to what one host would have to say of it, and proves that it is all there is to write.
///
/// # Errors
/// Where a byte of the plan's files belongs to no host, or to two, or a record does not fit.
pub(super) fn joined(plan: &Plan, records: &[(u32, Written)]) -> Result<RunSummary, ClusterError> {
    let quantised = same_everywhere(plan, records)?;
    let mut units: Vec<(&FileSums, u32)> =
        records.iter().flat_map(|(node, record)| record.files.iter().map(move |s| (s, *node))).collect();
    units.sort_by(|(a, _), (b, _)| (&a.path, a.at).cmp(&(&b.path, b.at)));
    let mut tensors = Vec::with_capacity(plan.outputs.len());
    let mut used = 0;
    for output in &plan.outputs {
        let from = units.partition_point(|(sums, _)| sums.path < output.path);
        let to = units.partition_point(|(sums, _)| sums.path <= output.path);
        used += to - from;
        tensors.push(one_file(output, &units[from..to])?);
    }
    if used != units.len() {
        let stray = units.iter().find(|(sums, _)| plan.outputs.iter().all(|o| o.path != sums.path));
        let (path, node) = stray.map_or((String::new(), 0), |(sums, node)| (sums.path.clone(), *node));
        return Err(ClusterError::BadRecord { node, what: format!("`{path}` is not a file of it") });
    }
    Ok(RunSummary { tensors, quantised, ..RunSummary::default() })
}

/// What quantising did, which every host that had something to write has measured. Hosts whose scales differ (a processor, a
/// library that rounds otherwise) have written matrices that do not belong together.
fn same_everywhere(plan: &Plan, records: &[(u32, Written)]) -> Result<Vec<QuantError>, ClusterError> {
    if plan.passes.is_empty() {
        return Ok(Vec::new());
    }
    let mut first: Option<(u32, &Measured)> = None;
    for (node, record) in records {
        let Some(measured) = &record.computed else {
            if record.files.is_empty() {
                continue;
            }
            return Err(ClusterError::BadRecord { node: *node, what: "it does not say what it computed".to_owned() });
        };
        match first {
            None => first = Some((*node, measured)),
            Some((_, same)) if same == measured => {}
            Some((other, _)) => {
                let what = format!("its scales are not those of host {other}");
                return Err(ClusterError::BadRecord { node: *node, what });
            }
        }
    }
    Ok(first.map(|(_, measured)| measured.errors()).unwrap_or_default())
}

/// The results of one file whose ranges, in order, must tile it.
fn one_file(output: &OutputFile, units: &[(&FileSums, u32)]) -> Result<Vec<TensorResult>, ClusterError> {
    let len = output.layout.len();
    let mut results =
        vec![TensorResult { sum: Crc64::EMPTY, overflowed: 0, values: Values::default() }; output.tensors.len()];
    let mut at = 0;
    for &(sums, node) in units {
        let fits = sums.at == at && sums.len <= len - at && sums.tensors.len() == results.len();
        if !fits {
            let what =
                format!("bytes {} to {} of {} follow byte {at}", sums.at, sums.at.saturating_add(sums.len), sums.path);
            return Err(ClusterError::BadRecord { node, what });
        }
        let bytes = bytes_within(output, at, at + sums.len);
        for ((result, sum), bytes) in results.iter_mut().zip(&sums.tensors).zip(bytes) {
            result.sum = result.sum.followed_by(Crc64(sum.crc), bytes);
            result.overflowed += sum.overflowed;
            result.values += sum.values;
        }
        at += sums.len;
    }
    let missing = at < len || units.is_empty();
    if missing {
        return Err(ClusterError::Incomplete(format!("bytes {at} to {len} of {} are nobody's", output.path)));
    }
    Ok(results)
}

/// How many bytes of each tensor lie in a range of the file.
fn bytes_within(output: &OutputFile, from: u64, to: u64) -> Vec<u64> {
    let mut bytes = vec![0; output.tensors.len()];
    let mut at = 0;
    for segment in &output.layout.segments {
        let end = at + segment.len();
        if let Segment::Data { tensor, .. } = segment
            && let Some(bytes) = bytes.get_mut(*tensor)
        {
            *bytes += end.min(to).saturating_sub(at.max(from));
        }
        at = end;
    }
    bytes
}
