//! What the program says of itself: help, usage errors, completions, manual pages.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Run, TestEnv};

/// The example model, as `ckpt-convert example` lays it out.
fn example() -> TestEnv {
    let env = TestEnv::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny-llama");
    let mut copy = Command::new("cp");
    copy.arg("-r").args(["hf", "ckpt", "training", "llama_tiny_4p.yaml"].map(|name| from.join(name))).arg(env.root());
    Run::of(&mut copy).ok();
    env
}

/// The lines of help that begin with an option, up to their texts.
fn options(help: &str) -> Vec<&str> {
    help.lines().map(str::trim_start).filter(|line| line.starts_with('-') && !line.starts_with("- ")).collect()
}

#[test]
fn the_examples_of_the_help_can_be_typed() {
    for help in ["-h", "--help"] {
        let env = example();
        let text = env.line(help).ok().stdout.replace("\\\n", " ");
        let (_, examples) = text.split_once("Examples:\n").expect("examples");
        let lines: Vec<&str> = examples.lines().filter_map(|l| l.trim().strip_prefix("ckpt-convert ")).collect();
        assert_eq!(lines.len(), 5, "{text}");
        for line in lines {
            let run = env.line(line).ok();
            assert!(run.stdout.starts_with("wrote "), "{line}: {run:#?}");
        }
        for status in ["0", "1", "2", "130"] {
            let (_, statuses) = text.split_once("Exit status:").expect("exit statuses");
            assert!(statuses.contains(&format!(" {status} ")), "{text}");
        }
    }
}

#[test]
fn the_short_help_is_a_part_of_the_long_one() {
    let env = TestEnv::new();
    let (short, long) = (env.line("-h").ok().stdout, env.line("--help").ok().stdout);
    let name = |line: &str| line.split("  ").next().unwrap_or_default().to_owned();
    let all: Vec<String> = options(&long).into_iter().map(name).collect();
    let few: Vec<String> =
        options(&short).into_iter().map(name).filter(|name| !name.contains("-ts training")).collect();
    assert!(few.iter().all(|name| all.contains(name)), "{few:?}\n{all:?}");
    assert!(few.len() < 25 && all.len() > 60, "{} {}", few.len(), all.len());
    assert!(few.contains(&"-sc, --src_ckpt_path <PATH>".to_owned()), "{few:?}");
}

#[test]
fn without_options_all_that_is_missing_is_said_at_once() {
    let env = example();
    let said =
        ["error: missing: -f, -p, -sc and -w (or -ds)\n", "what to do: distributed_weight_transfer, train_to_infer"];
    env.line("").failed(1, &said);
    env.line("-w 4 -sc hf").failed(1, &["missing: -f and -p\n", "for example: ckpt-convert -w 4 -sc hf -f "]);
    env.line("-f train_to_infer -p fp16").failed(1, &["missing: -sc, -w (or -ds) and -ts\n"]);
    env.line("n-to-m").failed(1, &["missing: -sc and -w (or -ds)\n", "ckpt-convert n-to-m -sc ckpt -w 4"]);
    assert!(env.line("-f ms_to_pt -p keep").stderr.starts_with("error: missing: -sc\n"));
    // What contradicts is said first: nothing that is added would mend it.
    env.line("-f quant_weight -p fp16").failed(1, &["error: -f quant_weight does not write fp16"]);
    // The example can be typed.
    let run = env.line("");
    let (_, line) = run.stderr.split_once("for example: ckpt-convert ").expect("an example");
    env.line(line).ok();
}

