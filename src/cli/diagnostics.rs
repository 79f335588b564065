//! From errors to text with the way out.

use std::borrow::Cow;
use std::io;
use std::path::Path;

#[cfg(feature = "calibrate")]
use crate::calibrate::CalibrateError;
use crate::cluster::ClusterError;
use crate::engine::EngineError;
use crate::formats::FormatFault;
use crate::input::{InputError, checkpoints_below};
use crate::layout::LayoutError;
use crate::model::QuantTool;
use crate::model::naming::{HEAD, HEAD_LAYER, role};
use crate::model::{SpecError, builtin_names};
use crate::plan::{self, PlanError};
use crate::report::plain;
use crate::sys::{FileError, FileOp};
use crate::{Error, ErrorKind};

/// The error and its causes in one line, and what the user can do in the next.
pub(super) fn render(error: &Error) -> String {
    let said: Vec<String> = match error {
        // Each is of a line of its own.
        Error::Families(all) => all.0.iter().map(ToString::to_string).collect(),
        _ => vec![error.to_string()],
    };
    let mut lines: Vec<String> = said.iter().map(|said| format!("error: {}", plain(said))).collect();
    if let Error::Missing { options, .. } = error {
        lines.extend(options.iter().map(|(name, what)| format!("  {name:<3} {what}")));
    }
    lines.extend(hint(error).map(|hint| format!("hint: {hint}")));
    match error.kind() {
        ErrorKind::Cancelled => lines.push("nothing was published; the unfinished files are removed".to_owned()),
        ErrorKind::Internal => lines.push("this is a fault of ckpt-convert; nothing was published".to_owned()),
        _ => {}
    }
    lines.join("\n")
}

/// What the user can do about it.
pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Plan(plan) => plan_hint(plan),
        Error::OtherModel { config, source } => {
            let own = plan_hint(source).map(|hint| format!("{hint}; ")).unwrap_or_default();
            Some(format!(
                "{own}the model is known from {}: if that is another model's, move it elsewhere, or name the model with -y, which \
                 takes precedence",
                config.display()
            ))
        }
        Error::Families(_) => {
            Some("`ckpt-convert families show NAME` prints a valid file; docs/en/families.md describes it".to_owned())
        }
        Error::Input(input) => input_hint(input),
        Error::Engine(engine) => engine_hint(engine),
        Error::Cluster(cluster) => cluster_hint(cluster).map(str::to_owned),
        Error::Overlap { .. } => Some("choose directories apart from each other with -dc and -is".to_owned()),
        Error::ReplicasDiffer(names) if names.iter().all(|name| name.strip_prefix(HEAD).is_some_and(|rest| rest.starts_with(" in "))) => Some(format!(
            "config.json or -y says tie_word_embeddings: true, but {HEAD_LAYER} is not the embedding: if it was trained, set it to false \
             there; if it is left over, leave it out with --ignore {HEAD}"
        )),
        Error::ReplicasDiffer(_) => {
            Some("the rank directories are not of one checkpoint, or not of one step of it".to_owned())
        }
        Error::NotWritable(_) | Error::CannotMake { .. } => Some("choose another directory with -dc or -is".to_owned()),
        Error::Output { published: Some(target), .. } => Some(format!(
            "{} is published and whole, only its summary is lost; the sums are in its manifest.json",
            target.display()
        )),
        Error::TooLittleMemory { .. } => Some("give a larger --memory, or use fewer --workers".to_owned()),
        Error::NoRoom { .. } => Some("free space, or choose another disk with -dc; nothing was written".to_owned()),
        Error::OtherStrategies(_) => Some(
            "choose another directory with -is; --overwrite replaces them, and they may belong to another target (fused and \
             unfused ones share the directory)"
                .to_owned(),
        ),
        Error::ForeignTarget(_) => {
            Some("move it elsewhere, or choose another directory with -dc or -is; nothing was changed".to_owned())
        }
        Error::ForeignStrategies { .. } => {
            Some("choose another directory with -is; --overwrite does not replace them".to_owned())
        }
        Error::TargetLink { target, to } => Some(link_hint(target, to)),
        Error::CannotMount { .. } => Some(
            "mounting requires /dev/fuse (`modprobe fuse`), and root or the program fusermount3 of the package fuse3; in a container: \
             --device /dev/fuse --cap-add SYS_ADMIN"
                .to_owned(),
        ),
        Error::NoMountPoint(at) => Some(format!("create one, or name another: mkdir -p {}", at.display())),
        Error::LeftMounted(at) => {
            Some(format!("unmount it, then start the same command again: fusermount -u {0} (root: umount {0})", at.display()))
        }
        Error::FileExists(_) => Some("choose another name, or remove it if it is no longer needed".to_owned()),
        Error::NoManifestThere(_) => {
            Some("choose another name with -o; without -o the manifest goes to standard output".to_owned())
        }
        Error::StrategiesMissing { .. } => Some("start the same command again: it publishes them".to_owned()),
        Error::ForeignFiles { .. } => {
            Some("move them elsewhere, or choose another directory with -dc or -is; nothing was changed".to_owned())
        }
        Error::InputInTarget { .. } => Some("choose another directory with -dc or -is; nothing was changed".to_owned()),
        Error::FusionContradicted { option, .. } => Some(format!(
            "leave {option} out to follow the files; only if you know better: --force-fusion lets {option} decide"
        )),
        Error::FusionUnknown { .. } => Some(
            "state it: --src-fusion grouped for a checkpoint of mindformers 1.4 or later, --src-fusion rank-concat for one of \
             mindformers up to 1.3 or of the original scripts"
                .to_owned(),
        ),
        Error::NoManifest(_) => Some("leave --check-source out, or copy manifest.json along with the checkpoint".to_owned()),
        Error::SumsDiffer { .. } => Some("the files are damaged or were changed: copy them again".to_owned()),
        Error::NoFeature { feature, .. } => Some(format!(
            "build it with --features {feature}; or gather the statistics elsewhere and give --stats FILE \
             (docs/en/statistics.md)"
        )),
        #[cfg(feature = "calibrate")]
        Error::Calibrate(calibrate) => calibrate_hint(calibrate).map(str::to_owned),
        Error::Missing { example, .. } => Some(format!("for example: {example}")),
        Error::File(e) => read_hint(e).map(str::to_owned),
        Error::Output { published: None, .. } | Error::Usage(_) => None,
    }
}

