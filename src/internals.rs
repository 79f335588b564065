//! The one door to the layers below the face, for what is built with this package: its integration tests, benches and fuzz
//! targets. They look at single layers, as no user of the library needs to: whole conversions would not show where a parser reads
//! too far, nor what a kernel takes. Anything here may change with any version.
#![doc(hidden)]

/// Samples of calibration are compared with golden-stick's.
#[cfg(feature = "calibrate")]
pub mod calibrate {
    pub use crate::calibrate::{DataSet, Special, Texts, Words};
}

/// How a plan is shared out is measured, and rank tables are read as MindSpore's tools write them.
pub mod cluster {
    pub use crate::cluster::{RankTable, Unit, plan_id, run_id, shares};
}

/// Arithmetic is measured by itself.
pub mod engine {
    pub use crate::engine::{OutputReader, into_memory, kernels};
}

/// Parsers and writers are fuzzed, measured, and held against files of the peers.
pub mod formats {
    pub use crate::formats::{
        CKPT, Entry, FORMATS, FileLayout, Format, FormatFault, FormatRef, GGUF, PYTORCH, Reader, SAFETENSORS, Scanned,
        Segment, StatedCrc, TensorToWrite, Writing, detect,
    };

    pub mod gguf {
        pub use crate::formats::gguf::{GgufFile, read};
    }

    pub mod mindspore {
        pub use crate::formats::mindspore::{
            CkptOptions, StrategyFile, crc32, is_json_strategy, layout, merge_strategies, read_strategy, scan,
            strategy_to_json, strategy_to_protobuf, write_strategy,
        };
    }

    pub mod pytorch {
        pub use crate::formats::pytorch::{Other, PytorchFile, TensorView, archive_entries, layout, read, run_pickle};
    }

    pub mod safetensors {
        pub use crate::formats::safetensors::{layout, read, read_index};
    }
}

/// The plans of jobs are kept as text.
pub mod job {
    /// What a planned job will do.
    pub fn plan_of(planned: &crate::Planned) -> &crate::plan::Plan {
        planned.plan_value()
    }
}

/// Strided copies are measured.
pub mod layout {
    pub use crate::layout::{Dim, Move, Piece, Region};
}

/// The tables of models, whole: not everything in them is used by conversions yet.
pub mod model {
    pub use crate::model::*;
}

/// Planning is measured by itself.
pub mod plan {
    pub use crate::plan::{
        Arrangement, Catalog, CatalogOptions, Evidence, InFile, Op, OpsId, OutputFile, OutputTensor, Plan, PlanOptions,
        PlanSource, Precision, Route, SourceFile, SourceId, SourceTensor, StoredId, TargetOptions, Unread, build,
        prove, targets,
    };
}

/// The vocabulary of the others.
pub mod source {
    pub use crate::source::{ByteRange, Extents};
}

/// What measuring takes.
pub mod sys {
    pub use crate::storage::LocalBlob as Mapping;
    pub use crate::sys::anonymous_memory;
}

/// The vocabulary of the others.
pub mod tensor {
    pub use crate::tensor::{BlockType, Dtype, Shape};
}
