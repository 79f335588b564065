//! Strategy files: how every parameter is laid out over the devices, as protobuf or JSON, of one pipeline stage or
//! (merged) of all.

use std::collections::BTreeMap;

use super::layout_check::{ParamLayout, RawLayout, RawStrategy};
use super::{strategy_json, strategy_proto};
use crate::formats::{Budget, FormatError, FormatFault, limits, magic};
use crate::layout::TensorLayout;

/// What a strategy file says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StrategyFile {
    /// Per pipeline stage the layouts by parameter name. Layouts of one stage have the same number of devices.
    pub stages: BTreeMap<u32, BTreeMap<String, ParamLayout>>,
    /// Whether the file is `merge_pipeline_strategys`'s: every name has its stage before it. (The map's have not.)
    pub merged: bool,
}

/// Reads a strategy file. `file`: all of its bytes; JSON where the first non-blank one is `{`, else protobuf.
///
/// Errors: another kind of file, a damaged one, a parameter twice in a stage, a layout that contradicts itself or has
/// another number of devices than the others of its stage.
pub fn read(file: &[u8]) -> Result<StrategyFile, FormatError> {
    read_within(file, &Budget::unlimited())
}

/// As [`read`], with so much memory for what the file lists.
pub fn read_within(file: &[u8], budget: &Budget) -> Result<StrategyFile, FormatError> {
    let size = file.len() as u64;
    let limit = limits::MAX_SIDE_FILE_BYTES;
    // No record of a checkpoint begins with blanks and a brace: its second field is shorter than 123 bytes then.
    let json = file.trim_ascii_start().first() == Some(&b'{');
    let what = if file.is_empty() {
        FormatFault::Empty
    } else if !json && magic::is_checkpoint(file) {
        FormatFault::NotThisFormat("this is a checkpoint, not a strategy file")
    } else if size > limit {
        FormatFault::LimitExceeded { field: "size of the strategy file", asked: size, limit }
    } else {
        let raw = if json { strategy_json::read(file, budget)? } else { strategy_proto::read_within(file, budget)? };
        return by_stage(&raw);
    };
    Err(FormatError::new(0, what))
}

/// Writes a protobuf strategy file of one stage, one strategy item and one layout item per parameter in the given order.
///
/// An optimizer shard without a step gets the step that MindSpore's checks expect; a nested layout of a one-dimensional
/// parameter gets an empty second `tensor_map`, without which readers would take it for a flat list.
pub fn write(params: &[(String, TensorLayout)], stage: u32) -> Vec<u8> {
    strategy_proto::write(params, stage)
}

/// Whether a file is one that [`write()`] makes: writing its layouts again, in their order, gives the same bytes.
pub fn is_rewritten_alike(file: &[u8]) -> bool {
    let layouts = |raw: &RawStrategy| -> Result<Vec<(String, TensorLayout)>, FormatError> {
        raw.layouts.iter().map(|item| Ok((item.name.clone(), item.check(&item.name)?.layout))).collect()
    };
    // What is wrong with the file as a whole is found first, JSON and checkpoints among it.
    read(file).is_ok()
        && strategy_proto::read(file)
            .and_then(|raw| Ok((layouts(&raw)?, raw.stage)))
            .is_ok_and(|(layouts, stage)| !layouts.is_empty() && write(&layouts, stage) == file)
}

fn by_stage(raw: &RawStrategy) -> Result<StrategyFile, FormatError> {
    let merged = !raw.layouts.is_empty() && raw.layouts.iter().all(|item| split_stage(&item.name).is_some());
    let mut file = StrategyFile { merged, ..StrategyFile::default() };
    for item in &raw.layouts {
        let (stage, name) = match split_stage(&item.name) {
            Some((stage, name)) if merged => (parse_stage(item, stage)?, name),
            _ => (raw.stage, item.name.as_str()),
        };
        let layout = item.check(name)?;
        let params = file.stages.entry(stage).or_default();
        if let Some((first, known)) = params.first_key_value()
            && devices(known) != devices(&layout)
        {
            let why = format!(
                "laid out over {} devices, `{first}` of the same stage over {}",
                devices(&layout),
                devices(known)
            );
            return Err(FormatError::new(item.at, FormatFault::BadLayout { param: name.into(), why }));
        }
        if params.insert(name.to_owned(), layout).is_some() {
            return Err(FormatError::new(item.at, FormatFault::Duplicate(item.name.clone())));
        }
    }
    Ok(file)
}

/// The number of devices, which a checked layout keeps within 32 bits.
fn devices(param: &ParamLayout) -> u64 {
    param.layout.device_matrix.iter().product()
}

/// `12-model.weight` as `12` and `model.weight`.
fn split_stage(name: &str) -> Option<(&str, &str)> {
    let (stage, rest) = name.split_once('-')?;
    (!stage.is_empty() && stage.bytes().all(|byte| byte.is_ascii_digit())).then_some((stage, rest))
}

fn parse_stage(item: &RawLayout, stage: &str) -> Result<u32, FormatError> {
    stage.parse().map_err(|_| {
        let why = format!("the stage {stage} in its name is no 32-bit number");
        FormatError::new(item.at, FormatFault::BadLayout { param: item.name.clone(), why })
    })
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