/// A target that was moved to another disk is named there, where the directory above can be given.
fn link_hint(target: &Path, to: &Path) -> String {
    let remove = "remove the link itself (what it leads to stays), or choose another directory with -dc or -is";
    match to.parent().filter(|_| to.is_dir() && to.file_name() == target.file_name()) {
        Some(dir) if to.file_name().is_some_and(|name| name != "strategy") => {
            format!("to write there name the directory that it leads to, -dc {}; or {remove}", dir.display())
        }
        _ => remove.to_owned(),
    }
}

#[cfg(feature = "calibrate")]
fn calibrate_hint(error: &CalibrateError) -> Option<&'static str> {
    match error {
        CalibrateError::Memory { .. } => {
            Some("run fewer --samples, shorter ones (--seq-length), or allow more --memory")
        }
        CalibrateError::Data { .. } => Some(
            "boolq is JSON lines, squad1.1 one JSON value, wikitext2 plain text; docs/en/statistics.md describes them",
        ),
        _ => None,
    }
}

fn engine_hint(error: &EngineError) -> Option<String> {
    let text = match error {
        EngineError::TargetExists(_) => "replace it with --overwrite, or choose another directory with -dc",
        EngineError::TargetBusy(_) => "wait for it, or choose another directory with -dc or -is",
        EngineError::LockUnclear { lock, .. } => {
            return Some(format!(
                "this file system does not support locks, and that process is not on this machine: if you are sure that no \
                 conversion is writing this target on any machine, remove {} and start again",
                lock.display()
            ));
        }
        EngineError::Vanished(_) => {
            "nothing was published: find out what removes files there (another conversion, a job that cleans up), then start \
             again"
        }
        EngineError::Uring(_) => "use --writer auto or --writer pwrite",
        EngineError::Memory { .. } => "use fewer --workers or a smaller --chunk",
        EngineError::Thread(_) => {
            "use fewer --workers, or raise the limit of this user (ulimit -u) or of the container (pids.max)"
        }
        EngineError::File(e) if e.source.kind() == std::io::ErrorKind::FileTooLarge && !e.is_input() => {
            "raise the file size limit (ulimit -f), or choose another file system with -dc or -is; nothing was published"
        }
        EngineError::File(e) if e.source.kind() == std::io::ErrorKind::StorageFull => {
            "free space, or choose another disk with -dc; nothing was published"
        }
        EngineError::File(e) => read_hint(e).unwrap_or("nothing was published"),
        _ => return None,
    };
    Some(text.to_owned())
}

