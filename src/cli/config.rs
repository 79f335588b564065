//! From what was typed to what the layers below want; the one place that promises inputs stay unchanged.

use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::cli::args::{Function, FusionArg, NamesArg, PrecisionArg};
use crate::cli::environment;
use crate::cli::run_args::{OutputArgs, ReadArgs, ReaderArg, ReflinkArg, RunArgs, WriterArg, WritesArg};
use crate::engine::{CancelToken, Chosen, Durability, Facts, Reflink, Wishes, WriterKind, Writes, choose};
use crate::model::FusionLayout;
use crate::plan::Precision;
use crate::report::ProgressMode;
use crate::sys::{self, Mapping, Place, Reader, StableInputs};
use crate::tensor::Dtype;

/// Below this there is no room for a buffer for each worker and the plan.
const LEAST_MEMORY: u64 = 32 << 20;

/// The promise that the inputs stay unchanged.
pub(crate) fn stable_inputs() -> StableInputs {
    // SAFETY: `assume` asks that nobody modifies or truncates the mapped files. The program cannot make sure of that; it is
    // what `--help` and the README ask of the user, as `cp` gives no sensible result either while its source is written to.
    // The obligation is the user's: this reasoning should be treated as suspect. What follows where it is broken: other bytes
    // than the plan saw, or a SIGBUS; in neither case is anything published, as staged files get their names only at the end.
    #[expect(unsafe_code, reason = "the promise that only the program can make")]
    unsafe {
        StableInputs::assume()
    }
}

/// What was asked of the engine.
pub(crate) fn wishes(run: &RunArgs, durability: Durability) -> Result<Wishes, Error> {
    Ok(Wishes {
        writes: match run.writes {
            WritesArg::Auto => Writes::Auto,
            WritesArg::Direct => Writes::Direct,
            WritesArg::Buffered => Writes::Buffered,
        },
        writer: match run.writer {
            WriterArg::Auto => WriterKind::Auto,
            WriterArg::Uring => WriterKind::Uring,
            WriterArg::Pwrite => WriterKind::Pwrite,
        },
        reflink: match run.reflink {
            ReflinkArg::Auto => Reflink::Auto,
            ReflinkArg::Never => Reflink::Never,
        },
        durability,
        ..wishes_of_reading(&run.reading)?
    })
}

/// What was asked of the engine where nothing is written.
pub(crate) fn wishes_of_reading(run: &ReadArgs) -> Result<Wishes, Error> {
    if let Some(memory) = run.memory.filter(|memory| memory.as_u64() < LEAST_MEMORY) {
        return Err(Error::Usage(format!("--memory {memory} is too little: give at least 32MiB")));
    }
    if let Some(workers) = run.workers.filter(|workers| !(1..=256).contains(workers)) {
        return Err(Error::Usage(format!("--workers {workers}: give a number from 1 to 256")));
    }
    Ok(Wishes {
        workers: run.workers,
        memory: run.memory.map(|memory| memory.as_u64()),
        chunk: run.chunk,
        depth: run.depth,
        reader: match run.reader {
            ReaderArg::Auto => None,
            ReaderArg::Mapped => Some(Reader::Mapped),
            ReaderArg::Direct => Some(Reader::Direct),
            ReaderArg::Sequential => Some(Reader::Sequential),
        },
        durability: Durability::Cached,
        ..Wishes::default()
    })
}

/// How many threads a command that only reads uses.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Looks at the machine and chooses. The sources are told how they will be read. `target`: where, and how many bytes.
pub(crate) fn settle(wishes: &Wishes, sources: &[Arc<Mapping>], target: Option<(&Path, u64)>) -> Chosen {
    let facts = Facts {
        sources: sources.iter().map(|source| Place::of_file(source.path())).collect(),
        target: target.map(|(path, _)| Place::of_directory(path)),
        output: target.map_or(0, |(_, bytes)| bytes),
        processors: processors(),
        memory: sys::available_memory(),
        uring_refused: sys::uring().err().map(|e| e.to_string()),
    };
    let chosen = choose(&facts, wishes);
    for (source, reader) in sources.iter().zip(&chosen.readers) {
        source.set_reader(*reader);
    }
    chosen
}

/// Where progress goes.
pub(crate) fn progress(output: &OutputArgs) -> ProgressMode {
    if output.quiet {
        ProgressMode::Quiet
    } else if environment::is_capable() {
        ProgressMode::Auto
    } else {
        ProgressMode::Lines
    }
}

/// A token that Ctrl-C and SIGTERM cancel. A second signal ends the program at once.
pub(crate) fn cancel_on_signal() -> Result<CancelToken, Error> {
    let token = CancelToken::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, token.flag())
            .and_then(|_| signal_hook::flag::register(signal, token.flag()));
        registered.map_err(|e| Error::Usage(format!("cannot watch for signal {signal}: {e}")))?;
    }
    Ok(token)
}

/// The dtype that a precision names. What is quantised already keeps its own.
pub(crate) fn precision(arg: PrecisionArg) -> Precision {
    match arg {
        PrecisionArg::Fp16 => Precision::To(Dtype::F16),
        PrecisionArg::Bf16 => Precision::To(Dtype::BF16),
        PrecisionArg::Fp32 => Precision::To(Dtype::F32),
        PrecisionArg::Keep
        | PrecisionArg::W8a16
        | PrecisionArg::W8a8
        | PrecisionArg::W8a16c8
        | PrecisionArg::W8a8c8
        | PrecisionArg::Fp16c8
        | PrecisionArg::W4a16 => Precision::Keep,
    }
}

/// The function as it stands on the command line.
pub(crate) fn function_name(arg: Function) -> String {
    clap::ValueEnum::to_possible_value(&arg).map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The precision as it stands in the target's name.
pub(crate) fn precision_name(arg: PrecisionArg) -> String {
    clap::ValueEnum::to_possible_value(&arg).map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The generation's name, as it is typed.
pub(crate) fn names(names: NamesArg) -> String {
    clap::ValueEnum::to_possible_value(&names).map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The order of rows in fused parameters.
pub(crate) fn fusion(arg: FusionArg) -> FusionLayout {
    match arg {
        FusionArg::RankConcat => FusionLayout::RankConcat,
        FusionArg::Grouped => FusionLayout::Grouped,
    }
}

/// Patterns of names, with `*` and `?`.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<glob::Pattern>);

impl Patterns {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, Error> {
        Self::of("--ignore", patterns)
    }

    /// Those of another option, which is named where one is no pattern.
    pub(crate) fn of(option: &str, patterns: &[String]) -> Result<Self, Error> {
        let compile =
            |text: &String| glob::Pattern::new(text).map_err(|e| Error::Usage(format!("{option} {text}: {e}")));
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}
