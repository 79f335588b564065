//! The model of rank files, as far as anything but their tensors says what it is: `-y`, else the `config.json` beside them.

use std::path::{Path, PathBuf};

use super::choices::Function;
use super::spec::Job;
use crate::Error;
use crate::input::{companions, load_config, load_model};
use crate::model::Model;
use crate::plan::PlanError;
use crate::report::Choice;

/// What is known of a model beforehand.
#[derive(Debug)]
pub(super) struct KnownModel {
    /// As -y names it: it also says how the target's network expects its parameters.
    pub named: Option<Model>,
    /// As the `config.json` beside the ranks says, where -y says nothing.
    beside: Option<(PathBuf, Model)>,
    /// Why the `config.json` beside the ranks is not used.
    pub unused: Option<String>,
}

impl KnownModel {
    /// Of a job's source. Where it is PyTorch's, or its configuration goes to the target, only -y is known beforehand.
    pub(super) fn of_job(job: &Job) -> Result<Self, Error> {
        let yaml = job.model.yaml.as_deref();
        match job.function {
            Function::PtToMs | Function::MsToPt => {
                Ok(Self { named: yaml.map(load_model).transpose()?, beside: None, unused: None })
            }
            _ => Self::read(yaml, &job.source.path),
        }
    }

    /// What -y, else the `config.json` in the directory of the source says. One that cannot be used is left alone: rank files
    /// do without.
    pub(super) fn read(yaml: Option<&str>, source: &Path) -> Result<Self, Error> {
        let mut known = Self { named: yaml.map(load_model).transpose()?, beside: None, unused: None };
        if known.named.is_some() || !source.is_dir() {
            return Ok(known);
        }
        let found = companions(source)?.into_iter().find(|path| path.ends_with("config.json"));
        match found.map(|path| (load_config(&path), path)) {
            Some((Ok(model), path)) => known.beside = Some((path, model)),
            Some((Err(error), path)) => {
                known.unused = Some(format!(
                    "{} is not used, and the model is known from the tensors and the options only: {error}",
                    path.display()
                ));
            }
            None => {}
        }
        Ok(known)
    }

    /// The model.
    pub(super) fn spec(&self) -> Option<&Model> {
        self.named.as_ref().or(self.beside.as_ref().map(|(_, spec)| spec))
    }

    /// The source of this knowledge.
    pub(super) fn whose(&self) -> &'static str {
        if self.named.is_some() { "-y" } else { "the config.json beside the source" }
    }

    /// Where the model is known from, where it was not typed.
    pub(super) fn choice(&self) -> Option<Choice> {
        self.beside.as_ref().map(|(_, spec)| {
            let why = format!(
                "no -y is given; {} heads, {} kv heads, tie_word_embeddings: {}",
                spec.heads(),
                spec.kv_heads(),
                spec.tied()
            );
            Choice::new("the model", &"config.json beside the source", why)
        })
    }

    /// Names the `config.json` where the model that it describes is not that of the ranks.
    pub(super) fn explain(&self, error: Error) -> Error {
        match (error, &self.beside) {
            (Error::Plan(source), Some((config, _))) if is_about_the_model(&source) => {
                Error::OtherModel { config: config.clone(), source }
            }
            (error, _) => error,
        }
    }
}

fn is_about_the_model(error: &PlanError) -> bool {
    matches!(
        error,
        PlanError::WrongShape { .. } | PlanError::Lacks(_) | PlanError::FusedRows { .. } | PlanError::Heads(_)
    )
}
