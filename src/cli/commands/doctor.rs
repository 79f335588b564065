//! `doctor SRC`: does the strategy fit the checkpoint?

use super::show;
use crate::Error;
use crate::cli::args::DoctorArgs;
use crate::cli::screen::Screen;
use crate::cli::{ExitStatus, diagnostics};
use crate::job::Doctor;

/// Looks, and lists what is wrong with the remedy of each.
pub(in crate::cli) fn run(args: DoctorArgs) -> Result<ExitStatus, Error> {
    let DoctorArgs { path, yaml_path, no_crc_check, strategy, step, latest, json, family: _ } = args;
    let mut doctor = Doctor::new(path);
    (doctor.model, doctor.strategy, doctor.no_crc_check) = (yaml_path, strategy, no_crc_check);
    (doctor.step, doctor.latest) = (step, latest);
    let diagnosis = doctor.run(&Screen::of_notes(), &diagnostics::hint)?;
    show(json, &diagnosis, || diagnosis.text())?;
    Ok(if diagnosis.well { ExitStatus::Done } else { ExitStatus::Input })
}
