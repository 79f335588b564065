//! How golden-stick cleans wikitext before it is split into paragraphs (`datasets/wikitext2.py`, `_clean`), step by step.

/// The text as golden-stick's tokenizer is given it.
pub(super) fn clean(text: &str) -> String {
    // Python opens text files with universal newlines.
    let mut text = text.replace("\r\n", "\n").replace('\r', "\n").replace("s '", "s'");
    text = odd_contraction(&text);
    for (from, to) in [
        (" @-@ ", "-"),
        (" @,@ ", ","),
        (" @.@ ", "."),
        (" : ", ": "),
        (" ; ", "; "),
        (" . ", ". "),
        (" ! ", "! "),
        (" ? ", "? "),
        (" , ", ", "),
    ] {
        text = text.replace(from, to);
    }
    for (open, close) in [('(', ')'), ('[', ']'), ('{', '}'), ('"', '"'), ('\'', '\'')] {
        text = trimmed(&text, open, close);
    }
    for (from, to) in [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// `re.sub(r"/' [0-9]/", r"/'[0-9]/", text)`: meant otherwise, but this is what it does.
fn odd_contraction(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/' ") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let mut after = from.chars().skip(3);
        if after.next().is_some_and(|c| c.is_ascii_digit()) && after.next() == Some('/') {
            out.push_str("/'[0-9]/");
            rest = &from[5..];
        } else {
            out.push('/');
            rest = &from[1..];
        }
    }
    out + rest
}

/// What is between a bracket and the next closing one, without the space around it.
fn trimmed(text: &str, open: char, close: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once(open) {
        let Some((inner, after)) = inner.split_once(close) else { break };
        out.push_str(before);
        out.push(open);
        out.push_str(inner.trim());
        out.push(close);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::clean;

    /// Expected: what golden-stick 0.6.0's `_clean` returns.
    #[test]
    fn text_is_cleaned_as_golden_stick_does() {
        for (text, expected) in [
            ("a @-@ b , c . d ( x ( y ) z )", "a-b, c. d (x ( y) z )"),
            ("he said \" yes \" and ' no ' twice", "he said \"yes\" and 'no' twice"),
            ("the dogs ' tails ; 3 @.@ 5 % : [  ]", "the dogs' tails; 3.5 %: []"),
            ("/' 5/ = = A = =\r\n N \u{b0} C 's", "/'[0-9]/ == A ==\nN\u{b0}C's"),
            ("an ( open one", "an ( open one"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }
}
