//! `-d` and `-dp`: the model is run to gather the statistics that would else be read from `--stats`.

use std::path::{Path, PathBuf};

use super::observer::{Observer, Step};
use super::planner::Facts;
use super::reading;
use super::spec::Job;
use crate::Error;
use crate::calibrate::{self, Arithmetic, CalibrateError, DataSet, Special, Weights, Words};
use crate::engine::{CancelToken, Durability};
use crate::input::{InputError, load_run_facts};
use crate::model::Model;
use crate::model::RunFacts;
use crate::plan::{PlanError, Statistics};
use crate::sys;

/// The largest data set and tokenizer that are read. Wikitext-2's training text has 11 MB, squad's 30 MB, large tokenizers 40.
const MAX_FILE: u64 = 256 << 20;
/// The number of samples where none is requested: golden-stick's.
const SAMPLES: u32 = 200;
/// Tokens of a sample where no length is requested: of a stream of text, and of one that is what it is.
const STREAM_LENGTH: u32 = 512;
const TEXT_LENGTH: u32 = 4096;

/// Runs the model; keeps what was seen at `keep`.
pub(super) fn run(facts: &Facts<'_>, spec: &Model, keep: &Path, cancel: &CancelToken) -> Result<Statistics, Error> {
    let (job, observer) = (facts.case.job, facts.case.observer);
    let samples = samples(job, observer)?;
    let how = arithmetic(job, observer, spec)?;
    let needed = calibrate::memory(spec, &samples) + sys::anonymous_memory().unwrap_or(0);
    let allowed = job.run.reading.memory.or_else(sys::available_memory).unwrap_or(u64::MAX);
    if needed > allowed {
        return Err(CalibrateError::Memory { needed, allowed }.into());
    }
    let mappings = facts.case.input().mappings();
    let weights = Weights::new(facts.files, facts.case.input(), &facts.catalog, spec, mappings.clone())?;
    let step = Step::begin(observer, "calibrating");
    let gathered = calibrate::gather(&weights, spec, &how, &samples, &step, cancel).map_err(Error::from);
    let bytes = reading::as_read(&mappings, gathered)?;
    step.finish();
    let made = crate::formats::safetensors::read(&bytes)
        .map_err(|source| PlanError::Header { rank: 0, source })
        .and_then(|file| Statistics::new(&file.entries, &bytes))?;
    if let Some(dir) = keep.parent() {
        sys::create_dir(dir)?;
    }
    sys::replace_small(keep, job.durability() == Durability::Synced, &bytes)?;
    observer.note(&format!("the statistics are kept in {}: --stats FILE uses them again", keep.display()));
    Ok(made)
}

/// The data set's tokens.
fn samples(job: &Job, observer: &dyn Observer) -> Result<Vec<Vec<u32>>, Error> {
    let (Some(name), Some(path)) = (&job.calibrate.dataset_name, &job.calibrate.dataset_path) else {
        return Ok(Vec::new());
    };
    let set = DataSet::named(name).ok_or_else(|| CalibrateError::UnknownDataSet(name.clone()))?;
    let words = words(job)?;
    let count = job.calibrate.samples.unwrap_or(SAMPLES);
    let stream = set == DataSet::WikiText2;
    let length = job.calibrate.seq_length.unwrap_or(if stream { STREAM_LENGTH } else { TEXT_LENGTH });
    let (wanted, length) = (index(count), index(length));
    let texts =
        set.read(&required(path)?, wanted).map_err(|source| CalibrateError::Data { path: path.clone(), source })?;
    let samples = words.samples(&texts, wanted, length)?;
    if samples.is_empty() {
        let why = if stream {
            format!("the text has fewer tokens than one sample, {length}: give a longer one, or --seq-length")
        } else {
            "holds no sample".to_owned()
        };
        return Err(CalibrateError::NoSample { path: path.clone(), why }.into());
    }
    if let Some(empty) = samples.iter().position(Vec::is_empty) {
        let why = format!("sample {} has no tokens", empty + 1);
        return Err(CalibrateError::NoSample { path: path.clone(), why }.into());
    }
    if samples.len() < wanted {
        observer.note(&format!("{} has {} samples; {wanted} were expected", path.display(), samples.len()));
    }
    Ok(samples)
}

fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The file's bytes; it must be there.
fn required(path: &Path) -> Result<Vec<u8>, Error> {
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(InputError::NotFound(path.to_owned()).into());
    }
    Ok(sys::read_small(path, MAX_FILE)?)
}

