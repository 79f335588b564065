//! The largest counts and lengths that the parsers accept. Each is far above any honest file and far below what would
//! hurt this process.

/// Bytes of a parameter's name. Names of the field stay below 200 bytes; this leaves space for generated ones.
pub const MAX_NAME_BYTES: u64 = 64 << 10;

/// Tensors in one file. A mixture-of-experts model with one tensor per expert and both Adam moments has some 300,000;
/// four million entries take about 1 GB of metadata.
pub const MAX_ENTRIES: usize = 4_000_000;

/// Bytes of memory that one entry costs beside its name, from its header to the plan: measured, 1.98 KB for each of 1,350,000 entries
/// of a safetensors file. What the entries of all files cost together must be what `--memory` allows, or what the machine has.
pub const ENTRY_BYTES: u64 = 2048;

/// Bytes of memory that one more range of a parameter costs that is split over several records, while the list of them grows.
pub const EXTENT_BYTES: u64 = 64;

/// Bytes of memory that one layout of a strategy file costs beside its name, read and checked.
pub const LAYOUT_BYTES: u64 = 1024;

/// Bytes of memory that one value of a JSON tree costs beside its text, while the list that it is in grows.
pub const JSON_NODE_BYTES: u64 = 128;

/// Bytes of memory that a map of a JSON tree costs for each eleven of its keys.
pub const JSON_MAP_BYTES: u64 = 680;

/// Bytes of memory that one value, reference or mark of a pickle costs, while the list that it is in grows.
pub const PICKLE_VALUE_BYTES: u64 = 64;

/// Bytes of memory that one entry of a zip archive costs.
pub const ZIP_ENTRY_BYTES: u64 = 192;

/// Dimensions of a tensor, as [`Shape`](crate::tensor::Shape) itself accepts them: the list is not read on beyond it.
pub const MAX_RANK: usize = 16;

/// Bytes of a safetensors header, padding included: the limit of the safetensors library itself, so that whatever is
/// written can be read elsewhere.
pub const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Keys of a GGUF file. Files of the field have some fifty; a key and its value take some 200 bytes in memory, texts apart.
pub const MAX_GGUF_PAIRS: u64 = 1 << 16;

/// Bytes of a text that a GGUF file states and that is kept: names and types are shorter, templates of prompts need not be read.
pub const MAX_GGUF_TEXT: u64 = 1 << 10;

/// Bytes of a strategy or index file. A strategy item takes some 150 bytes: 64 MiB is over 400,000 parameters. A tree
/// of such JSON takes at most sixteen times its size in memory.
pub const MAX_SIDE_FILE_BYTES: u64 = 64 << 20;

/// Bytes of one item of a strategy file. It holds a name, a device matrix and a tensor map; decoding it costs at most
/// some fifty times its size, 6 MB, which are given back.
pub const MAX_STRATEGY_ITEM_BYTES: u64 = 128 << 10;

/// Depth of nested protobuf groups in fields that are skipped: protobuf's own default recursion limit.
pub const MAX_GROUP_DEPTH: usize = 100;

/// Devices of one pipeline stage. Ranks are 32-bit numbers in MindSpore.
pub const MAX_STAGE_DEVICES: u64 = u32::MAX as u64;

/// Values, references and marks that the pickles of one file may make, each of some 40 bytes in memory; larger ones count as several.
/// `torch.save` makes about 50 for a tensor: enough for 800,000 tensors, and below 3 GB for a hostile pickle.
pub const MAX_PICKLE_VALUES: usize = 40_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn the_rank_limit_is_the_one_of_shapes() {
        assert!(Shape::new(vec![1; MAX_RANK]).is_ok());
        assert!(Shape::new(vec![1; MAX_RANK + 1]).is_err());
    }
}
