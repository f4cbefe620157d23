//! Reads JSON exactly as Go's `encoding/json` does, because that decides what a runtime loads.
//!
//! Some texts lose information when Go reads them. They are not refused here but noted in [`JsonFlaws`], so that the
//! lenient loader and our own stricter validation use one reading.

use super::json_tree::{DEPTH, Json, element_path, member_path};
use super::kept_values::{KeptValues, ReadsAs};

/// Go's scanner refuses a document that nests deeper (`maxNestingDepth`).
pub(super) const GO_DEPTH: usize = 10_000;

/// How many components of the path to something nested too deep are shown.
const PATH_HEAD: usize = 4;

/// The text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not JSON: line {line}, column {column}: {problem}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// What is wrong there, and what to do about it where that is known.
    pub problem: String,
}

/// A whole document, and what was lost when it was read.
#[derive(Debug)]
pub(super) struct JsonDocument {
    pub(super) root: Json,
    pub(super) flaws: JsonFlaws,
    /// Whether everything that was selected is in it. It is not where that would exceed the limits.
    pub(super) is_whole: bool,
}

/// The path to the first value with each flaw that Go accepts, or refuses only later.
#[derive(Debug, Default)]
pub(super) struct JsonFlaws {
    /// Bytes that are not UTF-8. Go replaces them by U+FFFD.
    pub(super) invalid_utf8: Option<String>,
    /// Half of a surrogate pair in a `\u` escape. Go replaces it by U+FFFD.
    pub(super) lone_surrogate: Option<String>,
    /// A number that is too large for a 64-bit float. Go reads the whole document before it refuses it.
    pub(super) overflow: Option<String>,
    /// Where nesting deeper than [`DEPTH`] begins.
    pub(super) too_deep: Option<String>,
    /// How many levels the document has.
    pub(super) depth: usize,
}

/// Reads one JSON document.
///
/// # Errors
/// In the same cases as Go's scanner, such as a byte order mark or data after the end.
pub(super) fn parse_json(bytes: &[u8]) -> Result<JsonDocument, SyntaxError> {
    read_with(bytes, KeptValues::all())
}

/// Reads one JSON document, and keeps only what libcni reads of it, within limits. The rest is checked and not kept, so
/// that a large file of others needs little memory.
///
/// # Errors
/// As [`parse_json`].
pub(super) fn parse_selected(bytes: &[u8], form: ReadsAs) -> Result<JsonDocument, SyntaxError> {
    read_with(bytes, KeptValues::of(form))
}

fn read_with(bytes: &[u8], kept: KeptValues) -> Result<JsonDocument, SyntaxError> {
    let mut scanner = Scanner {
        bytes,
        at: 0,
        stack: Vec::new(),
        flaws: JsonFlaws::default(),
        kept,
    };
    let root = scanner.read_document()?;
    Ok(JsonDocument {
        root,
        is_whole: scanner.kept.is_whole(),
        flaws: scanner.flaws,
    })
}

/// A list or object that is being read. It is kept on the heap, because Go allows 10,000 of them.
enum OpenContainer {
    /// The elements that are kept, and how many there are so far.
    List(Vec<Json>, usize),
    /// The members so far and the key whose value comes next.
    Object(Vec<(String, Json)>, String),
}

/// The path of the next value in the innermost of these containers.
fn path_of(stack: &[OpenContainer]) -> String {
    stack.iter().fold(String::new(), |at, open| match open {
        OpenContainer::List(_, count) => element_path(&at, *count),
        // The key is still being read.
        OpenContainer::Object(_, key) if key.is_empty() => at,
        OpenContainer::Object(_, key) => member_path(&at, key),
    })
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<OpenContainer>,
    flaws: JsonFlaws,
    kept: KeptValues,
}