/// What to do about a source that could not be read.
fn read_hint(error: &FileError) -> Option<&'static str> {
    match (error.op, error.source.kind()) {
        (FileOp::Read, io::ErrorKind::UnexpectedEof) => Some(CHANGES),
        (FileOp::Read, kind) if kind != io::ErrorKind::PermissionDenied && !error.is_input() => Some(
            "its disk, or the server of its file system, failed: `dmesg` shows more, and `cp` of the file fails there too; start again \
             when it can be read, or use another copy of the file. Nothing was published",
        ),
        _ => None,
    }
}

/// What to do about a source that changes.
const CHANGES: &str =
    "let whatever writes to the checkpoint finish, or work on a copy of it, and start again; nothing was published";

fn cluster_hint(error: &ClusterError) -> Option<&'static str> {
    Some(match error {
        ClusterError::NotInTable { .. } | ClusterError::TwiceInTable(_) => {
            "correct the table's server_id or host_ip, or say which host this is with --node-rank"
        }
        ClusterError::Disagree { .. } => {
            "leave one of them out (--nodes 1: this machine alone), or unset the variables of the wrong one"
        }
        ClusterError::Cards { .. } => {
            "give the table of the machines that will use the ranks, or -w as many as it has cards"
        }
        ClusterError::OtherPlan { .. } => {
            "all hosts need the same options, the same sources (copies with their times kept) and the same rank table; or \
             wait for the other one"
        }
        ClusterError::NodeBusy { .. } => "give each host its own --node-rank, or wait until the other has ended",
        ClusterError::Superseded(_) => "the other process continues; nothing is lost",
        ClusterError::PeerFailed { .. } | ClusterError::PeerDied { .. } | ClusterError::PeerAbsent { .. } => {
            "what this host has finished is kept: start the same command there again, and here too if this was not \
             waiting; the last one publishes"
        }
        ClusterError::BadRecord { .. } | ClusterError::Incomplete(_) => {
            "nothing was published; start the same command on all hosts again"
        }
        ClusterError::Unreadable { .. } => {
            "if another user's conversion is at work there, let that user make the directory readable for this one (chmod -R a+rX); \
             if none is, remove the directory"
        }
        ClusterError::Counted(_) => "remove that directory once no host of this conversion is at work",
        ClusterError::Merge(_) => "give all parts of one conversion, as --local-output made them",
        _ => return None,
    })
}

/// How a model that another tool quantised is converted all the same.
fn dequantise(tool: Option<QuantTool>) -> String {
    let how = tool.map_or("with the tool that made it", QuantTool::remedy);
    format!("convert the 16-bit model that it was made from, or dequantise it first, {how}")
}

/// The head is all that is missing.
fn headless() -> String {
    format!(
        "if {HEAD_LAYER} is the embedding, say tie_word_embeddings: true in config.json or the yaml (-y), or, where there is neither, \
         give --tie-word-embeddings true; if not, the model was saved without its head: save the whole one (AutoModelForCausalLM)"
    )
}

