//! A page of the documents, as far as it is checked: headings, blocks, tables and links, with their lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A comment that steers the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Steer {
    /// Shell that is run before the next block.
    Setup(String),
    /// The exit status of the next block.
    Exit(i32),
    /// The next block cannot be run in a test.
    NotRun,
    /// The next block is no output.
    Drawing,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
    pub(super) steers: Vec<Steer>,
}

impl Block {
    pub(super) fn is(&self, steer: &Steer) -> bool {
        self.steers.contains(steer)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Heading {
    pub(super) line: usize,
    pub(super) level: usize,
    pub(super) title: String,
}

#[derive(Debug)]
pub(super) struct Page {
    /// The path as from the root of the repository.
    pub(super) path: PathBuf,
    pub(super) lines: usize,
    pub(super) headings: Vec<Heading>,
    pub(super) blocks: Vec<Block>,
    /// The number of rows of each table, with its line.
    pub(super) tables: Vec<(usize, usize)>,
    pub(super) links: Vec<(usize, String)>,
    /// Comments that mean nothing to the test, which are mistakes.
    pub(super) unknown: Vec<(usize, String)>,
}

impl Page {
    pub(super) fn read(path: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &str, text: &str) -> Self {
        let mut page = Self {
            path: path.into(),
            lines: text.lines().count(),
            headings: Vec::new(),
            blocks: Vec::new(),
            tables: Vec::new(),
            links: Vec::new(),
            unknown: Vec::new(),
        };
        let mut steers = Vec::new();
        let mut html: Option<String> = None;
        let (mut in_block, mut in_heading) = (false, false);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = text[..range.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.trim().to_owned(),
                        CodeBlockKind::Indented => "(indented)".to_owned(),
                    };
                    let steers = std::mem::take(&mut steers);
                    page.blocks.push(Block { line, language, text: String::new(), steers });
                    in_block = true;
                }
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Start(Tag::Heading { level, .. }) => {
                    page.headings.push(Heading { line, level: level as usize, title: String::new() });
                    in_heading = true;
                }
                Event::End(TagEnd::Heading(_)) => in_heading = false,
                Event::Text(words) if in_block => page.blocks.last_mut().expect("a block").text.push_str(&words),
                Event::Text(words) | Event::Code(words) if in_heading => {
                    page.headings.last_mut().expect("a heading").title.push_str(&words);
                }
                Event::Start(Tag::Table(_)) => page.tables.push((line, 0)),
                Event::Start(Tag::TableRow) => page.tables.last_mut().expect("a table").1 += 1,
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line, dest_url.into_string()));
                }
                Event::Start(Tag::HtmlBlock) => html = Some(String::new()),
                Event::Html(words) | Event::InlineHtml(words) => match &mut html {
                    Some(html) => html.push_str(&words),
                    None => page.comments(&words, line, &mut steers),
                },
                Event::End(TagEnd::HtmlBlock) => {
                    page.comments(&html.take().unwrap_or_default(), line, &mut steers);
                }
                _ => {}
            }
        }
        page
    }

    /// The comments in a piece of HTML.
    fn comments(&mut self, html: &str, line: usize, steers: &mut Vec<Steer>) {
        for rest in html.split("<!--").skip(1) {
            let comment = rest.split("-->").next().unwrap_or_default().trim();
            let (name, value) = comment.split_once(':').unwrap_or((comment, ""));
            let steer = match (name.trim(), value.trim()) {
                ("setup", shell) if !shell.is_empty() => Some(Steer::Setup(shell.to_owned())),
                ("exit", status) => status.parse().ok().map(Steer::Exit),
                ("not run", reason) if !reason.is_empty() => Some(Steer::NotRun),
                ("drawing", "") => Some(Steer::Drawing),
                _ => None,
            };
            match steer {
                Some(steer) => steers.push(steer),
                None => self.unknown.push((line, comment.to_owned())),
            }
        }
    }

    /// The names by which links lead to headings, as GitHub makes them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        let anchors = self.headings.iter().map(|heading| {
            let name = anchor(&heading.title);
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 { name } else { format!("{name}-{}", *count - 1) }
        });
        anchors.collect()
    }
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn a_page_is_read_as_it_is_shown() {
    let text = "# One `-x`: two\n\n<!-- setup:\na=1\nb=2 -->\n<!-- exit: 1 -->\n```sh\nls\n```\nIt prints:\n```text\nx\n```\n\n\
                ## One `-x`: two\n<!-- drawings -->\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[here](x.md#y)\n\n    indented\n";
    let page = Page::parse("p.md", text);
    assert_eq!(page.anchors(), ["one--x-two", "one--x-two-1"]);
    assert_eq!(page.headings.iter().map(|h| (h.line, h.level)).collect::<Vec<_>>(), [(1, 1), (15, 2)]);
    let blocks: Vec<_> = page.blocks.iter().map(|b| (b.line, &*b.language, &*b.text)).collect();
    assert_eq!(blocks, [(7, "sh", "ls\n"), (11, "text", "x\n"), (23, "(indented)", "indented\n")]);
    assert_eq!(page.blocks[0].steers, [Steer::Setup("a=1\nb=2".to_owned()), Steer::Exit(1)]);
    assert_eq!(page.blocks[1].steers, []);
    assert_eq!(page.unknown, [(16, "drawings".to_owned())]);
    assert_eq!((page.tables, page.links), (vec![(17, 1)], vec![(21, "x.md#y".to_owned())]));
}