/// The bytes of a file beside the tokenizer, if it is there.
fn beside(tokenizer: &Path, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let path = tokenizer.with_file_name(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = sys::read_small(&path, 4 << 20)?;
    Ok(Some((path, bytes)))
}

/// The tokenizer's file: the one that was named, or that of the source.
fn tokenizer(job: &Job) -> Result<PathBuf, CalibrateError> {
    if let Some(path) = &job.calibrate.tokenizer {
        return Ok(path.clone());
    }
    // A link's own neighbours are not those of what it points to.
    let source = std::path::absolute(&job.source.path).unwrap_or_else(|_| job.source.path.clone());
    let places = || source.ancestors().skip(usize::from(!source.is_dir())).take(2);
    if let Some(found) = places().map(|dir| dir.join("tokenizer.json")).find(|path| path.is_file()) {
        return Ok(found);
    }
    let pieces = places().map(|dir| dir.join("tokenizer.model")).find(|path| path.is_file());
    let and = pieces.map_or_else(String::new, |path| {
        format!(
            "; {} is sentencepiece's, which transformers makes one of: AutoTokenizer.from_pretrained(DIR).save_pretrained(OUT)",
            path.display()
        )
    });
    Err(CalibrateError::Tokenizer(format!(
        "no tokenizer.json is in {} or the directory above: name the model's with --tokenizer FILE{and}",
        job.source.path.display()
    )))
}

fn words(job: &Job) -> Result<Words, Error> {
    let args = &job.calibrate;
    let path = tokenizer(job)?;
    let json = required(&path)?;
    let stated = beside(&path, "tokenizer_config.json")?;
    let special = Special {
        bos: args.bos_token.as_deref(),
        eos: args.eos_token.as_deref(),
        config: stated.as_ref().map(|(_, bytes)| bytes.as_slice()),
    };
    Words::new(&json, &special).map_err(|e| match e {
        CalibrateError::Tokenizer(why) => CalibrateError::Tokenizer(format!("{}: {why}", path.display())).into(),
        other => other.into(),
    })
}

/// The numbers of the model's arithmetic: as requested, as -y says, or as the config.json beside the tokenizer says.
fn arithmetic(job: &Job, observer: &dyn Observer, spec: &Model) -> Result<Arithmetic, Error> {
    let given = &job.calibrate;
    let named = job.model.yaml.as_deref().map(load_run_facts).transpose()?.unwrap_or_default();
    let config = match tokenizer(job).ok().map(|path| beside(&path, "config.json")).transpose()?.flatten() {
        Some((path, bytes)) => {
            let facts = RunFacts::from_config_json(&bytes);
            let facts = facts.map_err(|source| InputError::Model { name: path.display().to_string(), source })?;
            if let Some(ambiguity) = facts.ambiguity.as_ref().filter(|_| given.rope_theta.is_none()) {
                observer.note(&format!(
                    "{}: {ambiguity}; the model is run as transformers 5 runs it (--rope-theta NUMBER gives another base)",
                    path.display()
                ));
            }
            facts
        }
        None => RunFacts::default(),
    };
    if let Some(unknown) = named.unknown.or(config.unknown) {
        let why = format!(
            "{unknown} changes its arithmetic in a way that is not built; gather statistics elsewhere (--stats)"
        );
        return Err(CalibrateError::Model(why).into());
    }
    let one = |asked: Option<f64>, named: Option<f64>, config: Option<f64>, what: &str, option: &str| {
        #[expect(clippy::float_cmp, reason = "two files that say the same say it in the same digits")]
        let differ = named.zip(config).filter(|(a, b)| a != b);
        let why = match (asked, differ, named.or(config)) {
            (Some(asked), ..) => return Ok(asked),
            (None, Some((a, b)), _) => {
                format!("-y says that {what} is {a}, config.json says {b}: say which with {option}")
            }
            (None, None, Some(found)) => return Ok(found),
            (None, None, None) => {
                format!("neither -y nor a config.json beside the tokenizer says {what}: give {option} NUMBER")
            }
        };
        Err(CalibrateError::Model(why))
    };
    let eps = one(given.norm_eps, named.norm_eps, config.norm_eps, "what the norms add (rms_norm_eps)", "--norm-eps")?;
    let theta = one(given.rope_theta, named.rope_theta, config.rope_theta, "the rotary base (theta)", "--rope-theta")?;
    Ok(Arithmetic::new(spec, eps, theta)?)
}