fn plan_hint(error: &PlanError) -> Option<String> {
    let text = match error {
        PlanError::QuantisedSource { weights, signs } => {
            let name = |shown: &str| shown.rsplit_once(" (").map_or(shown, |(name, _)| name).to_owned();
            let no_weight = |shown: &String| !name(shown).ends_with("weight") && role(&name(shown)).is_none();
            let buffers = !weights.is_empty() && signs.is_empty() && weights.iter().all(no_weight);
            let buffers = if buffers {
                "; if they are no weights (a mask, a buffer), leave them out with --ignore PATTERN"
            } else {
                ""
            };
            return Some(format!("{}{buffers}", dequantise(signs.tool())));
        }
        PlanError::OtherModelNamed { .. } => {
            "leave -y out, or name the yaml of this model; --qkv_concat true makes a fused target without one"
        }
        PlanError::ScalesMissing { left_out, .. } if !left_out.is_empty() => {
            "give a pattern to --ignore or --drop that does not match them; integer weights need their scales"
        }
        PlanError::ScalesMissing { .. } => {
            "copy or make the checkpoint again, with its scales; integer weights mean nothing without them"
        }
        PlanError::NoHead => {
            "if it is the embedding, say so with --tie-word-embeddings true, or name the model with -y. If not, the file is cut off, \
             or the model was saved without its head (LlamaModel instead of LlamaForCausalLM): copy or save the whole one"
        }
        PlanError::Lacks(names) if names.iter().all(|name| name == HEAD) => return Some(headless()),
        PlanError::Spec(spec) => return spec_hint(spec),
        PlanError::HeadsUnknown { query, key, .. } => return Some(heads_hint(*query, *key)),
        PlanError::Heads(_) => {
            "give num_attention_heads and num_key_value_heads of the model's config.json, or num_heads and n_kv_heads of its yaml"
        }
        PlanError::StrategyHeads { .. } => {
            "give the strategy of a network whose tensor parallelism divides the kv heads, and check that -y is this model's"
        }
        PlanError::OddShape { .. } => "the file is damaged or was put together wrongly: copy or save it again",
        PlanError::CopiedRank { .. } => {
            "if the ranks are data-parallel replicas, give their strategy with -ss (of a training run, with -ts); else copy that rank's \
             own file there again"
        }
        PlanError::Layout { source: LayoutError::DoesNotDivide { .. }, .. } => {
            "choose a number of ranks that divides the heads, the kv heads and the ffn rows"
        }
        PlanError::Layout { source: LayoutError::WrongAxes { .. }, .. } => {
            "the strategy is of another model, or a JSON strategy of a nested layout, which loses the tensor's shape: use the .ckpt strategy"
        }
        PlanError::WrongShape { .. } | PlanError::StrategyShape { .. } => {
            "check that -y and the strategies are those of this checkpoint"
        }
        PlanError::UnknownNames(_) => {
            "leave out with --ignore PATTERN only what is no part of the model, as a buffer or a counter: a parameter that is left \
             out will be missing from the target"
        }
        PlanError::Unplaced { side: "source", .. } => {
            "give the source's strategy files with -ss, or leave the parameters out with --ignore PATTERN"
        }
        PlanError::Unplaced { .. } => {
            "give the target's strategy files with -ds, or leave the parameters out with --ignore PATTERN"
        }
        PlanError::Differ(_) => "leave them out with --ignore PATTERN, or give a strategy that knows them",
        PlanError::TrainingState(_) => {
            "leave it out with --ignore 'adam_*' and the like, or give a target strategy that places it"
        }
        PlanError::Lacks(_) | PlanError::UnevenLayers { .. } => {
            "the checkpoint is not whole, or -y or the strategy is of another model"
        }
        PlanError::NoOwnNames(_) => {
            "`ckpt-convert families show NAME` prints its file: add a MindSpore scheme, such as `mcore`, to a copy of it, and give the copy with --family FILE"
        }
        PlanError::NoForeignName { .. } => {
            "the config.json beside the source or of --hf-config, if there is one, is of another model: give the one of this model with \
             --hf-config DIR"
        }
        PlanError::MissingStage { .. } | PlanError::NoReplica { .. } => {
            "copy the missing rank directories, or give the strategy of the run that this checkpoint is from"
        }
        PlanError::UnknownEntries(_) => {
            "say what they are: --keep PATTERN for parameters of the model, --drop PATTERN for what is to be left out"
        }
        PlanError::Adapters(_) => {
            "--lora merge adds them to their weights, --lora keep writes them as they are, --lora drop leaves them out"
        }
        PlanError::MissingRanks { .. } => {
            "a rank's file is missing or is not of this checkpoint; the ranks of a training run need its strategy, with -ts"
        }
        PlanError::RanksDisagree { .. } => {
            "the rank directories are not of one checkpoint, or the strategy is of another checkpoint"
        }
        PlanError::Strategies { .. } => "name the right strategy file, or keep the files of one run in the directory",
        PlanError::StrategyRanks { side: "source", .. } => "give the strategy of this checkpoint with -ss",
        PlanError::StrategyRanks { .. } => "leave -w out, or give the number of ranks of the strategy",
        PlanError::FusedRows { .. } => "check -y; the fused parameters are taken as q, k, v and gate, up",
        _ => return None,
    };
    Some(text.to_owned())
}

