//! The documents for users: every command is run, every output compared, every link followed, and both languages say the same.

mod output;
mod page;
mod shell;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};

use output::uncommented;
use page::{Page, Steer};

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];
const README_LINES: usize = 150;

/// One test for each page, in English run, in Chinese compared.
macro_rules! pages {
    ($($page:ident: $english:literal, $chinese:literal;)*) => {
        const PAGES: &[[&str; 2]] = &[$([$english, $chinese]),*];

        $(#[test]
        fn $page() {
            check($english, $chinese);
        })*
    };
}

pages! {
    readme: "README.md", "README.zh-CN.md";
    install: "docs/en/install.md", "docs/zh/install.md";
    quickstart: "docs/en/quickstart.md", "docs/zh/quickstart.md";
    from_the_scripts: "docs/en/from-the-scripts.md", "docs/zh/from-the-scripts.md";
    huggingface: "docs/en/huggingface.md", "docs/zh/huggingface.md";
    families: "docs/en/families.md", "docs/zh/families.md";
    resharding: "docs/en/resharding.md", "docs/zh/resharding.md";
    training_to_inference: "docs/en/training-to-inference.md", "docs/zh/training-to-inference.md";
    quantising: "docs/en/quantising.md", "docs/zh/quantising.md";
    statistics: "docs/en/statistics.md", "docs/zh/statistics.md";
    several_machines: "docs/en/several-machines.md", "docs/zh/several-machines.md";
    strategy_and_doctor: "docs/en/strategy-and-doctor.md", "docs/zh/strategy-and-doctor.md";
    verify_and_manifest: "docs/en/verify-and-manifest.md", "docs/zh/verify-and-manifest.md";
    troubleshooting: "docs/en/troubleshooting.md", "docs/zh/troubleshooting.md";
    tuning: "docs/en/tuning.md", "docs/zh/tuning.md";
    mount: "docs/en/mount.md", "docs/zh/mount.md";
    limits: "docs/en/limits.md", "docs/zh/limits.md";
}

/// All that is wrong with a page in both languages, at once.
fn check(english: &str, chinese: &str) {
    let (english, chinese) = (Page::read(english), Page::read(chinese));
    let mut faults = [&english, &chinese].into_iter().flat_map(form_faults).collect::<Vec<_>>();
    faults.extend(differences(&english, &chinese));
    faults.extend(shell::faults(&english));
    assert!(faults.is_empty(), "{} faults\n\n{}\n", faults.len(), faults.join("\n\n"));
}

/// What is wrong with a page without a command being run.
fn form_faults(page: &Page) -> Vec<String> {
    let at = |line: usize, what: &str| format!("{}:{line}: {what}", page.path.display());
    let mut faults: Vec<String> = Vec::new();
    for (line, comment) in &page.unknown {
        faults.push(at(
            *line,
            &format!("<!-- {comment} --> means nothing: setup: SHELL, exit: N, not run: REASON, drawing"),
        ));
    }
    for block in &page.blocks {
        let wrong = match &*block.language {
            "sh" | "text" => None,
            "json" => serde_json::from_str::<serde_json::Value>(&block.text).err().map(|e| e.to_string()),
            "yaml" => serde_yaml::from_str::<serde_json::Value>(&block.text).err().map(|e| e.to_string()),
            _ if block.is(&Steer::NotRun) => None,
            other => Some(format!("a block of language {other:?}, which nothing tests: sh, text, json, yaml")),
        };
        faults.extend(wrong.map(|wrong| at(block.line, &wrong)));
    }
    faults
}

/// Where two languages differ in what they must share.
fn differences(english: &Page, chinese: &Page) -> Vec<String> {
    let mut faults = Vec::new();
    let levels = |page: &Page| page.headings.iter().map(|heading| heading.level).collect::<Vec<_>>();
    let name = |page: &Page| page.path.display().to_string();
    let mut unequal = |what: &str, one: &dyn Debug, two: &dyn Debug| {
        faults.push(format!("{} and {}: {what} differ: {one:?} and {two:?}", name(english), name(chinese)));
    };
    if levels(english) != levels(chinese) {
        let shown = |page: &Page| page.headings.iter().map(|h| format!("{} {}", h.level, h.title)).collect::<Vec<_>>();
        unequal("the headings (level, title)", &shown(english), &shown(chinese));
    }
    let rows = |page: &Page| page.tables.iter().map(|table| table.1).collect::<Vec<_>>();
    if rows(english) != rows(chinese) {
        unequal("the tables (line, rows)", &english.tables, &chinese.tables);
    }
    if english.blocks.len() != chinese.blocks.len() {
        let lines = |page: &Page| page.blocks.iter().map(|block| block.line).collect::<Vec<_>>();
        unequal("the blocks (their lines)", &lines(english), &lines(chinese));
        return faults;
    }
    for (one, two) in english.blocks.iter().zip(&chinese.blocks) {
        let place = format!("{}:{} and {}:{}", name(english), one.line, name(chinese), two.line);
        if one.language != two.language {
            faults.push(format!("{place}: {:?} and {:?}", one.language, two.language));
        } else if !one.is(&Steer::Drawing) && uncommented(&one.text) != uncommented(&two.text) {
            faults.push(format!("{place}: the blocks differ\n--- English\n{}--- Chinese\n{}", one.text, two.text));
        }
    }
    faults
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The markdown files of a folder, as from the root.
fn markdown(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let names = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "md"));
    names.map(|name| Path::new(folder).join(name).display().to_string()).collect()
}

