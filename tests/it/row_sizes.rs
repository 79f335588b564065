//! The sizes of gate's and up's rows as a check of the order in which they are taken.

use std::path::Path;

use crate::fusion::{TRANSFER, env_of, sharded};
use crate::support::{Fusion, Llama, Tensor, read_tensors, write_ckpt};

/// Fills gate and up of a fused checkpoint with numbers from 0.5 to 1; up with twice as much where the order is given, as no
/// two parts of a trained model have rows of one size.
fn fill(dir: &Path, trained: Option<Fusion>) {
    edit_tensors(dir, |tensor| {
        let rows = usize::try_from(tensor.dims[0]).expect("a size");
        let length = tensor.bytes.len() / rows;
        let mut random = 1_u32;
        for (row, bytes) in tensor.bytes.chunks_mut(length).enumerate() {
            let is_up = match trained {
                None => false,
                Some(Fusion::Grouped) => row % 2 == 1,
                Some(_) => row >= rows / 2,
            };
            for element in bytes.chunks_mut(2) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // fp16 from 0.5 on, and one more in the exponent.
                let bits = 0x3800 + (random >> 22) as u16 + if is_up { 0x400 } else { 0 };
                element.copy_from_slice(&bits.to_le_bytes());
            }
        }
    });
}

fn edit_tensors(dir: &Path, change: impl Fn(&mut Tensor)) {
    for rank in 0..2 {
        let path = dir.join(format!("rank_{rank}/checkpoint_{rank}.ckpt"));
        let mut tensors = read_tensors(&path);
        tensors.iter_mut().filter(|t| t.name.ends_with("w_gate_hidden.weight")).for_each(&change);
        std::fs::write(path, write_ckpt(&tensors)).expect("a file");
    }
}

#[test]
fn the_sizes_of_rows_contradict_a_wrong_order() {
    let model = Llama { layers: 2, ffn: 256, ..Llama::small() };
    let env = env_of(&model);
    let line = |source: &str, more: &str| {
        format!("{TRANSFER} -w 1 -y old.yaml -sc {source} -dc out -is st --overwrite {more}")
    };
    for (source, order, other) in
        [("grouped", Fusion::Grouped, "rank-concat"), ("ranks", Fusion::RankConcat, "grouped")]
    {
        model.write(&env.path(source), sharded(2, order), "ckpt");
        // Random weights show nothing.
        fill(&env.path(source), None);
        let run = env.line(&line(source, "")).ok();
        assert!(!run.stderr.contains("rows look") && !run.stdout.contains("sizes of its rows"), "{run:#?}");
        fill(&env.path(source), Some(order));
        let right = if order == Fusion::Grouped { "grouped" } else { "rank-concat" };
        let run = env.line(&line(source, &format!("--src-fusion {right}"))).ok();
        assert!(!run.stderr.contains("rows look") && run.stdout.contains("the sizes of its rows agree"), "{run:#?}");
        let run = env.line(&line(source, &format!("--src-fusion {other}"))).ok();
        assert!(run.stderr.contains(&format!("taken as {other}, but the sizes of its gate and up rows look {right}")));
        assert!(run.stdout.contains(&format!("but the sizes of its rows look {right}")), "{run:#?}");
    }
    // Nothing states it, and the usual one does not fit: the user must state it.
    env.line(&line("grouped", ""))
        .failed(1, &["(their sizes look grouped)", "does not fit", "hint: state it: --src-fusion grouped"]);
    env.line(&line("ranks", "")).ok();
    env.line(&line("grouped", "").replace("old", "new")).failed(1, &["(their sizes look grouped)", "hint: "]);
}
