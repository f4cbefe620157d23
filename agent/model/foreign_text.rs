//! Text that others wrote, such as file names and messages of servers, made safe to show.
//!
//! Such a text must not look like a second line of ours, must not control a terminal and must not grow without bound.

use std::borrow::Cow;
use std::fmt::Display;

/// The most bytes that a message of ours repeats of what a library says.
const MAX_QUOTED_ERROR_BYTES: usize = 300;

/// What stands where a text was cut.
const ELLIPSIS: &str = "…";

/// The text with every control character and every invisible character that changes the direction of the text written
/// as an escape, such as `\n` or `\u{1b}`, so that nothing is lost and all of it is on one line.
#[must_use]
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match needs_escape(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A JSON document with the same characters written as JSON writes them: `\u202e`. Its value stays the same. Line breaks
/// between its parts stay as they are; those within a text are escapes already.
#[must_use]
pub fn escape_json(document: &str) -> Cow<'_, str> {
    let is_raw = |c: char| c != '\n' && needs_escape(c);
    if !document.contains(is_raw) {
        return Cow::Borrowed(document);
    }
    let mut escaped = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        match is_raw(c) {
            // All of them have at most 16 bits.
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// [`escape_controls`], cut to at most `max_bytes`: for a foreign name within a sentence.
#[must_use]
pub fn escape_name(name: &str, max_bytes: usize) -> String {
    // Cut first as well, so that the cost does not depend on the length of the name.
    let escaped = escape_controls(&clip(name, max_bytes)).into_owned();
    clip(&escaped, max_bytes).into_owned()
}

/// The words of a text with one space between them, cut to at most `max_bytes`: for a foreign sentence.
#[must_use]
pub fn one_line(text: &str, max_bytes: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || needs_escape(c));
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if line.len() > max_bytes {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    clip(&line, max_bytes).into_owned()
}

/// The beginning of a text: at most `max_bytes`, only whole characters, with `…` at the end if something was cut.
#[must_use]
pub fn clip(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..end]))
}

/// A sentence with its middle cut out: the beginning names what is wrong, and the end says how to fix it.
#[must_use]
pub fn clip_middle(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let half = max_bytes.saturating_sub(ELLIPSIS.len()) / 2;
    let begin = &text[..text.floor_char_boundary(half)];
    let end = &text[text.ceil_char_boundary(text.len() - half)..];
    Cow::Owned(format!("{begin}{ELLIPSIS}{end}"))
}

/// What a library says of an error, as a part of a message of ours: on one line, and cut, since it may repeat what
/// another side sent. A library that reads files which hold secrets is not quoted at all.
#[must_use]
pub fn quote_error(error: &(impl Display + ?Sized)) -> String {
    one_line(&error.to_string(), MAX_QUOTED_ERROR_BYTES)
}

/// Whether a character is a control character, or an invisible one that changes the direction of the text, so that one
/// file name can look like another. U+FFFE and U+FFFF are no characters at all.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_rest_is_kept() {
        assert_eq!(escape_controls("a\nb\0\x1b[2J"), r"a\nb\u{0}\u{1b}[2J");
        assert_eq!(escape_controls("conf\u{202e}tsilf"), r"conf\u{202e}tsilf");
        assert_eq!(escape_controls("Überlänge 网络"), "Überlänge 网络");
    }

    #[test]
    fn a_document_keeps_its_value() {
        let text = "a\n\u{7f}\u{9b}\u{202e}\u{2028}\u{feff}\u{1b} Überlänge";
        let document = serde_json::to_string_pretty(&[text]).unwrap();
        let escaped = escape_json(&document);
        assert!(
            !escaped.contains(|c| c != '\n' && needs_escape(c)),
            "{escaped}"
        );
        let [again]: [String; 1] = serde_json::from_str(&escaped).unwrap();
        assert_eq!(again, text);
    }

    #[test]
    fn a_sentence_stays_on_one_line_of_bounded_length() {
        assert_eq!(one_line(" a\n\tb \u{1b}[31m\r", 80), "a b [31m");
        assert_eq!(one_line(" \n", 80), "");
        assert_eq!(one_line("one two", 7), "one two");
        assert_eq!(one_line("one two", 6), "one…");
        assert!(one_line(&"é ".repeat(1 << 20), 301).len() <= 301);
    }

    #[test]
    fn a_cut_text_ends_with_an_ellipsis_and_with_a_whole_character() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("ééé", 5), "é…");
        assert_eq!(clip_middle("éé and éé", 13), "éé and éé");
        assert_eq!(clip_middle("éé and éé", 9), "é…é");
        assert_eq!(escape_name("\n\n\n", 6), r"\n\n\n");
        assert_eq!(escape_name(&"\n".repeat(100), 9), r"\n\n\n…");
    }
}