#[test]
fn every_page_is_tested_and_linked_from_its_readme() {
    for (index, folder) in ["docs/en", "docs/zh"].into_iter().enumerate() {
        let listed: BTreeSet<String> = PAGES.iter().skip(1).map(|page| page[index].to_owned()).collect();
        assert_eq!(markdown(folder), listed, "{folder}");
        let links: BTreeSet<String> = Page::read(READMES[index]).links.into_iter().map(|(_, link)| link).collect();
        let missing: Vec<_> = listed.difference(&links).collect();
        assert!(missing.is_empty(), "{} does not link to {missing:?}", READMES[index]);
    }
    for page in PAGES {
        assert_eq!(Path::new(page[0]).file_name() == Path::new(page[1]).file_name(), page[0] != READMES[0]);
    }
}

#[test]
fn the_readmes_are_short_and_begin_the_section_for_builders_with_the_two_commands() {
    for name in READMES {
        let page = Page::read(name);
        assert!(page.lines <= README_LINES, "{name} has {} lines", page.lines);
        let cargo = page.blocks.iter().position(|block| block.text.starts_with("cargo run --release -- ")).expect(name);
        let commands: Vec<&str> = page.blocks[cargo..].iter().take(2).map(|block| block.text.trim_end()).collect();
        assert_eq!(
            commands,
            [
                "cargo run --release -- -f distributed_weight_transfer -p fp16 -w 4 -y examples/tiny-llama/llama_tiny_4p.yaml \
                 -sc examples/tiny-llama/ckpt -dc target/tiny/ckpt -is target/tiny/strategy",
                "cargo test --workspace"
            ],
            "{name}"
        );
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut faults = Vec::new();
    for name in ["", "docs", "docs/en", "docs/zh"].into_iter().flat_map(markdown) {
        let page = Page::read(&name);
        for (line, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.path.clone() } else { beside(&page.path, path) };
            if !root().join(&target).exists() {
                faults.push(format!("{name}:{line}: {link}: {} is not there", target.display()));
            } else if !anchor.is_empty() {
                let anchors = Page::read(&target.display().to_string()).anchors();
                if !anchors.iter().any(|known| known == anchor) {
                    faults.push(format!("{name}:{line}: {link}: its headings are {anchors:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A path as a page names it, as from the root.
fn beside(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[test]
fn languages_that_differ_are_found_to_differ() {
    let english = "# A\n```sh\nls # all\n```\n| a |\n|---|\n| 1 |\n<!-- drawing -->\n```text\nrank\n```\n";
    let found = |chinese: &str| differences(&Page::parse("en", english), &Page::parse("zh", chinese)).join("\n");
    let chinese = "# 甲\n```sh\nls # 全部\n```\n| 甲 |\n|---|\n| 1 |\n\n```text\n卡\n```\n";
    assert_eq!(found(chinese), "");
    for (from, to, said) in [
        ("# 甲", "## 甲", "en and zh: the headings (level, title) differ: [\"1 A\"] and [\"2 甲\"]"),
        ("| 1 |", "| 1 |\n| 2 |", "the tables (line, rows) differ: [(5, 1)] and [(5, 2)]"),
        ("ls #", "ls -l #", "en:2 and zh:2: the blocks differ"),
        ("```sh", "```yaml", "en:2 and zh:2: \"sh\" and \"yaml\""),
        ("# 甲\n", "# 甲\n```sh\n```\n", "the blocks (their lines) differ"),
    ] {
        let found = found(&chinese.replacen(from, to, 1));
        assert!(found.contains(said), "{found}");
    }
}

#[test]
fn a_page_of_wrong_form_is_found_wrong() {
    for (text, said) in [
        ("```\nx\n```", "p.md:1: a block of language \"\""),
        ("```python\nx\n```", "p.md:1: a block of language \"python\""),
        ("    x\n", "p.md:1: a block of language \"(indented)\""),
        ("```json\n{,}\n```", "p.md:1: "),
        ("```yaml\na: [\n```", "p.md:1: "),
        ("\n<!-- exit: one -->\n", "p.md:2: <!-- exit: one --> means nothing"),
        ("<!-- not run: -->\n", "p.md:1: <!-- not run: --> means nothing"),
    ] {
        let found = form_faults(&Page::parse("p.md", text)).join("\n");
        assert!(found.contains(said), "{text}: {found}");
    }
    let right = "```json\n{\"a\": 1}\n```\n```yaml\na: [1]\n```\n<!-- not run: needs torch -->\n```python\nx\n```\n";
    assert_eq!(form_faults(&Page::parse("p.md", right)), Vec::<String>::new());
    assert_eq!(beside(Path::new("docs/en/a.md"), "../../LICENSE"), Path::new("LICENSE"));
    assert_eq!(beside(Path::new("docs/en/a.md"), "./b.md"), Path::new("docs/en/b.md"));
}
