//! Reads values out of the tree. A mistake is noted and reading goes on, so that all mistakes are reported at once.
//!
//! After a mistake, an optional value has its default. At the end [`Problems`] decides whether the configuration is
//! used.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

use super::error::{Problems, suggestion};
use super::location::Location;
use super::yaml::{Yaml, YamlNode};

/// A value of the configuration, and the list in which its mistakes are noted.
#[derive(Clone, Copy)]
pub(super) struct ConfigValue<'a> {
    node: &'a YamlNode,
    problems: &'a Problems,
}

/// A mapping whose keys are all known.
pub(super) struct Fields<'a> {
    at: Location,
    entries: &'a [(String, YamlNode)],
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    /// The value of a key. `null` counts as not given.
    pub(super) fn get(&self, key: &str) -> Option<ConfigValue<'a>> {
        let mut entries = self.entries.iter();
        entries
            .find(|(name, node)| name == key && node.value != Yaml::Null)
            .map(|(_, node)| ConfigValue::new(node, self.problems))
    }

    /// The value of a key that must be there; `fix` says what to write.
    pub(super) fn require(&self, key: &str, fix: &str) -> Option<ConfigValue<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.note(key, format!("missing; {fix}"));
        }
        found
    }

    /// Reads an optional value; `None` if it is missing or has a mistake.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(ConfigValue<'a>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(read)
    }

    /// Reads an optional value; the default if it is missing or has a mistake.
    pub(super) fn read_or<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(ConfigValue<'a>) -> Option<T>,
    ) -> T {
        self.read(key, read).unwrap_or(default)
    }

    /// Reads an optional list, every item of it.
    pub(super) fn read_list<T>(
        &self,
        key: &str,
        read: impl Fn(ConfigValue<'a>) -> Option<T>,
    ) -> Vec<T> {
        self.read_or(key, Vec::new(), |list| list.read_items(read))
    }

    /// The fields of an optional section. If it is missing or has a mistake, no field is given.
    pub(super) fn section(&self, key: &str, known: &[&str]) -> Self {
        self.read(key, |section| section.fields(known))
            .unwrap_or_else(|| Fields {
                at: self.location_of(key),
                entries: &[],
                problems: self.problems,
            })
    }

    /// Where a key is written (also with `null`), or where it would be.
    pub(super) fn location_of(&self, key: &str) -> Location {
        let entry = self.entries.iter().find(|(name, _)| name == key);
        entry.map_or_else(|| self.at.child(key), |(_, node)| node.at.clone())
    }

    /// Notes a mistake about a key, given or missing.
    pub(super) fn note(&self, key: &str, what: impl Into<String>) {
        self.problems.add(&self.location_of(key), what);
    }

    /// Notes a mistake about a key, and returns `None`: without it there is no value.
    pub(super) fn reject<T>(&self, key: &str, what: impl Into<String>) -> Option<T> {
        self.note(key, what);
        None
    }

    /// Notes a mistake about the mapping as a whole.
    pub(super) fn note_whole(&self, what: impl Into<String>) {
        self.problems.add(&self.at, what);
    }

    /// The mistakes noted so far, of this mapping and all others.
    pub(super) const fn problems(&self) -> &'a Problems {
        self.problems
    }
}

impl<'a> ConfigValue<'a> {
    pub(super) const fn new(node: &'a YamlNode, problems: &'a Problems) -> Self {
        Self { node, problems }
    }

