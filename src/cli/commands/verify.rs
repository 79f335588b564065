//! `verify A B`: are two checkpoints the same model?

use super::show;
use crate::Error;
use crate::cli::args::VerifyArgs;
use crate::cli::screen::Screen;
use crate::cli::{ExitStatus, job};
use crate::job::{Compare, Model, Verify};

/// Compares, and lists what differs.
pub(in crate::cli) fn run(args: VerifyArgs) -> Result<ExitStatus, Error> {
    let VerifyArgs {
        a,
        b,
        src_strategy,
        dst_strategy,
        yaml_path,
        family,
        src_fusion,
        dst_fusion,
        force_fusion,
        heads,
        kv_heads,
        ignore,
        precision,
        tolerance,
        run,
        output,
    } = args;
    let mut verify = Verify::new(&a, &b);
    verify.a = Compare { path: a, strategy: src_strategy, fusion: src_fusion };
    verify.b = Compare { path: b, strategy: dst_strategy, fusion: dst_fusion };
    verify.model = Model { yaml: yaml_path, heads, kv_heads, families: family, force_fusion, ..Model::default() };
    verify.ignore = ignore;
    verify.tolerance = tolerance;
    verify.precision = precision;
    verify.reading = job::reading(&run);
    // Nothing is written, so a signal may end the program at any point.
    let screen = Screen::new(&output);
    let verdict = verify.run(&screen, screen.cancel())?;
    show(output.json, &verdict, || verdict.text())?;
    Ok(if verdict.same { ExitStatus::Done } else { ExitStatus::Input })
}
