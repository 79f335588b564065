//! `scripts DIR`: the original scripts' tree for those who have only the program. The files are those of `tools/`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{note, print};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::ScriptsArgs;
use crate::plan::list;
use crate::sys::{self, FileError, FileOp};

/// A file of the tree.
struct Shipped {
    path: &'static str,
    text: &'static str,
    mode: u32,
}

macro_rules! shipped {
    ($mode:literal: $($path:literal)*) => {
        [$(Shipped { path: $path, text: include_str!(concat!("../../../tools/", $path)), mode: $mode }),*]
    };
}

/// What is run.
const SCRIPTS: [Shipped; 7] = shipped!(0o777:
    "ckpt_convert.sh"
    "convert_ckpt_qkv/ckpt_convert.sh"
    "convert_ckpt_qkv/ckpt_convert_n_to_m.sh"
    "convert_ckpt_qkv/ckpt_convert_for_16p.sh"
    "convert_ckpt_noqkv/ckpt_convert.sh"
    "convert_ckpt_noqkv/ckpt_convert_n_to_m.sh"
    "convert_ckpt_noqkv/ckpt_convert_for_16p.sh"
);

/// What is read, or sourced.
const FILES: [Shipped; 13] = shipped!(0o666:
    "env/run.sh"
    "env/set_2n_env.sh"
    "env/hccl_2n_16p.json"
    "model/llama2_7b/qkv/llama2_7b_1p.yaml"
    "model/llama2_7b/qkv/llama2_7b_2p.yaml"
    "model/llama2_7b/qkv/llama2_7b_4p.yaml"
    "model/llama2_7b/qkv/llama2_7b_8p.yaml"
    "model/llama2_7b/qkv/llama2_7b_16p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_1p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_2p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_4p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_8p.yaml"
    "model/llama2_7b/noqkv/llama2_7b_16p.yaml"
);

/// The program, at the top of the tree, where the scripts look for it.
const PROGRAM: &str = "ckpt-convert";

/// Lays out the tree.
pub(in crate::cli) fn run(args: &ScriptsArgs) -> Result<ExitStatus, Error> {
    let shipped = || SCRIPTS.iter().chain(&FILES);
    let paths = shipped().map(|file| file.path).chain([PROGRAM]);
    let there = paths.filter(|path| args.dir.join(path).symlink_metadata().is_ok());
    let there: Vec<String> = there.map(str::to_owned).collect();
    if !there.is_empty() {
        return Err(Error::Usage(format!(
            "{} has {} already, and nothing was written; name another directory, or remove them first",
            args.dir.display(),
            list(&there)
        )));
    }
    let mut made = Made::default();
    for file in shipped() {
        if let Err(e) = made.write(&args.dir.join(file.path), file) {
            made.remove();
            return Err(e.into());
        }
    }
    let linked = std::env::current_exe().and_then(|program| symlink(program, args.dir.join(PROGRAM)));
    if let Err(e) = linked {
        note(&format!("the scripts cannot be given this program ({e}): they look for ckpt-convert on PATH"));
    }
    let scripts = args.dir.join("convert_ckpt_qkv");
    print(&format!(
        "wrote {} files below {}; type the original's commands in {}\n",
        shipped().count(),
        args.dir.display(),
        scripts.display()
    ))?;
    Ok(ExitStatus::Done)
}

/// What was made so far.
#[derive(Default)]
struct Made {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// Writes a file that is not there yet, and makes the directories above it.
    fn write(&mut self, path: &Path, file: &Shipped) -> Result<(), FileError> {
        self.dirs.extend(path.parent().map(sys::create_dir).transpose()?.unwrap_or_default());
        let error = |source| FileError { op: FileOp::Create, path: path.to_owned(), source };
        let mut to = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path).map_err(error)?;
        self.files.push(path.to_owned());
        to.write_all(file.text.as_bytes()).map_err(error)
    }

    /// A part of the tree is of no use to anyone.
    fn remove(self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        sys::remove_empty_dirs(&self.dirs);
    }
}