#[test]
fn what_is_misspelt_is_said_with_what_may_be_meant() {
    let env = TestEnv::new();
    env.line("-f train_to_infr").failed(1, &["'train_to_infr'", "similar value exists: 'train_to_infer'"]);
    env.line("--src_ckpt_pth x").failed(1, &["'--src_ckpt_pth'", "similar argument exists: '--src_ckpt_path'"]);
    env.line("-f pt_to_ms -cs x").failed(1, &["there is no option -cs", "-sc, -dc, "]);
    // The word of the letter that is wrong, not another one that has the letter; no word where no letter is wrong.
    for (line, wrong, hint) in [
        ("-yxa.yaml -ab x", "'-a'", "no option -ab"),
        ("-f pt_to_ms -yl -l", "'-l'", ""),
        ("scripts d 中文 -w4", "'中文'", ""),
        ("n-to-m x -w4", "'x'", ""),
    ] {
        let run = env.line(line);
        run.failed(1, &[wrong, hint]);
        assert_eq!(run.stderr.contains("hint: "), !hint.is_empty(), "{run:#?}");
    }
    env.line("-f pt_to_ms -dst x").failed(1, &["unexpected argument 'x'", "there is no option -dst;", "-dc, "]);
    env.line("-f pt_to_ms -sc my model -w 4").failed(1, &["unexpected argument 'model'", "quote both: 'my model'"]);
    // It would be -d with the value ry-run, and the conversion would be done.
    let line = "-f pt_to_ms -p fp16 -w 2 -sc hf -dc out";
    let example = example();
    for (typed, meant) in
        [("-dry-run", "--dry-run"), ("-dst_ckpt_path=x", "--dst_ckpt_path"), ("-overwrite", "--overwrite")]
    {
        let hint = format!("hint: it has two hyphens: {meant}\n");
        example.line(&format!("{line} {typed}")).failed(1, &[&format!("unexpected argument '{typed}'"), &hint]);
    }
    assert!(!example.path("out").exists());
    env.line("verify a b -tolerance 1").failed(2, &["two hyphens: --tolerance"]);
    env.line("-help").ok();
    env.line("-q verify a b").failed(1, &["'verify' cannot be used with"]);
    env.line("verfy a b").failed(1, &["'verfy'", "'verify'"]);
    // 1 would say that they differ.
    env.line("verify a").failed(2, &["<B>"]);
    env.line("verify a b --tolerence 1").failed(2, &["'--tolerence'", "'--tolerance'"]);
}

