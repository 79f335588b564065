//! `mount`: a target that is shown and not written.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::show;
use crate::Error;
use crate::cli::args::{MountArgs, TWO_LETTERS, UNUSED_TO_MOUNT};
use crate::cli::screen::Screen;
use crate::cli::{ExitStatus, job};
use crate::job::Mount;
use crate::report::bytes;

/// Mounts, says so, and serves until it is unmounted.
pub(in crate::cli) fn run(args: &MountArgs, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let given = |name: &&&str| {
        let options = matches.subcommand().map(|(_, options)| options);
        options.and_then(|options| options.value_source(name)) == Some(ValueSource::CommandLine)
    };
    if let Some(name) = UNUSED_TO_MOUNT.iter().find(given) {
        let short = TWO_LETTERS.iter().find(|(_, long)| long.strip_prefix("--") == Some(name));
        let option = short.map_or_else(|| format!("--{}", name.replace('_', "-")), |(short, _)| (*short).to_owned());
        return Err(Error::Usage(format!("mount writes nothing: leave {option} out")));
    }
    let Some(job) = job::job(&args.convert) else { return Err(Error::Usage("missing: -f or -p".to_owned())) };
    let screen = Screen::new(&args.convert.output);
    let mut mount = Mount::new(job, &args.at);
    mount.others = args.allow_other;
    mount.run(&screen, screen.cancel(), &mut |mounted| {
        show(args.convert.output.json, mounted, || {
            let (at, files, size) = (mounted.target.display(), mounted.files, bytes(mounted.bytes));
            format!("mounted {at}: {files} files, {size}; Ctrl-C or `umount {at}` ends it\n")
        })
    })?;
    Ok(ExitStatus::Done)
}
