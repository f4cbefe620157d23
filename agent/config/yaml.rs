//! Parses the YAML file into a tree in which every value knows where it was written.
//!
//! A derived `Deserialize` would stop at the first mistake and would not know its key path. With the tree, all mistakes
//! are reported at once, each with its line and key.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, MergeKeyPolicy, Spanned};

use super::error::{Problem, Problems};
use super::location::{Location, TextSource, join_path};

/// How deep lists and mappings may nest. A host-local range in a conflist is at level nine. Each level needs up to 32
/// KiB of stack in a debug build, and a thread of tokio's has 2 MiB.
const MAX_DEPTH: usize = 24;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct YamlNode {
    /// Where it was written.
    pub at: Location,
    /// What was written.
    pub value: Yaml,
}

/// A YAML value. A number is kept as written, because `0600` and `1.10` lose their meaning as numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written in the text.
    Number(String),
    /// Text, and whether it was written without quotes. A block after `|` or `>` counts as written without quotes.
    Text { text: String, plain: bool },
    /// A list.
    List(Vec<YamlNode>),
    /// A mapping in the order written, without duplicates.
    Map(Vec<(String, YamlNode)>),
}

impl Yaml {
    /// Its kind, for messages such as "expected a list, found text".
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text { .. } => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl YamlNode {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Yaml::Map(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Calls `visit` for this value and every value below it, in the order written.
    pub(super) fn for_each(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        match &self.value {
            Yaml::List(items) => items.iter().for_each(|item| item.for_each(visit)),
            Yaml::Map(entries) => entries.iter().for_each(|(_, node)| node.for_each(visit)),
            Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text { .. } => {}
        }
    }
}

/// Parses a text into its tree.
///
/// Anchors and merge keys are refused. A configuration for one node does not need them, and they can make a small file
/// expand into a large one.
///
/// # Errors
/// The syntax error at which the parser stopped, or all duplicate keys.
pub(super) fn parse_yaml(text: &str, source: TextSource) -> Result<YamlNode, Problems> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_depth: MAX_DEPTH },
    };
    let parsed: Spanned<ParsedValue> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| syntax_problem(text, &error, source))?;
    let mut builder = TreeBuilder {
        text,
        source,
        duplicates: Problems::default(),
    };
    let line = line_of(&parsed);
    let root = builder.node(parsed, String::new(), line);
    if builder.duplicates.count() == 0 {
        Ok(root)
    } else {
        Err(builder.duplicates)
    }
}

/// A parsed value before its path is known.
enum ParsedValue {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<ParsedValue>>),
    Map(Vec<(Spanned<String>, Spanned<ParsedValue>)>),
}

struct ParsedValueVisitor;

impl<'de> Visitor<'de> for ParsedValueVisitor {
    type Value = ParsedValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<ParsedValue, E> {
        Ok(ParsedValue::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ParsedValue, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(ParsedValue::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ParsedValue, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(ParsedValue::Map(map))
    }
}

impl<'de> Deserialize<'de> for ParsedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedValueVisitor)
    }
}

/// Gives every value its path and finds duplicate keys.
struct TreeBuilder<'a> {
    text: &'a str,
    source: TextSource,
    duplicates: Problems,
}

impl TreeBuilder<'_> {
    fn node(&mut self, parsed: Spanned<ParsedValue>, path: String, line: u32) -> YamlNode {
        let written = self.written(&parsed);
        let value = match parsed.value {
            ParsedValue::Null => Yaml::Null,
            ParsedValue::Bool(value) => Yaml::Bool(value),
            ParsedValue::Number => Yaml::Number(written.to_owned()),
            ParsedValue::Text(text) => Yaml::Text {
                plain: !written.starts_with(['"', '\'']),
                text,
            },
            ParsedValue::List(items) => Yaml::List(self.list(items, &path)),
            ParsedValue::Map(entries) => Yaml::Map(self.map(entries, &path)),
        };
        YamlNode {
            at: Location {
                source: self.source,
                line,
                path,
            },
            value,
        }
    }

    fn list(&mut self, items: Vec<Spanned<ParsedValue>>, path: &str) -> Vec<YamlNode> {
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let line = line_of(&item);
            list.push(self.node(item, format!("{path}[{index}]"), line));
        }
        list
    }

    fn map(
        &mut self,
        entries: Vec<(Spanned<String>, Spanned<ParsedValue>)>,
        path: &str,
    ) -> Vec<(String, YamlNode)> {
        let mut map: Vec<(String, YamlNode)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let line = line_of(&key);
            let node = self.node(value, join_path(path, &key.value), line);
            match map.iter().find(|(name, _)| *name == key.value) {
                Some((_, first)) => self.duplicates.add(
                    &node.at,
                    format!(
                        "given twice, first on line {}; remove one of them",
                        first.at.line
                    ),
                ),
                None => map.push((key.value, node)),
            }
        }
        map
    }

    /// A scalar as it is written in the text, with its quotes. Empty if the parser gives no offsets.
    fn written(&self, parsed: &Spanned<ParsedValue>) -> &str {
        let span = parsed.defined.span();
        span.byte_offset()
            .zip(span.byte_len())
            .and_then(|(start, len)| {
                let start = usize::try_from(start).ok()?;
                let end = start.checked_add(usize::try_from(len).ok()?)?;
                self.text.get(start..end)
            })
            .unwrap_or_default()
            .trim()
    }
}