#[test]
fn bash_completes_options_values_and_commands() {
    let env = TestEnv::new();
    for (typed, wanted) in [
        ("--src_c", "--src_ckpt_path"),
        ("-f train_", "train_to_infer"),
        ("verify --toler", "--tolerance"),
        ("merge-", "merge-manifest"),
        ("-f train_to_infer -s", "-sc -ss"),
        ("-qkv ''", "true false"),
        ("verify a b -d", "-ds"),
        // bash completes the names of files itself: those with spaces, too.
        ("-sc ''", ""),
        ("--src_ckpt_path a", ""),
    ] {
        let script = format!(
            "source <(\"$0\" completions bash)
             complete -p ckpt-convert >/dev/null || exit 3
             function_of() {{ while [ $# -gt 1 ]; do [ \"$1\" = -F ] && echo \"$2\"; shift; done; }}
             COMP_WORDS=(ckpt-convert {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             $(function_of $(complete -p ckpt-convert)) ckpt-convert \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
             echo \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script, env!("CARGO_BIN_EXE_ckpt-convert")]).current_dir(env.root());
        assert_eq!(Run::of(&mut bash).ok().stdout.trim_end(), wanted, "{typed}");
    }
    let fish = env.line("completions fish").ok().stdout;
    let zsh = env.line("completions zsh").ok().stdout;
    for (old, long) in [("sc", "src_ckpt_path"), ("qkv", "qkv_concat"), ("dp", "dataset_path")] {
        assert_eq!(
            fish.matches(&format!(" -o {old} -l {long} ")).count(),
            fish.matches(&format!(" -l {long} ")).count()
        );
        assert!(fish.contains(&format!("'^-{old}(?==|$)' '--{long}'")), "{old}");
        assert_eq!(zsh.matches(&format!("\n'-{old}=[")).count(), zsh.matches(&format!("\n'--{long}=[")).count());
        assert!(zsh.contains(&format!("\n'-{old}=[")), "{old}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(env.line(&format!("completions {shell}")).ok().stdout.contains("src_ckpt_path"), "{shell}");
    }
}

#[test]
fn fish_completes_the_values_of_options_on_any_place() {
    let env = TestEnv::new();
    let script = format!(
        "'{}' completions fish | source
         for line in 'ckpt-convert -sc hf -p fp1' 'ckpt-convert -sc=hf -qkv t' 'ckpt-convert n-to-m -sc hf -p w4'
             complete -C $line | string replace -r '\t.*' ''
         end",
        env!("CARGO_BIN_EXE_ckpt-convert")
    );
    // Where fish is installed.
    let mut fish = Command::new("fish");
    let Ok(output) = fish.args(["--no-config", "-c", &script]).current_dir(env.root()).output() else { return };
    let run = Run::from_output(output).ok();
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), ["fp16", "fp16c8", "true", "w4a16"], "{run:#?}");
}

#[test]
fn lines_of_several_processes_do_not_mix() {
    let env = example();
    for (line, wanted) in [
        ("-f distributed_weight_transfer -p fp16 -sc ckpt -dc out -w 4", ["note: ", "error: "].as_slice()),
        ("-f pt_to_ms -sc my model -w 4", &["error: "]),
        ("-w 4", &["error: "]),
    ] {
        // Each write is a datagram of its own.
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let mut run = Command::new(env!("CARGO_BIN_EXE_ckpt-convert"));
        run.args(line.split(' ')).current_dir(env.root()).stderr(std::os::fd::OwnedFd::from(theirs));
        assert_eq!(run.status().expect("it runs").code(), Some(1), "{line}");
        drop(run);
        for start in wanted {
            let mut text = [0; 10_000];
            let len = ours.recv(&mut text).expect("a write");
            let text = String::from_utf8_lossy(&text[..len]);
            assert!(text.starts_with(start) && text.ends_with('\n'), "{line}: {text:?}");
        }
        ours.set_nonblocking(true).expect("a socket");
        assert!(ours.recv(&mut [0]).is_err(), "{line}: more is written");
    }
}

/// What `groff` makes of a page, where it is installed; it must have nothing to complain of.
fn typeset(page: &str) -> Option<String> {
    let mut groff = Command::new("groff");
    groff
        .args(["-man", "-Tascii", "-ww", "-P-cbou"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match groff.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => panic!("groff: {e}"),
    };
    let mut to = child.stdin.take().expect("its standard input");
    let page = page.to_owned();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut to, page.as_bytes()));
    let run = Run::from_output(child.wait_with_output().expect("it ends")).ok();
    writer.join().expect("written").expect("written");
    assert_eq!(run.stderr, "", "{page:.200}", page = run.stdout);
    Some(run.stdout)
}

#[test]
fn the_manual_holds_every_option_and_renders() {
    let env = TestEnv::new();
    let help = env.line("--help").ok().stdout;
    let page = env.line("man").ok().stdout;
    let plain = page.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-");
    for line in options(&help) {
        let name = line.split(" <").next().unwrap_or_default().trim_end();
        if name.starts_with('-') && !name.starts_with("-ts training") {
            assert!(plain.lines().any(|l| l.starts_with(name)), "{name}");
        }
    }
    for section in ["WHAT", "TUNING", "EXAMPLES", "EXIT STATUS", "SEE ALSO"] {
        assert!(page.contains(section), "{section}");
    }
    let rendered = typeset(&page);
    match rendered {
        Some(text) => assert!(text.contains("-sc, --src_ckpt_path"), "{text}"),
        None => println!("SKIPPED: no groff, so the manual is not rendered"),
    }
    env.line("man pages/one").ok();
    let names = |dir: &str| {
        let entries = std::fs::read_dir(env.path(dir)).expect("pages");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("a page").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    };
    let names = names("pages/one");
    for name in ["ckpt-convert.1", "ckpt-convert-verify.1", "ckpt-convert-strategy-from-yaml.1"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    for name in names {
        let page = std::fs::read_to_string(env.path("pages/one").join(&name)).expect("a page");
        typeset(&page);
    }
}
