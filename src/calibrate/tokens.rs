//! From texts to tokens: a `tokenizer.json`, with the beginning and end of each text marked, as golden-stick forces it to be.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::Tokenizer;

use super::{CalibrateError, Texts};

/// Which tokens begin and end a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special<'a> {
    /// The beginning's, as it was requested; empty: none.
    pub bos: Option<&'a str>,
    /// The end's.
    pub eos: Option<&'a str>,
    /// The bytes of the model's `tokenizer_config.json`, which is consulted where nothing was requested.
    pub config: Option<&'a [u8]>,
}

/// A tokenizer.
#[derive(Debug)]
pub struct Words {
    tokenizer: Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl Words {
    /// Reads a `tokenizer.json`. Where neither options nor a configuration name the marks, they are llama's `<s>` and `</s>`,
    /// if the vocabulary has both.
    ///
    /// # Errors
    /// No tokenizer, a mark that the vocabulary does not have, or none that could be known.
    pub fn new(json: &[u8], special: &Special<'_>) -> Result<Self, CalibrateError> {
        let error = CalibrateError::Tokenizer;
        if json.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            let why = "the tokenizer is no tokenizer.json; a tokenizer.model (sentencepiece) becomes one with transformers: \
                       AutoTokenizer.from_pretrained(DIR).save_pretrained(OUT)";
            return Err(error(why.to_owned()));
        }
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(json))?
            .map_err(|e| error(format!("the tokenizer.json is not readable: {}", e.to_string().replace('\n', " "))))?;
        // Neither is part of the text's tokens.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| error(e.to_string()))?;
        let config = special.config.map(serde_json::from_slice::<serde_json::Value>).transpose();
        let config = config.map_err(|e| error(format!("the tokenizer_config.json is not readable: {e}")))?;
        let mark = |asked: Option<&str>,
                    field: &str,
                    option: &str,
                    llama: &str|
         -> Result<Option<u32>, CalibrateError> {
            let stated = config.as_ref().map(|c| match &c[field] {
                serde_json::Value::Object(token) => token.get("content").and_then(|t| t.as_str()).unwrap_or(""),
                other => other.as_str().unwrap_or(""),
            });
            let both = ["<s>", "</s>"].iter().all(|t| tokenizer.token_to_id(t).is_some());
            let Some(text) = asked.or(stated).or(both.then_some(llama)) else {
                let why = format!(
                    "which token is the {field} cannot be known: no tokenizer_config.json is beside the tokenizer; give \
                     {option} TOKEN (or {option} '' for none)"
                );
                return Err(error(why));
            };
            if text.is_empty() {
                return Ok(None);
            }
            let id = tokenizer.token_to_id(text);
            id.map(Some).ok_or_else(|| error(format!("the tokenizer's vocabulary has no {field} `{text}`")))
        };
        let bos = mark(special.bos, "bos_token", "--bos-token", "<s>")?;
        let eos = mark(special.eos, "eos_token", "--eos-token", "</s>")?;
        Ok(Self { tokenizer, bos, eos })
    }

    /// The first `samples` samples of at most `length` tokens; those of a stream have exactly so many, and what is left is
    /// dropped.
    ///
    /// # Errors
    /// A text that cannot be tokenized.
    pub fn samples(&self, texts: &Texts, samples: usize, length: usize) -> Result<Vec<Vec<u32>>, CalibrateError> {
        match texts {
            Texts::Each(texts) => {
                let one = |text: &String| {
                    self.tokens(text).map(|mut tokens| {
                        tokens.truncate(length);
                        tokens
                    })
                };
                texts.iter().take(samples).map(one).collect()
            }
            Texts::Stream(texts) => {
                let wanted = samples.saturating_mul(length);
                let mut stream = Vec::new();
                for text in texts {
                    if stream.len() >= wanted {
                        break;
                    }
                    stream.extend(self.tokens(text)?);
                }
                Ok(stream.chunks_exact(length.max(1)).take(samples).map(<[u32]>::to_vec).collect())
            }
        }
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, CalibrateError> {
        let encoded =
            guarded(|| self.tokenizer.encode(text, false))?.map_err(|e| CalibrateError::Tokenizer(e.to_string()))?;
        Ok(self.bos.into_iter().chain(encoded.get_ids().iter().copied()).chain(self.eos).collect())
    }
}

/// The crate may panic over an unforeseen file; a file is never a reason for the program to end that way. Nothing of
/// a tokenizer is used after it did.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, CalibrateError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        CalibrateError::Tokenizer("the tokenizer.json is damaged, or of a kind that is not known".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_over_a_file_is_an_error() {
        assert!(matches!(
            guarded(|| -> u32 { panic!("a file that nobody thought of") }),
            Err(CalibrateError::Tokenizer(_))
        ));
        assert!(matches!(guarded(|| 7), Ok(7)));
    }
}