fn heads_hint(query: u64, key: u64) -> String {
    let examples = plan::heads_examples(query, key);
    let such =
        if examples.is_empty() { "--heads N --kv-heads N".to_owned() } else { format!("for instance {examples}") };
    format!(
        "give the numbers of the model's config.json (num_attention_heads, num_key_value_heads) or yaml (num_heads, n_kv_heads): {such}; \
         or name the model with -y"
    )
}

fn spec_hint(error: &SpecError) -> Option<String> {
    match error {
        SpecError::DoesNotDivide { most, .. } => {
            let counts: Vec<String> = (1..=*most.min(&64)).filter(|n| most % n == 0).map(|n| n.to_string()).collect();
            Some(format!("-w must divide the heads, the kv heads and the ffn rows: {}", counts.join(", ")))
        }
        SpecError::UnknownModel(_) => {
            Some(format!("give the path of a yaml, or one of {}", builtin_names().collect::<Vec<_>>().join(", ")))
        }
        SpecError::OtherLayers { .. } => Some(
            "only dense models of this type are supported; `ckpt-convert families` lists the supported families"
                .to_owned(),
        ),
        SpecError::Quantised { field, .. } => {
            Some(format!("the target is not quantised: give a config.json without `{field}` (--hf-config DIR)"))
        }
        _ => None,
    }
}

/// Nothing is there: a name of the Hub is taken for a path now and then.
fn not_found_hint(path: &Path) -> String {
    match hub_name(path) {
        Some((repository, name)) => format!(
            "check the path; if {repository} is a repository of the Hugging Face Hub, download it first \
             (hf download {repository} --local-dir {name}) and name {name} instead"
        ),
        None => "check the path".to_owned(),
    }
}

/// `Organisation/Model`, and `Model`.
fn hub_name(path: &Path) -> Option<(&str, &str)> {
    let repository = path.to_str()?;
    let (organisation, name) = repository.split_once('/')?;
    let is_plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c))
    };
    (is_plain(organisation) && is_plain(name) && !Path::new(organisation).exists()).then_some((repository, name))
}

/// A directory without a checkpoint of its own: targets are directories in the one that -dc named.
fn no_checkpoint_hint(dir: &Path) -> String {
    let below: Vec<String> = checkpoints_below(dir).iter().map(|path| path.display().to_string()).collect();
    match below.as_slice() {
        [] => "-sc must name the directory that contains rank_0, rank_1, …, or a checkpoint file".to_owned(),
        [one] => format!("the checkpoint is in it: name {one}"),
        several => format!("there are several checkpoints in it: name one of {}", several.join(", ")),
    }
}