fn line_of<T>(parsed: &Spanned<T>) -> u32 {
    u32::try_from(parsed.referenced.line()).unwrap_or(u32::MAX)
}

/// The parser's message in our form, and how to fix the mistake.
fn syntax_problem(text: &str, error: &YamlError, source: TextSource) -> Problems {
    let (line, column) = error
        .location()
        .map_or((1, 1), |at| (at.line(), at.column()));
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let location = Location {
        source,
        line,
        path: String::new(),
    };
    let message = error.to_string();
    let message = message
        .strip_suffix(&format!(" at line {line}, column {column}"))
        .unwrap_or(&message);
    let what = match error {
        YamlError::Budget {
            breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. },
            ..
        }
        | YamlError::UnknownAnchor { .. } => {
            "anchors and aliases are not supported; write the value itself, or put it in quotes if it is text"
                .to_owned()
        }
        YamlError::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => format!("nested too deeply; at most {MAX_DEPTH} levels are read"),
        YamlError::MergeKeyNotAllowed { .. } => {
            "the merge key '<<' is not supported; write the keys themselves".to_owned()
        }
        YamlError::MultipleDocuments { .. } => {
            "a second document begins here; write one document per file".to_owned()
        }
        YamlError::NullIntoString { .. } => "a key is missing before ':'".to_owned(),
        YamlError::UnsupportedTag { .. } => "tags are not supported; remove the word that begins with '!'".to_owned(),
        _ if has_placeholder(text, line) => {
            format!("{message}; a placeholder inside {{…}} or […] needs quotes: \"${{name}}\"")
        }
        _ => format!("{message}; correct the YAML here or just above"),
    };
    let column = u32::try_from(column).unwrap_or(u32::MAX);
    let problems = Problems::default();
    problems.push(Problem::new(&location, what).in_column(column));
    problems
}

/// Whether that line of the text contains a `${…}`.
fn has_placeholder(text: &str, line: u32) -> bool {
    let index = usize::try_from(line)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    text.lines()
        .nth(index)
        .is_some_and(|line| line.contains("${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> YamlNode {
        parse_yaml(text, TextSource::File).unwrap()
    }

    #[test]
    fn a_value_knows_its_path_and_the_line_of_its_key() {
        let tree = parsed("a:\n  b:\n    - x\n    -\n      c: 1\n  d: {e: [1,\n    2]}\n");
        let a = tree.get("a").unwrap();
        assert_eq!(a.at.line, 1);
        let Yaml::List(items) = &a.get("b").unwrap().value else {
            panic!("a list")
        };
        let c = items[1].get("c").unwrap();
        assert_eq!((c.at.path.as_str(), c.at.line), ("a.b[1].c", 5));
        let Yaml::List(items) = &a.get("d").unwrap().get("e").unwrap().value else {
            panic!("a list")
        };
        assert_eq!(
            (items[1].at.path.as_str(), items[1].at.line),
            ("a.d.e[1]", 7)
        );
    }

    #[test]
    fn a_number_stays_as_written() {
        for written in ["0600", "1.10", "1e9999", "-0", "0x1F", ".nan", "1_000"] {
            let tree = parsed(&format!("ü: '…'\nk: {written} # a comment\n"));
            assert_eq!(
                tree.get("k").unwrap().value,
                Yaml::Number(written.to_owned())
            );
        }
    }

    #[test]
    fn text_without_quotes_differs_from_text_with_quotes() {
        for (written, text, is_plain) in [
            ("yes", "yes", true),
            ("1.0.0", "1.0.0", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("'yes'", "yes", false),
            ("\"0600\"", "0600", false),
            ("|-\n  yes", "yes", true),
        ] {
            let Yaml::Text { text: read, plain } = &parsed(&format!("k: {written}\n"))
                .get("k")
                .unwrap()
                .value
                .clone()
            else {
                panic!("{written} is no text")
            };
            assert_eq!((read.as_str(), *plain), (text, is_plain), "{written}");
        }
    }
}
