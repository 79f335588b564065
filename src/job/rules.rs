//! What in a job does not go together, and which values are invalid: checked before anything else, in this order.
//!
//! What depends on the source is refused where the source is read.

use bytesize::ByteSize;

use super::choices::{Format, Function, Lora, Names};
use super::fields::{Field, given};
use super::patterns::Patterns;
use super::spec::{Calibrate, Edits, Job, Reading};
use crate::Error;
use crate::engine::EngineConfig;
use crate::model::GROUP_SIZES;
use crate::plan::{MAX_RANKS, QuantisedAs};

/// Below this there is no space for a buffer for each worker and the plan.
const LEAST_MEMORY: u64 = 32 << 20;
/// The largest read or write.
const LARGEST_CHUNK: u64 = 64 << 20;

/// A sentence about a job, which it may break.
type Rule = fn(&Job) -> Result<(), Error>;

const RULES: [Rule; 18] = [
    quantises_rank_files,
    grouped_where_quantised,
    calibrates_on_data,
    one_whole_model,
    no_strategy_of_pytorch,
    runs_the_model_to_quantise,
    takes_its_options,
    quantises_where_it_should,
    grouped_weights_alone,
    names_that_exist,
    strength_of_smoothing,
    data_set_with_its_file,
    format_of_the_function,
    mode_of_the_original,
    ranks_of_the_source,
    number_of_ranks,
    memory_and_threads,
    patterns,
];

impl Job {
    /// Refuses what does not go together, whatever the source is.
    ///
    /// # Errors
    /// The first rule that the job breaks, in words that name the options.
    pub fn check(&self) -> Result<(), Error> {
        RULES.iter().try_for_each(|rule| rule(self))
    }
}

/// What cannot be quantised.
fn quantises_rank_files(job: &Job) -> Result<(), Error> {
    let whole_model = matches!(job.function, Function::PtToMs | Function::MsToPt);
    if job.precision.quantises().is_none() || !(whole_model || job.target.strip_only) {
        return Ok(());
    }
    let precision = job.precision;
    let what = if whole_model { format!("-f {}", job.function) } else { "--strip-only".to_owned() };
    Err(Error::Usage(format!(
        "{what} does not quantise: -p fp16, bf16, fp32 or keep (-f quant_weight -p {precision} quantises rank files)"
    )))
}

fn grouped_where_quantised(job: &Job) -> Result<(), Error> {
    if job.quantise.group_size.is_none() || job.is_quantising() {
        return Ok(());
    }
    Err(Error::Usage(
        "--group-size goes with -f quant_weight -p w8a16 or w4a16; what is quantised already keeps its groups"
            .to_owned(),
    ))
}

fn calibrates_on_data(job: &Job) -> Result<(), Error> {
    let calibrate = &job.calibrate;
    let first = given(job).into_iter().find(|field| field.is_of_calibration());
    match first.filter(|_| calibrate.dataset_name.is_none()) {
        Some(Field { option, .. }) => {
            Err(Error::Usage(format!("{option} goes with -d (a data set) and -f quant_weight")))
        }
        None => Ok(()),
    }
}

/// What a training run becomes beside ranks of MindSpore's is no model of Hugging Face's.
fn one_whole_model(job: &Job) -> Result<(), Error> {
    if job.function != Function::MsToPt {
        return Ok(());
    }
    if job.edits.lora == Some(Lora::Keep) {
        let why =
            "-f ms_to_pt does not write adapters: --lora merge adds them to their weights, --lora drop leaves them out";
        return Err(Error::Usage(why.to_owned()));
    }
    if job.target.crc {
        let why =
            "--crc goes with ckpt files, which -f ms_to_pt does not write; the manifest has the sums of all tensors";
        return Err(Error::Usage(why.to_owned()));
    }
    let counts = [("-w", job.target.ranks.is_some_and(|ranks| ranks != 1)), ("-ds", job.target.strategy.is_some())];
    match counts.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Error::Usage(format!("-f ms_to_pt writes one whole model: leave {option} out"))),
        None => Ok(()),
    }
}

fn no_strategy_of_pytorch(job: &Job) -> Result<(), Error> {
    if job.function == Function::PtToMs && job.source.strategy.is_some() {
        let why = "-ss goes with rank files: what PyTorch programs write has no strategy, leave -ss out";
        return Err(Error::Usage(why.to_owned()));
    }
    Ok(())
}

/// Statistics that one function gathers serve the other.
fn runs_the_model_to_quantise(job: &Job) -> Result<(), Error> {
    let needs = job.function == Function::TrainToInfer && job.precision.needs_statistics();
    if needs && job.quantise.stats.is_none() && job.names_a_data_set() {
        return Err(Error::Usage(
            "-d and -dp run the model with -f quant_weight only; give the statistics that it writes, with --stats"
                .to_owned(),
        ));
    }
    Ok(())
}

/// An option that changes nothing was given in the belief that it does.
fn takes_its_options(job: &Job) -> Result<(), Error> {
    let unused = given(job).into_iter().find(|field| !field.functions.contains(&job.function));
    if let Some(Field { option, functions, .. }) = unused {
        let names: Vec<&str> = functions.iter().map(|function| function.name()).collect();
        let functions = match names.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            _ => names.concat(),
        };
        return Err(Error::Usage(format!("{option} goes with -f {functions}")));
    }
    let plain = given(job).into_iter().find(|field| field.is_of_quantising() && !job.is_quantising());
    match plain {
        Some(Field { option, .. }) => {
            let precision = job.precision;
            Err(Error::Usage(format!("{option} goes with a quantised type such as -p w8a16, not {precision}")))
        }
        None => Ok(()),
    }
}

