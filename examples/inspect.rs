//! Lists what a path holds: `cargo run --example inspect -- PATH`.
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::error::Error;

use ckpt_convert::{Listing, inspect};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give PATH")?;
    match inspect(path)? {
        Listing::Checkpoint(checkpoint) => {
            println!("{}: {} in {} file(s)", checkpoint.path, checkpoint.format, checkpoint.ranks.len());
            for tensor in &checkpoint.tensors {
                println!("  {} {}{:?}", tensor.name, tensor.dtype, tensor.shape);
            }
        }
        strategy @ Listing::Strategy(_) => print!("{}", strategy.text()),
    }
    Ok(())
}
