//! The files of a source against the CRCs that they state of themselves.

use std::path::PathBuf;

use crate::Error;
use crate::engine::{self, CancelToken, CrcOf, EngineConfig};
use crate::formats::FormatError;
use crate::input::{Input, InputError, LoadedFile};

/// Checks the CRCs of all files that state one.
pub(super) fn check(
    input: &Input,
    config: &EngineConfig,
    observer: &dyn engine::Observer,
    cancel: &CancelToken,
) -> Result<(), Error> {
    faults(input, config, observer, cancel)?.into_iter().next().map_or(Ok(()), |(_, fault)| Err(fault.into()))
}

/// The files that are not what their CRCs say, with what is wrong. Reads all files that state one.
pub(super) fn faults(
    input: &Input,
    config: &EngineConfig,
    observer: &dyn engine::Observer,
    cancel: &CancelToken,
) -> Result<Vec<(PathBuf, InputError)>, Error> {
    let stated: Vec<_> = input.files.iter().enumerate().filter_map(|(at, file)| Some((at, file, file.crc?))).collect();
    if stated.is_empty() {
        return Ok(Vec::new());
    }
    let fault = |file: &LoadedFile, source: FormatError| {
        let path = file.mapping.path().to_owned();
        (path.clone(), InputError::Format { path, source: source.into() })
    };
    let (mut faults, mut of, mut summed) = (Vec::new(), Vec::new(), Vec::new());
    for (source, file, crc) in stated {
        match crc.summed(file.mapping.len() as u64, &file.entries) {
            Ok(bytes) => {
                of.push(CrcOf { source, summed: bytes });
                summed.push((file, crc));
            }
            Err(e) => faults.push(fault(file, e)),
        }
    }
    let sums = engine::crc32s(&input.mappings(), &of, config, observer, cancel)?;
    let differ = summed.iter().zip(sums).filter_map(|((file, crc), sum)| Some(fault(file, crc.compare(sum).err()?)));
    faults.extend(differ);
    Ok(faults)
}