impl Scanner<'_> {
    fn read_document(&mut self) -> Result<Json, SyntaxError> {
        loop {
            if let Some(value) = self.read_value()?
                && let Some(root) = self.place_value(value)?
            {
                self.skip_space();
                return match self.peek() {
                    None => Ok(root),
                    Some(_) => Err(self.error("there is more after the end of the document")),
                };
            }
        }
    }

    /// Reads a value. If it is a list or object that is not empty, this reads only the opening bracket and returns
    /// `None`.
    fn read_value(&mut self) -> Result<Option<Json>, SyntaxError> {
        self.skip_space();
        let value = match self.peek() {
            Some(b'{') => {
                self.open_container(OpenContainer::Object(Vec::new(), String::new()))?;
                self.skip_space();
                if self.peek() != Some(b'}') {
                    self.read_key()?;
                    return Ok(None);
                }
                self.at += 1;
                self.close_container()
            }
            Some(b'[') => {
                self.open_container(OpenContainer::List(Vec::new(), 0))?;
                self.skip_space();
                if self.peek() != Some(b']') {
                    return Ok(None);
                }
                self.at += 1;
                self.close_container()
            }
            Some(b'"') => Json::Text(self.read_string()?),
            Some(b'-' | b'0'..=b'9') => self.read_number()?,
            Some(b't') => self.read_literal("true", Json::Bool(true))?,
            Some(b'f') => self.read_literal("false", Json::Bool(false))?,
            Some(b'n') => self.read_literal("null", Json::Null)?,
            Some(_) if self.at == 0 && self.bytes.starts_with(b"\xef\xbb\xbf") => {
                return Err(self.error("it begins with a byte order mark; save it without one"));
            }
            _ => return Err(self.expected("a value")),
        };
        Ok(Some(value))
    }

    /// Puts a finished value into its container, and closes containers that end here. Returns the root at the end of
    /// the document.
    fn place_value(&mut self, mut value: Json) -> Result<Option<Json>, SyntaxError> {
        loop {
            let end = match self.stack.last_mut() {
                None => return Ok(Some(value)),
                Some(OpenContainer::List(elements, count)) => {
                    *count += 1;
                    if self.kept.keep("", &mut value) {
                        elements.push(value);
                    }
                    b']'
                }
                Some(OpenContainer::Object(members, key)) => {
                    let key = std::mem::take(key);
                    if self.kept.keep(&key, &mut value) {
                        members.push((key, value));
                    }
                    b'}'
                }
            };
            self.kept.begin_element();
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if end == b'}' {
                        self.skip_space();
                        self.read_key()?;
                    }
                    return Ok(None);
                }
                Some(byte) if byte == end => {
                    self.at += 1;
                    value = self.close_container();
                }
                _ if end == b']' => return Err(self.expected("',' or ']'")),
                _ => return Err(self.expected("',' or '}'")),
            }
        }
    }

    fn open_container(&mut self, container: OpenContainer) -> Result<(), SyntaxError> {
        if self.stack.len() == GO_DEPTH {
            return Err(self.error("it nests deeper than 10,000 levels"));
        }
        if self.stack.len() == DEPTH && self.flaws.too_deep.is_none() {
            self.flaws.too_deep = Some(path_of(&self.stack[..PATH_HEAD]));
        }
        self.at += 1;
        self.kept.open_container();
        self.stack.push(container);
        self.flaws.depth = self.flaws.depth.max(self.stack.len());
        Ok(())
    }

    /// Takes the innermost container off the stack. Deeper than [`DEPTH`], only a mark is kept of it, so that walking
    /// or dropping the tree needs little stack.
    fn close_container(&mut self) -> Json {
        let deep = self.stack.len() > DEPTH;
        self.kept.close_container();
        match self.stack.pop() {
            Some(_) if deep => Json::TooDeep,
            Some(OpenContainer::List(elements, _)) => Json::List(elements),
            Some(OpenContainer::Object(members, _)) => Json::Object(members),
            None => Json::Null,
        }
    }

    fn read_key(&mut self) -> Result<(), SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        let name = self.read_string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.expected("':' after a key"));
        }
        self.at += 1;
        self.kept.begin_member(&name);
        if let Some(OpenContainer::Object(_, key)) = self.stack.last_mut() {
            *key = name;
        }
        Ok(())
    }

    fn read_string(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut raw = Vec::new();
        let longest = self.kept.longest_text();
        loop {
            let Some(byte) = self.peek() else {
                return Err(self.expected("the string's closing quote"));
            };
            match byte {
                b'"' => break,
                b'\\' => {
                    let c = self.read_escape()?;
                    if raw.len() < longest {
                        raw.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    continue;
                }
                0..0x20 => {
                    return Err(
                        self.error("a control character in a string; write it as an escape")
                    );
                }
                _ if raw.len() < longest => raw.push(byte),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(self.decode_utf8(&raw))
    }

    /// Decodes UTF-8, with one U+FFFD for every invalid byte, as Go does.
    fn decode_utf8(&mut self, mut raw: &[u8]) -> String {
        let mut text = String::with_capacity(raw.len());
        loop {
            match std::str::from_utf8(raw) {
                Ok(rest) => {
                    text.push_str(rest);
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = raw.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    text.push(char::REPLACEMENT_CHARACTER);
                    raw = rest.get(1..).unwrap_or_default();
                    if self.flaws.invalid_utf8.is_none() {
                        self.flaws.invalid_utf8 = Some(self.current_path());
                    }
                }
            }
        }
    }

    fn read_escape(&mut self) -> Result<char, SyntaxError> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.read_unicode_escape(),
            _ => return Err(self.expected("one of \" \\ / b f n r t u after a backslash")),
        };
        self.at += 1;
        Ok(c)
    }

    fn read_unicode_escape(&mut self) -> Result<char, SyntaxError> {
        self.at += 1;
        let first = self.read_four_digits()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if first < 0xdc00 && self.bytes[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.read_four_digits()?;
            if let 0xdc00..=0xdfff = second
                && let Some(c) =
                    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            {
                return Ok(c);
            }
            // It is not the other half, so it is read again as a character of its own.
            self.at = before;
        }
        if self.flaws.lone_surrogate.is_none() {
            self.flaws.lone_surrogate = Some(self.current_path());
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn read_four_digits(&mut self) -> Result<u32, SyntaxError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.expected("four hexadecimal digits after \\u"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn read_number(&mut self) -> Result<Json, SyntaxError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.skip_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.skip_digits()?;
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
        if !finite && self.flaws.overflow.is_none() {
            self.flaws.overflow = Some(self.current_path());
        }
        Ok(Json::Number(text))
    }

    fn skip_digits(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected("a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    fn read_literal(&mut self, word: &str, value: Json) -> Result<Json, SyntaxError> {
        for byte in word.bytes() {
            if self.peek() != Some(byte) {
                return Err(self.expected(&format!("'{word}'")));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The path of the value that is being read.
    fn current_path(&self) -> String {
        path_of(&self.stack)
    }

    fn expected(&self, what: &str) -> SyntaxError {
        if self.at >= self.bytes.len() {
            self.error(&format!("the document ends, but {what} is expected"))
        } else {
            self.error(&format!("{what} is expected here"))
        }
    }

    fn error(&self, problem: &str) -> SyntaxError {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n');
        let in_line = &before[line_start.map_or(0, |newline| newline + 1)..];
        SyntaxError {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            // Continuation bytes of UTF-8 are not characters of their own.
            column: in_line.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1,
            problem: problem.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