    pub(super) const fn yaml(self) -> &'a Yaml {
        &self.node.value
    }

    /// The value of a key. Other keys are not checked.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        let node = self.node.get(key)?;
        Some(Self::new(node, self.problems))
    }

    /// The mistakes noted so far, of this value and all others.
    pub(super) const fn problems(self) -> &'a Problems {
        self.problems
    }

    /// Notes a mistake in this value.
    pub(super) fn note(self, what: impl Into<String>) {
        self.problems.add(&self.node.at, what);
    }

    /// Notes a mistake in this value, and returns `None`: the value cannot be used.
    pub(super) fn reject<T>(self, what: impl Into<String>) -> Option<T> {
        self.note(what);
        None
    }

    /// The value of a result. An error is noted as a mistake.
    pub(super) fn accept<T>(self, result: Result<T, impl ToString>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => self.reject(error.to_string()),
        }
    }

    /// The fields of a mapping that may only have these keys. Others are noted as mistakes.
    pub(super) fn fields(self, known: &[&str]) -> Option<Fields<'a>> {
        for (key, value) in self.entries()? {
            if !known.contains(&key) {
                let near = suggestion(key, known);
                let fix = match near.is_empty() {
                    true => format!("; the known keys are {}", known.join(", ")),
                    false => near,
                };
                value.note(format!("unknown key{fix}"));
            }
        }
        let Yaml::Map(entries) = &self.node.value else {
            return None;
        };
        Some(Fields {
            at: self.node.at.clone(),
            entries,
            problems: self.problems,
        })
    }

    /// The keys and values of a mapping that may have any keys.
    pub(super) fn entries(self) -> Option<impl ExactSizeIterator<Item = (&'a str, Self)>> {
        let Yaml::Map(entries) = &self.node.value else {
            return self.reject_kind("a mapping of keys", "");
        };
        let value = move |node| Self::new(node, self.problems);
        Some(entries.iter().map(move |(key, node)| (&**key, value(node))))
    }

    /// The items of the list.
    pub(super) fn items(self) -> Option<impl ExactSizeIterator<Item = Self>> {
        let Yaml::List(items) = &self.node.value else {
            return self.reject_kind("a list", "; put it in [ ] or behind '- '");
        };
        Some(items.iter().map(move |node| Self::new(node, self.problems)))
    }

    pub(super) fn is_empty_list(self) -> bool {
        matches!(&self.node.value, Yaml::List(items) if items.is_empty())
    }

    /// Reads every item of the list; `None` if one of them is wrong.
    pub(super) fn read_items<T>(self, read: impl Fn(Self) -> Option<T>) -> Option<Vec<T>> {
        // Every item is read, also after a mistake.
        let all: Vec<Option<T>> = self.items()?.map(read).collect();
        all.into_iter().collect()
    }

    /// Reads every item of a list that has at least one; `fix` says what to list.
    pub(super) fn read_some_items<T>(
        self,
        fix: &str,
        read: impl Fn(Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.items()?.len() == 0 {
            return self.reject(format!("the list is empty; {fix}"));
        }
        self.read_items(read)
    }

    /// The text. A number is refused, because YAML changes its meaning for the next tool that reads the file: `0600` is
    /// six hundred, and `1.10` is `1.1`.
    pub(super) fn text(self) -> Option<&'a str> {
        match &self.node.value {
            Yaml::Text { text, .. } => Some(text),
            Yaml::Number(written) => self.reject(format!(
                "YAML reads {written} as a number; write it in quotes: \"{written}\""
            )),
            _ => self.reject_kind("text", ""),
        }
    }

    /// The text, parsed.
    pub(super) fn parse<T>(self) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        self.parse_or_suggest("")
    }

    /// The text, parsed. If that fails, the message ends with `fix`.
    pub(super) fn parse_or_suggest<T>(self, fix: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let parsed = self.text()?.parse();
        self.accept(parsed.map_err(|error: T::Err| format!("{error}{fix}")))
    }

    /// One of a few values, each of which has one spelling.
    pub(super) fn choice<T: Copy>(
        self,
        values: &[T],
        spelling: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text()?;
        let found = values.iter().find(|value| spelling(**value) == text);
        if found.is_none() {
            let known: Vec<&str> = values.iter().map(|value| spelling(*value)).collect();
            self.note(format!(
                "'{text}' is not a known value; write {}",
                join_alternatives(&known)
            ));
        }
        found.copied()
    }

    /// `true` or `false`.
    pub(super) fn flag(self) -> Option<bool> {
        match &self.node.value {
            Yaml::Bool(value) => Some(*value),
            _ => self.reject_kind("true or false", ""),
        }
    }

    /// A number, or text such as `512MiB`, as it is written in the file. The caller checks it, so that a number without
    /// a unit gets a fitting message.
    pub(super) fn number_or_text(self) -> Option<&'a str> {
        match &self.node.value {
            Yaml::Number(written) => Some(written),
            _ => self.text(),
        }
    }

    /// The value as JSON, with the order of keys kept.
    pub(super) fn to_json(self) -> Value {
        let child = |node| Self::new(node, self.problems).to_json();
        match &self.node.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            Yaml::Number(written) => self
                .accept(json_number(written))
                .map_or(Value::Null, Value::Number),
            Yaml::Text { text, plain } => {
                if *plain && is_old_bool(text) {
                    self.note(format!(
                        "some YAML tools read {text} as text, others as a boolean; write true, false or \"{text}\""
                    ));
                }
                Value::String(text.clone())
            }
            Yaml::List(items) => items.iter().map(child).collect(),
            Yaml::Map(entries) => {
                let entries = entries.iter();
                let map: Map<_, _> = entries
                    .map(|(key, node)| (key.clone(), child(node)))
                    .collect();
                Value::Object(map)
            }
        }
    }

    fn reject_kind<T>(self, expected: &str, fix: &str) -> Option<T> {
        let found = self.node.value.kind();
        self.reject(format!("expected {expected}, found {found}{fix}"))
    }
}

