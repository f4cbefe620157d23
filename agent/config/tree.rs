//! The YAML file as a tree in which every value still knows where it was written.
//!
//! A derived `Deserialize` would stop at the first mistake and forget the key path on the way. The tree keeps
//! both, so that all mistakes are told at once, each with its line and key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, MergeKeyPolicy, Spanned};

use super::error::Problem;

/// Which text a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The operator's file.
    File,
    /// The built-in profile that the file names.
    Profile,
    /// A flag or environment variable.
    Flag,
}

/// Where a value was written: text, line, and the path of keys that leads to it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Which text.
    pub origin: Origin,
    /// The line of the key, or of the value in a list; from 1.
    pub line: u32,
    /// As in `artifacts[0].sha256.amd64`; empty for the whole document.
    pub path: String,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where it was written.
    pub at: Place,
    /// What was written.
    pub value: Yaml,
}

/// A YAML value. A number is kept as written: `0600` and `1.10` lose their meaning once they are numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// What YAML takes for a number, as it stands in the text.
    Number(String),
    /// Text, and whether it was written without quotes.
    Text { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order written, without duplicates.
    Map(Vec<(String, Node)>),
}

impl Yaml {
    /// What it is, for "expected …, found …".
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

impl Node {
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
}

impl Place {
    /// The place of a key below this one: of a missing key, or of one not looked at yet.
    pub(super) fn key(&self, key: &str) -> Self {
        Self {
            path: join(&self.path, key),
            ..self.clone()
        }
    }
}

/// Appends a key to a path.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Parses a text into its tree.
///
/// Anchors and merge keys are refused: a file for one node has no use for them, and with them goes every
/// way to make a small file expand into a large one.
///
/// # Errors
/// The one syntax error at which the parser stopped, or all duplicate keys.
pub(super) fn parse(text: &str, origin: Origin) -> Result<Node, Vec<Problem>> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0 },
    };
    let parsed: Spanned<Content> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| vec![syntax(text, &error, origin)])?;
    let mut builder = Builder {
        text,
        origin,
        duplicates: Vec::new(),
    };
    let line = line_of(&parsed);
    let root = builder.node(parsed, String::new(), line);
    if builder.duplicates.is_empty() {
        Ok(root)
    } else {
        Err(builder.duplicates)
    }
}

/// A parsed value before its path is known.
enum Content {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Content>>),
    Map(Vec<(Spanned<String>, Spanned<Content>)>),
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Content::Map(map))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// Gives every value its path and finds duplicate keys.
struct Builder<'a> {
    text: &'a str,
    origin: Origin,
    duplicates: Vec<Problem>,
}

impl Builder<'_> {
    fn node(&mut self, parsed: Spanned<Content>, path: String, line: u32) -> Node {
        let written = self.written(&parsed);
        let value = match parsed.value {
            Content::Null => Yaml::Null,
            Content::Bool(value) => Yaml::Bool(value),
            Content::Number => Yaml::Number(written.to_owned()),
            Content::Text(text) => Yaml::Text {
                plain: !written.starts_with(['"', '\'', '|', '>', '!']),
                text,
            },
            Content::List(items) => Yaml::List(self.list(items, &path)),
            Content::Map(entries) => Yaml::Map(self.map(entries, &path)),
        };
        Node {
            at: Place {
                origin: self.origin,
                line,
                path,
            },
            value,
        }
    }

    fn list(&mut self, items: Vec<Spanned<Content>>, path: &str) -> Vec<Node> {
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let line = line_of(&item);
            list.push(self.node(item, format!("{path}[{index}]"), line));
        }
        list
    }

    fn map(
        &mut self,
        entries: Vec<(Spanned<String>, Spanned<Content>)>,
        path: &str,
    ) -> Vec<(String, Node)> {
        let mut map: Vec<(String, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let line = line_of(&key);
            let node = self.node(value, join(path, &key.value), line);
            match map.iter().find(|(name, _)| *name == key.value) {
                Some((_, first)) => self.duplicates.push(Problem::new(
                    &node.at,
                    format!(
                        "given twice, first on line {}; remove one of them",
                        first.at.line
                    ),
                )),
                None => map.push((key.value, node)),
            }
        }
        map
    }

    /// A scalar as it stands in the text, quotes included; empty where the parser gives no offsets.
    fn written(&self, parsed: &Spanned<Content>) -> &str {
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

/// Puts the parser's own sentence into our form, with a mend where the mistake is a known one.
fn syntax(text: &str, error: &YamlError, origin: Origin) -> Problem {
    let (line, column) = error
        .location()
        .map_or((1, 1), |at| (at.line(), at.column()));
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let place = Place {
        origin,
        line,
        path: String::new(),
    };
    let said = error.to_string();
    let said = said
        .strip_suffix(&format!(" at line {line}, column {column}"))
        .unwrap_or(&said);
    let what = match error {
        YamlError::Budget {
            breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. },
            ..
        } => "anchors and aliases are not read; write the value out".to_owned(),
        YamlError::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => "nested too deeply; 64 levels are the most".to_owned(),
        YamlError::MergeKeyNotAllowed { .. } => {
            "the merge key '<<' is not read; write the keys out".to_owned()
        }
        YamlError::MultipleDocuments { .. } => {
            "a second document begins here; keep one to a file".to_owned()
        }
        YamlError::NullIntoString { .. } => "a key is missing before ':'".to_owned(),
        _ if holds_placeholder(text, line) => {
            format!("{said}; within {{…}} and […] a placeholder needs quotes: \"${{name}}\"")
        }
        _ => format!("{said}; mend the YAML here or just above"),
    };
    Problem::new(&place, what).in_column(u32::try_from(column).unwrap_or(u32::MAX))
}

/// Whether that line of the text holds a `${…}`.
fn holds_placeholder(text: &str, line: u32) -> bool {
    let index = usize::try_from(line)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    text.lines()
        .nth(index)
        .is_some_and(|line| line.contains("${"))
}
