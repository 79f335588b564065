//! Compares two checkpoints, whatever their ranks and formats: `cargo run --example verify -- A B`.
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::error::Error;
use std::process::ExitCode;

use ckpt_convert::verify;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b] = arguments.as_slice() else { return Err("give A B".into()) };
    let verdict = verify(a, b)?;
    if verdict.same {
        println!("the same model: {} parameters", verdict.tensors);
        return Ok(ExitCode::SUCCESS);
    }
    for difference in &verdict.differences {
        println!("{difference}");
    }
    Ok(ExitCode::FAILURE)
}