fn quantises_where_it_should(job: &Job) -> Result<(), Error> {
    if job.function != Function::QuantWeight || job.precision.quantises().is_some() {
        return Ok(());
    }
    let name = job.precision;
    Err(Error::Usage(format!(
        "-f quant_weight does not write {name}: give -p w8a16, w8a8, w8a16c8, w8a8c8, fp16c8 or (an extension) w4a16"
    )))
}

fn grouped_weights_alone(job: &Job) -> Result<(), Error> {
    let Some(size) = job.quantise.group_size else { return Ok(()) };
    let alone = |what: QuantisedAs| what.weights.is_some() && !what.inputs && !what.caches;
    if !job.precision.quantises().is_some_and(alone) {
        let name = job.precision;
        return Err(Error::Usage(format!("--group-size goes with -p w8a16 or w4a16, not {name}")));
    }
    if !GROUP_SIZES.contains(&size) {
        return Err(Error::Usage(format!("--group-size {size}: give 64 or 128")));
    }
    Ok(())
}

fn names_that_exist(job: &Job) -> Result<(), Error> {
    let names = job.quantise.names;
    if !job.is_quantising() || names == Names::Gs06 || !job.quantises_beyond_golden_stick() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--names {names}: golden-stick has no names for w4a16 and --group-size; they have our own"
    )))
}

fn strength_of_smoothing(job: &Job) -> Result<(), Error> {
    let alpha = job.quantise.alpha;
    if (0.0..=1.0).contains(&alpha) {
        return Ok(());
    }
    Err(Error::Usage(format!("--alpha {alpha}: give a number from 0 to 1")))
}

fn data_set_with_its_file(job: &Job) -> Result<(), Error> {
    let Calibrate { dataset_name, dataset_path, .. } = &job.calibrate;
    if job.runs_the_model() && (dataset_name.is_none() || dataset_path.is_none()) {
        return Err(Error::Usage("-d (which data set) and -dp (its file) go together".to_owned()));
    }
    Ok(())
}

fn format_of_the_function(job: &Job) -> Result<(), Error> {
    match (job.function, job.target.format) {
        (Function::MsToPt, Some(Format::Ckpt)) => Err(Error::Usage("-f ms_to_pt writes safetensors or bin".to_owned())),
        (Function::MsToPt, _) => Ok(()),
        (_, Some(Format::Bin)) => Err(Error::Usage("--format bin goes with -f ms_to_pt".to_owned())),
        _ => Ok(()),
    }
}

/// The original has two modes, of which each leaves some checkpoints to the other; here one way does for all.
fn mode_of_the_original(job: &Job) -> Result<(), Error> {
    match job.source.mode.as_deref() {
        None | Some("1" | "2") => Ok(()),
        Some(other) => Err(Error::Usage(format!("-tm {other}: give 1 or 2 (both give the same result)"))),
    }
}

fn ranks_of_the_source(job: &Job) -> Result<(), Error> {
    let target = &job.target;
    let unknown = job.train_strategy().is_none() && target.ranks.is_some_and(|ranks| ranks != 1);
    if target.strip_only && (target.strategy.is_some() || unknown) {
        return Err(Error::Usage("--strip-only writes the ranks of the source: leave -w and -ds out".to_owned()));
    }
    Ok(())
}

fn number_of_ranks(job: &Job) -> Result<(), Error> {
    match job.target.ranks {
        Some(0) => Err(Error::Usage("-w 0: a checkpoint has at least one rank".to_owned())),
        Some(ranks) if u64::from(ranks) > MAX_RANKS => {
            Err(Error::Usage(format!("-w {ranks}: at most {MAX_RANKS} ranks")))
        }
        _ => Ok(()),
    }
}

fn memory_and_threads(job: &Job) -> Result<(), Error> {
    job.run.reading.check()
}

fn patterns(job: &Job) -> Result<(), Error> {
    let Edits { ignore, keep, drop, .. } = &job.edits;
    [("--ignore", ignore), ("--keep", keep), ("--drop", drop)]
        .into_iter()
        .try_for_each(|(option, patterns)| Patterns::of(option, patterns).map(|_| ()))
}

impl Reading {
    /// Refuses what is no number of threads, no size of a read, and the like.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self { memory, workers, chunk, depth, .. } = self;
        if let Some(memory) = memory.filter(|memory| *memory < LEAST_MEMORY).map(ByteSize::b) {
            return Err(Error::Usage(format!("--memory {memory} is too little: give at least 32MiB")));
        }
        if let Some(workers) = workers.filter(|workers| !(1..=256).contains(workers)) {
            return Err(Error::Usage(format!("--workers {workers}: give a number from 1 to 256")));
        }
        if let Some(chunk) = chunk.filter(|chunk| !is_chunk(*chunk)) {
            return Err(Error::Usage(format!("--chunk {chunk}: give a power of two from 64KiB to 64MiB")));
        }
        if let Some(depth) = depth.filter(|depth| !(1..=256).contains(depth)) {
            return Err(Error::Usage(format!("--depth {depth}: give a number from 1 to 256")));
        }
        Ok(())
    }
}

/// Whether that may be the largest read or write.
pub(crate) fn is_chunk(bytes: u64) -> bool {
    bytes.is_power_of_two() && (EngineConfig::SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&bytes)
}
