//! Reads values out of the tree, noting every mistake instead of stopping at the first.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

use super::error::{Problems, suggestion};
use super::tree::{Node, Place, Yaml};

/// A mapping whose keys are all known.
pub(super) struct Fields<'a> {
    /// Where the mapping is.
    pub at: &'a Place,
    entries: &'a [(String, Node)],
}

impl<'a> Fields<'a> {
    /// The value of a key; `null` counts as not given.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(name, node)| name == key && node.value != Yaml::Null)
            .map(|(_, node)| node)
    }

    /// The value of a key that must be there.
    pub(super) fn require(
        &self,
        key: &str,
        mend: &str,
        problems: &mut Problems,
    ) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            problems.add(&self.place_of(key), format!("missing; {mend}"));
        }
        found
    }

    /// Where a key is written, if only as `null`, or else would be.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|(name, _)| name == key);
        entry.map_or_else(|| self.at.key(key), |(_, node)| node.at.clone())
    }
}

impl Node {
    /// The mapping with these keys and no others.
    pub(super) fn fields<'a>(
        &'a self,
        known: &[&str],
        problems: &mut Problems,
    ) -> Option<Fields<'a>> {
        let entries = self.entries(problems)?;
        for (key, node) in entries {
            if !known.contains(&key.as_str()) {
                let near = suggestion(key, known);
                let mend = if near.is_empty() {
                    format!("; known here are {}", known.join(", "))
                } else {
                    near
                };
                problems.add(&node.at, format!("unknown key{mend}"));
            }
        }
        Some(Fields {
            at: &self.at,
            entries,
        })
    }

    /// The mapping, whatever its keys.
    pub(super) fn entries<'a>(&'a self, problems: &mut Problems) -> Option<&'a [(String, Node)]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            other => {
                let found = other.kind();
                problems.add(
                    &self.at,
                    format!("expected a mapping of keys, found {found}"),
                );
                None
            }
        }
    }

    /// The list.
    pub(super) fn items<'a>(&'a self, problems: &mut Problems) -> Option<&'a [Node]> {
        match &self.value {
            Yaml::List(items) => Some(items),
            other => {
                let found = other.kind();
                problems.add(
                    &self.at,
                    format!("expected a list, found {found}; put it in [ ] or behind '- '"),
                );
                None
            }
        }
    }

    /// Every item of a list that has at least one, each read by `read`; `mend` says what to list.
    pub(super) fn at_least_one<T>(
        &self,
        mend: &str,
        problems: &mut Problems,
        mut read: impl FnMut(&Self, &mut Problems) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.items(problems)?;
        if items.is_empty() {
            problems.add(&self.at, format!("the list is empty; {mend}"));
            return None;
        }
        // Every item is looked at, also behind a mistake.
        let all: Vec<Option<T>> = items.iter().map(|item| read(item, problems)).collect();
        all.into_iter().collect()
    }

    /// The text. A number is refused, because YAML has already changed its meaning for the next tool that
    /// reads the file: `0600` is six hundred, `1.10` is `1.1`.
    pub(super) fn text<'a>(&'a self, problems: &mut Problems) -> Option<&'a str> {
        match &self.value {
            Yaml::Text { text, .. } => Some(text),
            Yaml::Number(written) => {
                problems.add(
                    &self.at,
                    format!("YAML reads {written} as a number; write it in quotes: \"{written}\""),
                );
                None
            }
            other => {
                problems.add(&self.at, format!("expected text, found {}", other.kind()));
                None
            }
        }
    }

    /// The text read as something else; `mend` ends the message if that fails.
    pub(super) fn parse<T>(&self, mend: &str, problems: &mut Problems) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text(problems)?;
        self.note(
            text.parse().map_err(|error| format!("{error}{mend}")),
            problems,
        )
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        words: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.text(problems)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            problems.add(
                &self.at,
                format!("'{text}' is not known here; write {}", alternatives(&known)),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, problems: &mut Problems) -> Option<bool> {
        match &self.value {
            Yaml::Bool(value) => Some(*value),
            other => {
                let found = other.kind();
                problems.add(&self.at, format!("expected true or false, found {found}"));
                None
            }
        }
    }

    /// A number, or text such as `512MiB`, as it stands in the file: for what is checked further, so that a
    /// bare number gets the fitting message.
    pub(super) fn number_or_text<'a>(&'a self, problems: &mut Problems) -> Option<&'a str> {
        match &self.value {
            Yaml::Number(written) => Some(written),
            _ => self.text(problems),
        }
    }

    /// Keeps a value or notes why there is none.
    pub(super) fn note<T>(&self, result: Result<T, String>, problems: &mut Problems) -> Option<T> {
        result.map_err(|what| problems.add(&self.at, what)).ok()
    }

    /// The value as JSON, with the order of keys kept.
    pub(super) fn json(&self, problems: &mut Problems) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            Yaml::Number(written) => self
                .note(json_number(written), problems)
                .map_or(Value::Null, Value::Number),
            Yaml::Text { text, plain } => {
                if *plain && is_old_bool(text) {
                    problems.add(
                        &self.at,
                        format!("to some YAML tools {text} is text, to others a boolean; write true, false or \"{text}\""),
                    );
                }
                Value::String(text.clone())
            }
            Yaml::List(items) => items.iter().map(|item| item.json(problems)).collect(),
            Yaml::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, node) in entries {
                    map.insert(key.clone(), node.json(problems));
                }
                Value::Object(map)
            }
        }
    }
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The words that YAML 1.1 took for booleans and YAML 1.2 takes for text.
fn is_old_bool(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text))
}

/// A number that means the same in YAML, in JSON and to a plugin written in Go.
fn json_number(written: &str) -> Result<Number, String> {
    let number: Result<Number, _> = serde_json::from_str(written);
    let whole = !written.contains(['.', 'e', 'E']);
    match number {
        // Too large for 64 bits: serde_json would fall back to a float and lose digits.
        Ok(number) if whole && number.is_f64() => Err(format!(
            "{written} is no whole number of 64 bits; write it in quotes if it is text"
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
    use crate::config::tree::{Origin, parse};

    #[test]
    fn json_keeps_the_types_and_the_order_of_keys() {
        let text = "z: 1\na: [-2, 1.5, 1e3, true, null, ~]\nm: {s: '5', v: 1.0.0, d: 2024-01-01, p: ${x}}\n1: one\n";
        // In a flow mapping a placeholder needs quotes.
        let text = text.replace("${x}", "\"${x}\"");
        let mut problems = Problems::default();
        let value = parse(&text, Origin::File).unwrap().json(&mut problems);
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
            let mut problems = Problems::default();
            parse(&format!("k: {written}"), Origin::File)
                .unwrap()
                .json(&mut problems);
            assert_eq!(problems.count(), 1, "{written}");
        }
        for written in [
            "'0600'",
            "\"yes\"",
            "10.244.0.0/16",
            "18446744073709551615",
            "0",
        ] {
            let mut problems = Problems::default();
            parse(&format!("k: {written}"), Origin::File)
                .unwrap()
                .json(&mut problems);
            assert_eq!(problems.count(), 0, "{written}");
        }
    }
}
