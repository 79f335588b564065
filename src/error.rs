//! The facade's error: every layer's own, and what kind of trouble it is.

#[cfg(feature = "calibrate")]
use crate::calibrate::CalibrateError;
use crate::cluster::ClusterError;
use crate::engine::EngineError;
use crate::input::InputError;
use crate::model::FusionLayout;
use crate::plan::PlanError;
use crate::sys::FileError;

/// Anything that stops the program. No layer below uses it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the user named is not usable.
    #[error(transparent)]
    Input(#[from] Box<InputError>),
    /// No plan can be made.
    #[error(transparent)]
    Plan(#[from] Box<PlanError>),
    /// The ranks are not of the model that the `config.json` beside them describes.
    #[error("{source} (the model is known from {})", .config.display())]
    OtherModel {
        /// The `config.json`.
        config: std::path::PathBuf,
        /// Where they differ.
        source: Box<PlanError>,
    },
    /// Family files that cannot be used.
    #[error(transparent)]
    Families(#[from] crate::model::FamilyFileErrors),
    /// The run failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Several hosts do not come together.
    #[error(transparent)]
    Cluster(Box<ClusterError>),
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
    /// Options that do not fit together, or a value that is none.
    #[error("{0}")]
    Usage(String),
    /// Options that must be given and are not.
    #[error("missing: {names}")]
    Missing {
        /// Their names.
        names: String,
        /// Each, and what it is for.
        options: Vec<(&'static str, String)>,
        /// A command line that has them.
        example: String,
    },
    /// A target is where an input or another target is.
    #[error("the target {} overlaps {}", .target.display(), .other.display())]
    Overlap {
        /// The target.
        target: std::path::PathBuf,
        /// What is in its way, or it is in.
        other: std::path::PathBuf,
    },
    /// Replicas of one parameter that are not the same.
    #[error("ranks that should hold identical bytes differ: {}", crate::plan::list(.0))]
    ReplicasDiffer(Vec<String>),
    /// A directory that may not be written to.
    #[error("{} is not writable", .0.display())]
    NotWritable(std::path::PathBuf),
    /// A target that cannot be made.
    #[error("{} cannot be made: {} is not a directory", .target.display(), .ground.display())]
    CannotMake {
        /// The target.
        target: std::path::PathBuf,
        /// What is in the place of a directory above it.
        ground: std::path::PathBuf,
    },
    /// Results that could not be printed.
    #[error("cannot write the results to standard output: {source}")]
    Output {
        /// The target, where one is published all the same.
        published: Option<std::path::PathBuf>,
        /// What the system says.
        source: std::io::Error,
    },
    /// More memory than is allowed.
    #[error("the conversion needs {needed} bytes of memory, --memory allows {allowed}")]
    TooLittleMemory {
        /// Bytes of buffers and of the plan.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// An input lies in a target that would be replaced.
    #[error("{} is {}, which lies in the target {} and would be lost with it", .input.display(), .real.display(), .target.display())]
    InputInTarget {
        /// The target.
        target: std::path::PathBuf,
        /// The input as it was named.
        input: std::path::PathBuf,
        /// Where it lies.
        real: std::path::PathBuf,
    },
    /// What is there was not made by a conversion, so it is not replaced.
    #[error("{} exists already and is not the result of a conversion", .0.display())]
    ForeignTarget(std::path::PathBuf),
    /// Files in a target that no conversion made, so it is not replaced.
    #[error("{} holds files that no conversion made, or that were changed since: {}", .target.display(), crate::plan::list(.files))]
    ForeignFiles {
        /// The target.
        target: std::path::PathBuf,
        /// What is in it, below the target.
        files: Vec<String>,
    },
    /// Strategies, or files among them, that no conversion made, so they are not replaced.
    #[error("{} holds strategies or files that no conversion made: {}", .dir.display(), crate::plan::list(.files))]
    ForeignStrategies {
        /// Where the strategies go.
        dir: std::path::PathBuf,
        /// What is there.
        files: Vec<String>,
    },
    /// A link in the place of a target: publishing would replace the link.
    #[error("{} exists already: it is a symbolic link to {}", .target.display(), .to.display())]
    TargetLink {
        /// The target.
        target: std::path::PathBuf,
        /// Where it leads.
        to: std::path::PathBuf,
    },
    /// A file that would be written is there, and nothing replaces it.
    #[error("{} exists already", .0.display())]
    FileExists(std::path::PathBuf),
    /// What is in the place of a manifest is none of ours, so it is not replaced.
    #[error("{} exists already and is not a manifest of a conversion", .0.display())]
    NoManifestThere(std::path::PathBuf),
    /// The disk is too small.
    #[error("{} needs {needed} bytes, but only {free} are free", .dir.display())]
    NoRoom {
        /// On which file system.
        dir: std::path::PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The model cannot be run to see its activations.
    #[cfg(feature = "calibrate")]
    #[error(transparent)]
    Calibrate(Box<CalibrateError>),
    /// A part of the program that was left out when it was built.
    #[error("{what} needs the cargo feature `{feature}`, which this ckpt-convert was built without")]
    NoFeature {
        /// What was requested.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// The checkpoint is published, its strategies are not.
    #[error("the checkpoint is published, but its strategies in {} are not: {source}", .strategies.display())]
    StrategiesMissing {
        /// Where they should be.
        strategies: std::path::PathBuf,
        /// Why not.
        source: EngineError,
    },
    /// An option that states another order of fused rows than the files show.
    #[error("{option} {order} contradicts what is known of the files ({other}): {evidence}")]
    FusionContradicted {
        /// The option.
        option: &'static str,
        /// The order that it states.
        order: FusionLayout,
        /// What shows another.
        evidence: String,
        /// The other.
        other: FusionLayout,
    },
    /// A fused source whose order nothing states, beside a yaml of a version that has another than the usual one.
    #[error(
        "nothing states the order of the source's fused rows{}; {evidence}",
        .shown.map(|order| format!(" (their sizes look {order})")).unwrap_or_default()
    )]
    FusionUnknown {
        /// What shows the version.
        evidence: String,
        /// The order that the sizes of the rows show.
        shown: Option<FusionLayout>,
    },
    /// Sums to compare the source with that no manifest states.
    #[error("--check-source compares a source with the manifest.json of the conversion that made it; {} has none", .0.display())]
    NoManifest(std::path::PathBuf),
    /// Bytes of the source that are not what was written.
    #[error(
        "the source differs from what was written, by the checksums in {}: {}", .manifest.display(), crate::plan::list(.tensors)
    )]
    SumsDiffer {
        /// The manifest.
        manifest: std::path::PathBuf,
        /// The tensors, each with its file and where it begins.
        tensors: Vec<String>,
    },
    /// Nothing can be mounted there.
    #[error("cannot mount at {}: {source}", .at.display())]
    CannotMount {
        /// The mount point.
        at: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A mount point that is not there, or that would hide something.
    #[error("{} is not an empty directory", .0.display())]
    NoMountPoint(std::path::PathBuf),
    /// A mount point whose process has ended without unmounting it.
    #[error("{} is still mounted, by a process that has ended", .0.display())]
    LeftMounted(std::path::PathBuf),
    /// Other strategy files are there.
    #[error("{} holds other strategies than this conversion's", .0.display())]
    OtherStrategies(std::path::PathBuf),
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        Self::Input(Box::new(error))
    }
}

impl From<ClusterError> for Error {
    fn from(error: ClusterError) -> Self {
        match error {
            // What one host could have run into alone is said as it would be there.
            ClusterError::Engine(e) => e.into(),
            ClusterError::File(e) => e.into(),
            other => Self::Cluster(Box::new(other)),
        }
    }
}

#[cfg(feature = "calibrate")]
impl From<CalibrateError> for Error {
    fn from(error: CalibrateError) -> Self {
        match error {
            CalibrateError::Plan(plan) => (*plan).into(),
            CalibrateError::Cancelled => Self::Engine(EngineError::Cancelled),
            CalibrateError::Thread(refused) => Self::Engine(refused.into()),
            other => Self::Calibrate(Box::new(other)),
        }
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        match error {
            // Nothing is wrong with what was requested: the machine does not give the bytes.
            PlanError::Unread(unread) => unread.into_file_error().into(),
            other => Self::Plan(Box::new(other)),
        }
    }
}

/// What kind of trouble an error is, which decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The files or options are at fault.
    Input,
    /// The program cannot do that.
    Unsupported,
    /// The machine is at fault: disk, memory, permissions.
    Environment,
    /// The program is at fault.
    Internal,
    /// The user asked to stop.
    Cancelled,
}

impl Error {
    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Plan(e) if matches!(**e, PlanError::Cover { .. } | PlanError::OutOfBounds { .. }) => {
                ErrorKind::Internal
            }
            Self::Input(e) if !matches!(&**e, InputError::File(e) if !e.is_input()) => ErrorKind::Input,
            Self::File(e) if e.is_input() => ErrorKind::Input,
            Self::Cluster(e) if e.is_input() => ErrorKind::Input,
            Self::Engine(EngineError::Cancelled) => ErrorKind::Cancelled,
            Self::Engine(EngineError::WorkerPanicked) => ErrorKind::Internal,
            Self::Engine(
                EngineError::TargetExists(_)
                | EngineError::TargetBusy(_)
                | EngineError::LockUnclear { .. }
                | EngineError::Unquantisable { .. },
            )
            | Self::Usage(_)
            | Self::Missing { .. }
            | Self::Families(_)
            | Self::Overlap { .. }
            | Self::ReplicasDiffer(_)
            | Self::TooLittleMemory { .. }
            | Self::OtherStrategies(_)
            | Self::FusionContradicted { .. }
            | Self::FusionUnknown { .. }
            | Self::NoManifest(_)
            | Self::SumsDiffer { .. }
            | Self::ForeignTarget(_)
            | Self::ForeignFiles { .. }
            | Self::ForeignStrategies { .. }
            | Self::TargetLink { .. }
            | Self::FileExists(_)
            | Self::NoManifestThere(_)
            | Self::InputInTarget { .. }
            | Self::OtherModel { .. }
            | Self::NoMountPoint(_)
            | Self::LeftMounted(_)
            | Self::Plan(_) => ErrorKind::Input,
            Self::Input(_)
            | Self::Cluster(_)
            | Self::Engine(_)
            | Self::File(_)
            | Self::NoRoom { .. }
            | Self::Output { .. }
            | Self::NotWritable(_)
            | Self::StrategiesMissing { .. }
            | Self::CannotMount { .. }
            | Self::CannotMake { .. } => ErrorKind::Environment,
            #[cfg(feature = "calibrate")]
            Self::Calibrate(e) => match **e {
                CalibrateError::Arithmetic(_) => ErrorKind::Internal,
                _ => ErrorKind::Input,
            },
            Self::NoFeature { .. } => ErrorKind::Unsupported,
        }
    }
}
