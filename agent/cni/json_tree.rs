//! A JSON tree that keeps what a conflist's author wrote: key order, duplicate keys, number text.

/// One JSON value, as written.
///
/// `serde_json::Value` cannot be used here: it drops duplicate keys, refuses what Go accepts (lone surrogates, invalid
/// UTF-8) and rounds numbers. All three matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// The number's own text, which follows the JSON grammar.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// Every member in the order written, duplicates included.
    Object(Vec<(String, Json)>),
    /// A list or object that is nested deeper than [`DEPTH`]. Its content was checked but not kept.
    TooDeep,
}

/// How deep lists and objects may nest in a conflist that we write.
///
/// Real ones need fewer than ten levels. Go accepts 10,000, which would need too much stack.
pub(super) const DEPTH: usize = 64;

impl Json {
    /// The member of that exact name. If there are several, the last one counts, as in Go's maps.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let (_, value) = self
            .as_object()?
            .iter()
            .rev()
            .find(|(name, _)| name == key)?;
        Some(value)
    }

    /// The members, if this is an object.
    pub(super) fn as_object(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its type with an article, for a message.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::TooDeep => "nested too deep",
        }
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(elements) => Self::List(elements.iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

/// The path of a member, as in `plugins[1].ipam`.
pub(super) fn member_path(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

/// The path of an element, as in `plugins[1]`.
pub(super) fn element_path(at: &str, index: usize) -> String {
    format!("{at}[{index}]")
}

/// Calls `visit` for a value and every value in it, in the order written: with its path, its key (empty for an element
/// of a list) and itself.
pub(super) fn for_each_value<'a>(
    value: &'a serde_json::Value,
    at: &str,
    key: &str,
    visit: &mut impl FnMut(&str, &str, &'a serde_json::Value),
) {
    visit(at, key, value);
    for (key, value) in value.as_object().into_iter().flatten() {
        for_each_value(value, &member_path(at, key), key, visit);
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        for_each_value(value, &element_path(at, index), "", visit);
    }
}

/// A key in the form in which Go's `encoding/json` compares it with the name of a struct's field: without case.
///
/// Besides ASCII case, Unicode's simple folding makes the long s an `s` and the Kelvin sign a `k`. No other character
/// folds into ASCII.
pub(super) fn fold_key(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_wins() {
        let object = Json::Object(vec![
            ("a".to_owned(), Json::Null),
            ("a".to_owned(), Json::Bool(true)),
        ]);
        assert_eq!(object.get("a"), Some(&Json::Bool(true)));
        assert_eq!(object.get("A"), None);
    }

    #[test]
    fn keys_fold_as_in_go() {
        assert_eq!(fold_key("CapabilitieſK\u{212a}"), "capabilitieskk");
        assert_ne!(fold_key("ıpam"), "ipam");
        assert_ne!(fold_key("İpam"), "ipam");
    }
}
