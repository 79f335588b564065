//! What an option of a job may be, where it is one of a few words.
#![expect(clippy::doc_markdown, reason = "these comments are also the text of --help, where backticks would show")]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::FusionLayout;
use crate::plan::{QuantisedAs, Width};
use crate::tensor::Dtype;

/// An enumeration each of whose variants has a name, by which it is typed, printed and serialised, and a line about it.
macro_rules! named {
    (
        $(#[doc = $about:literal])+
        pub enum $type:ident { $($(#[doc = $line:literal])+ $(#[$other:meta])* $variant:ident = $name:literal,)+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $type {
            $($(#[doc = $line])+ $(#[$other])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// All of them, in the order in which they are listed.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it is, in a line.
            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($line),+),)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// What to do.
    pub enum Function {
        /// n ranks to m ranks, fused or not.
        DistributedWeightTransfer = "distributed_weight_transfer",
        /// Training checkpoint to inference checkpoint.
        TrainToInfer = "train_to_infer",
        /// Floating-point weights to int8 (or int4), by the arithmetic of golden-stick.
        QuantWeight = "quant_weight",
        /// Hugging Face, PyTorch or Meta to MindSpore.
        PtToMs = "pt_to_ms",
        /// MindSpore to Hugging Face.
        MsToPt = "ms_to_pt",
    }
}

named! {
    /// A precision.
    pub enum Precision {
        /// IEEE half precision.
        Fp16 = "fp16",
        /// bfloat16.
        Bf16 = "bf16",
        /// IEEE single precision.
        Fp32 = "fp32",
        /// As in the source, tensor by tensor.
        Keep = "keep",
        /// int8 weights.
        W8a16 = "w8a16",
        /// int8 weights and activations.
        W8a8 = "w8a8",
        /// int8 weights and KV cache.
        W8a16c8 = "w8a16c8",
        /// int8 weights, activations and KV cache.
        W8a8c8 = "w8a8c8",
        /// int8 KV cache.
        Fp16c8 = "fp16c8",
        /// int4 weights. An extension: no network of golden-stick loads its parameter names.
        W4a16 = "w4a16",
    }
}

impl Precision {
    /// What it quantises.
    pub(crate) fn quantises(self) -> Option<QuantisedAs> {
        let (weights, inputs, caches) = match self {
            Self::W8a16 => (Some(Width::Int8), false, false),
            Self::W8a8 => (Some(Width::Int8), true, false),
            Self::W8a16c8 => (Some(Width::Int8), false, true),
            Self::W8a8c8 => (Some(Width::Int8), true, true),
            Self::Fp16c8 => (None, false, true),
            Self::W4a16 => (Some(Width::Int4), false, false),
            Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Keep => return None,
        };
        Some(QuantisedAs { weights, inputs, caches })
    }

    /// Whether it depends on what the layers see: on statistics of the activations.
    pub(crate) fn needs_statistics(self) -> bool {
        self.quantises().is_some_and(|what| what.inputs || what.caches)
    }

    /// The dtype that it names. What is quantised already keeps its own.
    pub(super) fn of_weights(self) -> crate::plan::Precision {
        match self {
            Self::Fp16 => crate::plan::Precision::To(Dtype::F16),
            Self::Bf16 => crate::plan::Precision::To(Dtype::BF16),
            Self::Fp32 => crate::plan::Precision::To(Dtype::F32),
            _ => crate::plan::Precision::Keep,
        }
    }
}

named! {
    /// The order of rows in fused parameters.
    pub enum Fusion {
        /// Each rank's q, k, v and gate, up one after the other (mindformers up to 1.3).
        RankConcat = "rank-concat",
        /// Grouped by kv head; gate and up row by row in turn (mindformers from 1.4 on).
        Grouped = "grouped",
    }
}

impl From<Fusion> for FusionLayout {
    fn from(order: Fusion) -> Self {
        match order {
            Fusion::RankConcat => Self::RankConcat,
            Fusion::Grouped => Self::Grouped,
        }
    }
}

impl From<FusionLayout> for Fusion {
    fn from(order: FusionLayout) -> Self {
        match order {
            FusionLayout::RankConcat => Self::RankConcat,
            FusionLayout::Grouped => Self::Grouped,
        }
    }
}

named! {
    /// A file format.
    pub enum Format {
        /// MindSpore's protobuf.
        Ckpt = "ckpt",
        /// Hugging Face's safetensors.
        Safetensors = "safetensors",
        /// PyTorch's pickled .bin (ms_to_pt).
        Bin = "bin",
    }
}

named! {
    /// How .ckpt files are laid out. Both are the same parameters to MindSpore.
    pub enum CkptRecords {
        /// With padding that lets data go straight from source to target.
        Aligned = "aligned",
        /// Byte for byte as MindSpore writes them.
        Canonical = "canonical",
    }
}

named! {
    /// Whose names quantised parameters have.
    pub enum Names {
        /// golden-stick 0.6.0 (with mindformers 1.3): t_scale, t_zp_neg.
        Gs06 = "gs-0.6",
        /// golden-stick 1.x: weight_scale, weight_zp (w8a16 only).
        Gs1x = "gs-1.x",
        /// Round-to-nearest: _handler, _weight_quantizer; scales and quotients in fp32 (w8a16 only).
        Rtn = "rtn",
    }
}

named! {
    /// What is done with LoRA adapters.
    pub enum Lora {
        /// W + (alpha/r) B A, computed in fp32.
        Merge = "merge",
        /// The adapters go to the target as they are.
        Keep = "keep",
        /// The adapters are left out.
        Drop = "drop",
    }
}

named! {
    /// How chunks reach the disk.
    pub enum Writer {
        /// io_uring where the kernel allows it, else pwrite.
        Auto = "auto",
        /// io_uring or an error.
        Uring = "uring",
        /// pwrite.
        Pwrite = "pwrite",
    }
}

named! {
    /// How sources are read.
    pub enum Reader {
        /// By the file system: local disks from the page cache or past it, network and FUSE sequentially, memory mapped.
        Auto = "auto",
        /// From the memory mapping.
        Mapped = "mapped",
        /// Past the page cache, where the file system allows it.
        Direct = "direct",
        /// In large reads from front to back.
        Sequential = "sequential",
    }
}

named! {
    /// How output is written.
    pub enum Writes {
        /// Past the page cache on local disks when the output is flushed, else through it.
        Auto = "auto",
        /// Past the page cache, where the file system allows it.
        Direct = "direct",
        /// Through the page cache.
        Buffered = "buffered",
    }
}

named! {
    /// Whether source and target may share blocks on the disk.
    pub enum Reflink {
        /// Where they lie on one file system that can (XFS, btrfs).
        Auto = "auto",
        /// Every byte is written.
        Never = "never",
    }
}