/// `a, b or c`.
fn join_alternatives(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The words that are booleans in YAML 1.1 and text in YAML 1.2.
fn is_old_bool(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text))
}

/// Reads a number that has the same value in YAML, in JSON and for a plugin written in Go.
fn json_number(written: &str) -> Result<Number, String> {
    let number: Result<Number, _> = serde_json::from_str(written);
    let is_whole = !written.contains(['.', 'e', 'E']);
    match number {
        // Too large for 64 bits: serde_json would fall back to a float and lose digits.
        Ok(number) if is_whole && number.is_f64() => Err(format!(
            "the number {written} does not fit into 64 bits; write it in quotes if it is text"
        )),
        Ok(number) => Ok(number),
        Err(_) => Err(format!(
            "{written} is a number in YAML but not in JSON; write it as a plain decimal number, or in quotes: \"{written}\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::location::TextSource;
    use crate::config::yaml::parse_yaml;

    fn to_json(text: &str, problems: &Problems) -> Value {
        let tree = parse_yaml(text, TextSource::File).unwrap();
        ConfigValue::new(&tree, problems).to_json()
    }

    #[test]
    fn json_keeps_the_types_and_the_order_of_keys() {
        let text = "z: 1\na: [-2, 1.5, 1e3, true, null, ~]\nm: {s: '5', v: 1.0.0, d: 2024-01-01, p: ${x}}\n1: one\n";
        // In a flow mapping a placeholder needs quotes.
        let text = text.replace("${x}", "\"${x}\"");
        let problems = Problems::default();
        let value = to_json(&text, &problems);
        assert_eq!(problems.count(), 0);
        assert_eq!(
            value.to_string(),
            r#"{"z":1,"a":[-2,1.5,1000.0,true,null,null],"m":{"s":"5","v":"1.0.0","d":"2024-01-01","p":"${x}"},"1":"one"}"#
        );
    }

    #[test]
    fn what_yaml_and_json_read_differently_is_refused() {
        for written in [
            "0600",
            "0x1F",
            "0o17",
            "1_000",
            ".5",
            "5.",
            "+1",
            ".inf",
            "-.INF",
            ".nan",
            "1e999",
            "123456789012345678901234567890",
            "-0",
            "yes",
            "No",
            "on",
            "OFF",
            "y",
        ] {
            let problems = Problems::default();
            to_json(&format!("k: {written}"), &problems);
            assert_eq!(problems.count(), 1, "{written}");
        }
        for written in [
            "'0600'",
            "\"yes\"",
            "10.244.0.0/16",
            "18446744073709551615",
            "0",
        ] {
            let problems = Problems::default();
            to_json(&format!("k: {written}"), &problems);
            assert_eq!(problems.count(), 0, "{written}");
        }
    }
}
