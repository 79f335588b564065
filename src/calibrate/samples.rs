//! The data sets that golden-stick 0.6.0 calibrates with, and its wording (`datasets/{boolq,squad,wikitext2}.py`, mode
//! `train`). Parsers of bytes: no I/O.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

use super::DataError;
use super::clean::clean;

/// A kind of data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSet {
    /// JSON lines with `question`, `title`, `passage` and `answer`.
    BoolQ,
    /// JSON: `data[].paragraphs[]` with `context` and `qas`.
    Squad,
    /// Text, in paragraphs between blank lines.
    WikiText2,
}

/// The texts of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Texts {
    /// Each is a sample.
    Each(Vec<String>),
    /// Their tokens, one after the other, are cut into samples of one length.
    Stream(Vec<String>),
}

impl DataSet {
    /// The one of this name, as `-d` names it; in any case, as in golden-stick.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "boolq" => Self::BoolQ,
            "squad1.1" => Self::Squad,
            "wikitext2" => Self::WikiText2,
            _ => return None,
        })
    }

    /// Reads the first `samples` samples of a file, or where texts are a stream, all of them.
    ///
    /// # Errors
    /// The first line that does not parse. Lines after the last sample are not looked at, but for squad's, which is one
    /// JSON value.
    pub fn read(self, bytes: &[u8], samples: usize) -> Result<Texts, DataError> {
        match self {
            Self::BoolQ => boolq(bytes, samples).map(Texts::Each),
            Self::Squad => squad(bytes, samples).map(Texts::Each),
            Self::WikiText2 => wikitext(bytes).map(Texts::Stream),
        }
    }
}

#[derive(Deserialize)]
struct Question {
    #[serde(rename = "question")]
    query: String,
    title: String,
    passage: String,
    answer: bool,
}

fn boolq(bytes: &[u8], samples: usize) -> Result<Vec<String>, DataError> {
    let mut texts = Vec::new();
    let lines = bytes.trim_ascii_end().split(|b| *b == b'\n');
    for (line, bytes) in (1..).zip(lines).take(samples) {
        let q: Question = serde_json::from_slice(bytes).map_err(|e| DataError { line, what: without_place(&e) })?;
        let answer = if q.answer { "yes" } else { "no" };
        texts.push(format!(
            "Read the passage below and answer the question with yes or no.\n### Passage:\n{} -- {}\n### Question:\n{}\n### \
             Answer:{answer}",
            q.title, q.passage, q.query
        ));
    }
    Ok(texts)
}

#[derive(Deserialize)]
struct Squad {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    #[serde(deserialize_with = "first")]
    qas: Asked,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(deserialize_with = "first")]
    answers: Answer,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

/// The first of a list. The others are not used, so they may be anything.
fn first<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct First<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of questions or answers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
            let first =
                list.next_element()?.ok_or_else(|| A::Error::custom("an empty list of questions or answers"))?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }

    deserializer.deserialize_seq(First(PhantomData))
}

fn squad(bytes: &[u8], samples: usize) -> Result<Vec<String>, DataError> {
    let squad: Squad = serde_json::from_slice(bytes)
        .map_err(|e| DataError { line: u64::try_from(e.line()).unwrap_or(u64::MAX).max(1), what: without_place(&e) })?;
    let paragraphs = squad.data.into_iter().flat_map(|article| article.paragraphs);
    let text = |p: Paragraph| {
        format!(
            "Read the passage and answer the question below.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:{}",
            p.context, p.qas.question, p.qas.answers.text
        )
    };
    Ok(paragraphs.take(samples).map(text).collect())
}

fn wikitext(bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].split(|b| *b == b'\n').count() as u64;
        DataError { line, what: "not UTF-8".to_owned() }
    })?;
    let cleaned = clean(text);
    let kept = |p: &&str| !p.is_empty() && !p.trim_start().starts_with('=');
    Ok(cleaned.split("\n\n").filter(kept).map(str::to_owned).collect())
}

/// What is wrong, and in which column; the line is said elsewhere.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    let shown: String = what.chars().take(200).collect();
    format!("{shown} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_parse_is_named() {
        let good = r#"{"question": "q", "title": "t", "passage": "p", "answer": true, "more": 1}"#;
        let text = format!("{good}\n{good}\n{{\"question\": 1}}\n");
        let error = DataSet::BoolQ.read(text.as_bytes(), 200).unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.to_string().contains("expected a string"), "{error}");
        // It is not reached.
        let Texts::Each(texts) = DataSet::BoolQ.read(text.as_bytes(), 2).unwrap() else { panic!("texts") };
        assert_eq!(texts.len(), 2);
        let error = DataSet::BoolQ.read(format!("{good}\n\n{good}").as_bytes(), 200).unwrap_err();
        assert_eq!(error.line, 2);
        let empty = "{\"data\": [{\"paragraphs\": [\n{\"context\": \"c\", \"qas\": []}]}]}";
        let error = DataSet::Squad.read(empty.as_bytes(), 200).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
        let more = "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"question\": \"q\", \"answers\": [{\"text\": \"a\"}, 7]}, {}]}]}]}";
        assert!(DataSet::Squad.read(more.as_bytes(), 200).is_ok(), "what is not used may be anything");
        assert_eq!(DataSet::WikiText2.read(b"a\nb\xff", 200).unwrap_err().line, 2);
    }

    #[test]
    fn an_empty_file_has_no_samples() {
        assert_eq!(DataSet::WikiText2.read(b"", 200).unwrap(), Texts::Stream(Vec::new()));
        assert_eq!(DataSet::BoolQ.read(b"\n", 200).unwrap_err().line, 1);
    }
}
