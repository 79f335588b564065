//! Options that a conversion needs and was not given: all at once, with an example that continues what was typed.

use std::ffi::OsString;

use clap::ValueEnum;

use super::args::{ConvertArgs, TWO_LETTERS};
use super::originals::quoted;
use crate::Error;
use crate::job::{Function, Precision};

/// An option that is missing.
struct Need {
    name: &'static str,
    /// What else would do, for the list of names.
    or: &'static str,
    what: String,
    /// A value for the example.
    value: String,
}

impl Need {
    fn new(name: &'static str, what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name, or: "", what: what.into(), value: value.into() }
    }
}

/// Refuses a conversion that lacks options, and names them all. `typed`: the whole command line.
pub(super) fn check(args: &ConvertArgs, typed: &[OsString]) -> Result<(), Error> {
    let needs = needs(args, typed.len() > 1);
    if needs.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = needs.iter().map(|need| format!("{}{}", need.name, need.or)).collect();
    let names = match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    };
    let mut example = String::from("ckpt-convert");
    let given = typed.iter().skip(1).map(|word| short(&word.to_string_lossy()));
    let added = needs.iter().flat_map(|need| [need.name.to_owned(), need.value.clone()]);
    for word in given.chain(added) {
        example.push(' ');
        example.push_str(&word);
    }
    let options = needs.into_iter().map(|need| (need.name, need.what)).collect();
    Err(Error::Missing { names, options, example })
}

/// A word of the command line, with the two-letter name of an option.
fn short(word: &str) -> String {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    match TWO_LETTERS.iter().find(|(_, long)| *long == name) {
        Some((short, _)) => quoted(&value.map_or_else(|| (*short).to_owned(), |value| format!("{short}={value}"))),
        None => quoted(word),
    }
}

/// What is missing, in the order of the example.
fn needs(args: &ConvertArgs, anything: bool) -> Vec<Need> {
    // A first look is best served by the way in from Hugging Face.
    let function =
        args.what.function.unwrap_or(if anything { Function::DistributedWeightTransfer } else { Function::PtToMs });
    let mut needs = Vec::new();
    if args.what.function.is_none() {
        needs.push(Need::new("-f", format!("what to do: {}", values(|_: &Function| true)), name(&function)));
    }
    if args.what.precision.is_none() {
        let value = if function == Function::QuantWeight { "w8a16" } else { "fp16" };
        let fits = |precision: &Precision| match args.what.function {
            Some(Function::QuantWeight) => precision.quantises().is_some(),
            Some(Function::PtToMs | Function::MsToPt) => precision.quantises().is_none(),
            Some(Function::DistributedWeightTransfer | Function::TrainToInfer) | None => true,
        };
        needs.push(Need::new("-p", format!("the type of the target: {}", values(fits)), value));
    }
    if args.place.src_ckpt_path.is_none() {
        let value = match function {
            Function::PtToMs => "hf",
            Function::TrainToInfer => "training/checkpoint",
            Function::MsToPt | Function::QuantWeight | Function::DistributedWeightTransfer => "ckpt",
        };
        needs.push(Need::new("-sc", "the source checkpoint: a directory or a file", value));
    }
    let needs_ranks = function != Function::MsToPt && !args.train.strip_only;
    if needs_ranks && args.what.world_size.is_none() && args.place.dst_strategy.is_none() {
        let what = "the number of ranks of the target; or -ds, its strategy";
        needs.push(Need { or: " (or -ds)", ..Need::new("-w", what, "4") });
    }
    // What depends on the source is said later, where it alone is missing.
    if !needs.is_empty() {
        if function == Function::TrainToInfer && args.train.train_strategy_file.is_none() {
            let what = "the strategy of the training run; a run on one rank needs none";
            needs.push(Need::new("-ts", what, "training/strategy"));
        }
        if function == Function::QuantWeight
            && args.what.precision.is_some_and(Precision::needs_statistics)
            && args.quant.stats.is_none()
            && args.calibrate.dataset_name.is_none()
        {
            let what = "the statistics of the activations; or -d and -dp, a data set to gather them from";
            needs.push(Need { or: " (or -d and -dp)", ..Need::new("--stats", what, "stats.safetensors") });
        }
    }
    needs
}

/// The simplified form: all but -w and -sc has a default.
pub(super) fn check_n_to_m(args: &ConvertArgs, typed: &[OsString]) -> Result<(), Error> {
    let mut args = args.clone();
    args.what.function = Some(Function::DistributedWeightTransfer);
    args.what.precision = Some(Precision::Fp16);
    check(&args, typed)
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn values<T: ValueEnum>(fits: impl Fn(&T) -> bool) -> String {
    let names: Vec<String> = T::value_variants().iter().filter(|value| fits(value)).map(name).collect();
    match names.as_slice() {
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::cli::args::{Cli, definition, expand};

    fn missing(line: &str) -> Option<(String, String)> {
        let typed = expand(format!("ckpt-convert {line}").split_whitespace().map(OsString::from));
        let cli = Cli::from_arg_matches(&definition(false).try_get_matches_from(&typed).unwrap()).unwrap();
        match check(&cli.convert, &typed) {
            Ok(()) => None,
            Err(Error::Missing { names, example, .. }) => Some((names, example)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_types_that_are_named_go_with_the_function() {
        let types = |line: &str| {
            let typed = expand(format!("ckpt-convert {line}").split_whitespace().map(OsString::from));
            let cli = Cli::from_arg_matches(&definition(false).try_get_matches_from(&typed).unwrap()).unwrap();
            needs(&cli.convert, true).into_iter().find(|need| need.name == "-p").unwrap().what
        };
        for (line, int8, floating) in [
            ("-f quant_weight", true, false),
            ("-f pt_to_ms", false, true),
            ("-f ms_to_pt", false, true),
            ("-f train_to_infer", true, true),
            ("-w 4", true, true),
        ] {
            let types = types(line);
            assert_eq!((types.contains("w8a16"), types.contains("bf16")), (int8, floating), "{line}: {types}");
        }
    }

    #[test]
    fn all_that_is_missing_and_an_example_that_lacks_nothing() {
        for (line, names) in [
            ("", "-f, -p, -sc and -w (or -ds)"),
            ("-f train_to_infer", "-p, -sc, -w (or -ds) and -ts"),
            ("-f ms_to_pt", "-p and -sc"),
            ("-p bf16 -w 8 -sc=a", "-f"),
            ("-f quant_weight -p w8a8 -ds st", "-sc and --stats (or -d and -dp)"),
            ("-f quant_weight -sc a", "-p and -w (or -ds)"),
            ("-f train_to_infer -p fp16 -sc a --strip-only --ignore=a'b", ""),
        ] {
            let Some((said, example)) = missing(line) else {
                assert_eq!(names, "", "{line}");
                continue;
            };
            assert_eq!(said, names, "{line}");
            assert!(example.starts_with(format!("ckpt-convert {line}").trim_end()), "{example}");
            assert_eq!(missing(example.strip_prefix("ckpt-convert ").unwrap()), None, "{example}");
        }
    }
}