fn input_hint(error: &InputError) -> Option<String> {
    let text = match error {
        InputError::Quantised { leftover: Some(field), signs, .. } => {
            return Some(format!(
                "if its weights are those of a 16-bit model (dequantised, or never quantised), remove `{field}` from config.json; \
                 if they are not, {}",
                dequantise(signs.tool())
            ));
        }
        InputError::Quantised { signs, .. } => return Some(dequantise(signs.tool())),
        InputError::NotFound(path) => return Some(not_found_hint(path)),
        InputError::MissingRanks { .. } => "a checkpoint needs every rank; copy the missing directories",
        InputError::Stray { .. } => {
            "move them elsewhere, so that nothing is taken for a part of the checkpoint, or the reverse"
        }
        InputError::Steps { choices, .. } | InputError::NoStep { choices, .. } | InputError::NoLatest { choices }
            if choices.is_empty() =>
        {
            "copy the missing files: a checkpoint needs the file of one save from every rank"
        }
        InputError::Steps { choices, latest: true, .. } => {
            let last = choices.last().map(String::as_str).unwrap_or_default();
            return Some(format!("choose one of them, as in --step {last}, or take the last with --latest"));
        }
        InputError::Steps { choices: saves, .. }
        | InputError::NoStep { choices: saves, .. }
        | InputError::NoLatest { choices: saves }
        | InputError::StepUnclear { saves, .. } => {
            let last = saves.last().map(String::as_str).unwrap_or_default();
            return Some(format!("choose one of them, as in --step {last}"));
        }
        InputError::SavesDiffer { .. } => {
            "copy the files of one save to every rank; if these are of one save, give them names that differ only by the rank"
        }
        InputError::MixedFormats { .. } => "keep the files of one format there: those of the other are of another save",
        InputError::OneFile(_) => "leave --step and --latest out",
        InputError::OtherRank { .. } => {
            "copy the right rank's file there; if it is the right one, rename it after its directory"
        }
        InputError::OtherSave { .. } => "copy the files of one save to every rank",
        InputError::Several { .. } => {
            "name one of the files, or move all but one elsewhere; saves of a training run are chosen by -f train_to_infer with --step \
             or --latest"
        }
        InputError::NoCheckpoint(dir) => return Some(no_checkpoint_hint(dir)),
        InputError::Model { source, .. } => return spec_hint(source),
        InputError::Strategy { source, .. } => return plan_hint(source),
        InputError::Format { source, .. } => return format_hint(&source.what).map(str::to_owned),
        InputError::LfsPointer { path, .. } => return Some(pointer_hint(path)),
        InputError::LinkLeadsOut { path, to } => {
            return Some(format!(
                "replace the link with the file (cp --remove-destination '{}' '{}'), or leave it out with --ignore {}",
                to.display(),
                path.display(),
                name(path)
            ));
        }
        InputError::CompanionsTooLarge { path, .. } => {
            return Some(format!(
                "leave it out with --ignore {}, and copy it yourself if the model needs it",
                name(path)
            ));
        }
        InputError::Changed { .. } => CHANGES,
        InputError::File(e) => return read_hint(e).map(str::to_owned),
        InputError::IsForeign(_) => "use -f pt_to_ms for it",
        InputError::IsGguf(_) => {
            "use -f pt_to_ms for rank files of MindSpore, or -f ms_to_pt for a Hugging Face directory"
        }
        InputError::IsMindSpore(_) => {
            "use -f distributed_weight_transfer for it, or -f ms_to_pt for the opposite direction"
        }
        InputError::OtherFamily { .. } => {
            "put the config.json of this model beside its files. If the model is of neither family, --family FILE adds its own"
        }
        InputError::NoFamily { .. } => {
            "`ckpt-convert families` lists the families whose names are known; --family FILE adds one"
        }
        InputError::Index { .. } => "the index and the files are of different saves",
        InputError::Manifest { .. } => {
            "copy the checkpoint again, whole and with its manifest. If the files were changed on purpose, move the manifest away, but \
             look first: `dst_fusion` in it is the order in which the fused rows were written, which --src-fusion must then state"
        }
        InputError::PartOfWhole { .. } => "name the directory that holds the manifest and all of its files",
        InputError::NoStrategy(_) => "give a strategy file, or a directory of ckpt_strategy_rank_<n>.ckpt files",
        _ => return None,
    };
    Some(text.to_owned())
}

/// What to do about bytes that are not what they should be.
fn format_hint(what: &FormatFault) -> Option<&'static str> {
    Some(match what {
        FormatFault::Memory { stated: true, .. } => "give a larger --memory",
        FormatFault::Memory { stated: false, .. } => {
            "no model file lists so much: check where the file comes from, or use a machine with more memory"
        }
        FormatFault::Truncated { .. } | FormatFault::WrongLength { .. } | FormatFault::Empty => {
            "the file is incomplete: copy or save it again"
        }
        FormatFault::GgmlType { .. } => {
            "the supported types are F32, F16, BF16, Q8_0, Q5_0, Q5_1, Q4_0, Q4_1, Q4_K, Q5_K and Q6_K: use a file of one of these types, or \
                 convert the model that it was made from. llama-quantize --allow-requantize IN OUT Q8_0 makes one"
        }
        FormatFault::CrcMismatch { .. } => "the file is damaged: copy it again (or skip the check with --no-crc-check)",
        _ => return None,
    })
}

fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// A configuration cannot be left out: it is read, too.
fn pointer_hint(path: &Path) -> String {
    let fetch = "run `git lfs pull` in its directory";
    match name(path) {
        name if name == "config.json" => fetch.to_owned(),
        name => format!("{fetch}, or leave it out with --ignore {name} and copy it into the result yourself"),
    }
}
