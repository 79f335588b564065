//! The largest counts and lengths that the parsers accept. Each is far above any honest file and far below what would
//! hurt this process.

/// Bytes of a parameter's name. Names of the field stay below 200 bytes; this leaves room for generated ones.
pub const MAX_NAME_BYTES: u64 = 64 << 10;

/// Tensors in one file. A mixture-of-experts model with one tensor per expert and both Adam moments has some 300,000;
/// four million entries take about 1 GB of metadata.
pub const MAX_ENTRIES: usize = 4_000_000;

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
/// some fifty times its size, so one megabyte keeps that harmless.
pub const MAX_STRATEGY_ITEM_BYTES: u64 = 1 << 20;

/// Depth of nested protobuf groups in fields that are skipped: protobuf's own default recursion limit.
pub const MAX_GROUP_DEPTH: usize = 100;

/// Devices of one pipeline stage. Ranks are 32-bit numbers in MindSpore.
pub const MAX_STAGE_DEVICES: u64 = u32::MAX as u64;

/// Values, references and marks that one pickle may make, each of some 40 bytes in memory; larger ones count as several.
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
