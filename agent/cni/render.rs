//! Fills in `${fact}` in the strings of a conflist template. Its callers collect the facts: see
//! [`crate::reconcile`] (`conflist_facts`), and `model/node_facts.rs` for `${node.podCIDR}` and its like.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::fact_types::{UnfitFact, give_types};
use super::json_tree::{element_path, member_path};
use super::placeholder::whole_placeholder;
use crate::model::spelling_distance;

/// The values that a template's placeholders take, by name.
pub type Facts = BTreeMap<String, Value>;

/// How many known facts an error lists.
const LISTED: usize = 8;

/// One placeholder that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderProblem {
    /// There is no such fact, or it is empty, which is the same.
    #[error("{at}: {}", explain_unknown(name, nearest, *is_empty))]
    Unknown {
        /// Where, as in `plugins[0].mtu`.
        at: String,
        /// The name between the braces.
        name: String,
        /// The known facts, the most similar first.
        nearest: Vec<String>,
        /// There is one, and it is empty.
        is_empty: bool,
    },
    /// The plugin wants another type, or another form, than the fact has.
    #[error(
        "{at}: the fact '{name}' is not what is wanted here; it must be {want}; correct it where it is given"
    )]
    Unfit {
        /// Where.
        at: String,
        /// The fact's name.
        name: String,
        /// What the plugin wants.
        want: String,
    },
    /// The fact is a list, an object or null, and the placeholder is only a part of the text.
    #[error(
        "{at}: the fact '{name}' is {kind} and cannot be part of a text; let \"${{{name}}}\" be the whole value"
    )]
    NotText {
        /// Where.
        at: String,
        /// The fact's name.
        name: String,
        /// Its type.
        kind: &'static str,
    },
    /// A `${` without its `}`.
    #[error(
        "{at}: a '${{' without its '}}'; close it, or write '$${{' for the two characters themselves"
    )]
    Unclosed {
        /// Where.
        at: String,
    },
}

impl RenderProblem {
    /// Where it is in the conflist, as in `plugins[0].mtu`.
    #[must_use]
    pub fn at(&self) -> &str {
        match self {
            Self::Unknown { at, .. }
            | Self::Unfit { at, .. }
            | Self::NotText { at, .. }
            | Self::Unclosed { at } => at,
        }
    }
}

/// Every placeholder of a template that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    /// At least one, in the template's order.
    pub problems: Vec<RenderProblem>,
}

impl std::error::Error for RenderError {}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the conflist cannot be rendered")?;
        let separators = std::iter::once(": ").chain(std::iter::repeat("; "));
        for (separator, problem) in separators.zip(&self.problems) {
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// Fills in a template and writes it as JSON: indented by two spaces, keys in the template's order, a newline at the
/// end.
///
/// The rules:
/// - Only string values can contain placeholders, keys cannot.
/// - A value that is exactly one placeholder gets the type that the plugin wants there, and the fact's own type where that
///   is not known.
/// - A fact that is an empty text is no fact.
/// - Within a longer text, a string, number or boolean is inserted as text.
/// - `$${` stands for `${` itself.
/// - Placeholders within a fact's own value are not filled in.
///
/// # Errors
/// When a placeholder names an unknown fact, is within a longer text and names a fact that is not text, or is not
/// closed. The error lists all of them.
pub fn render_conflist(template: &Value, facts: &Facts) -> Result<String, RenderError> {
    let mut renderer = Renderer {
        facts,
        problems: Vec::new(),
    };
    let mut filled = renderer.render_value(template, "");
    if renderer.problems.is_empty() {
        let unfit = give_types(template, &mut filled).into_iter();
        renderer.problems = unfit
            .map(|UnfitFact { at, fact, want }| RenderProblem::Unfit {
                at,
                name: fact,
                want,
            })
            .collect();
    }
    if renderer.problems.is_empty() {
        Ok(format!("{filled:#}\n"))
    } else {
        Err(RenderError {
            problems: renderer.problems,
        })
    }
}

struct Renderer<'a> {
    facts: &'a Facts,
    problems: Vec<RenderProblem>,
}

impl Renderer<'_> {
    fn render_value(&mut self, value: &Value, at: &str) -> Value {
        match value {
            Value::String(text) => self.render_text(text, at),
            Value::Array(elements) => {
                let elements = elements.iter().enumerate();
                elements
                    .map(|(index, value)| self.render_value(value, &element_path(at, index)))
                    .collect()
            }
            Value::Object(members) => {
                let filled: Map<String, Value> = members
                    .iter()
                    .map(|(key, value)| {
                        (key.clone(), self.render_value(value, &member_path(at, key)))
                    })
                    .collect();
                Value::Object(filled)
            }
            scalar => scalar.clone(),
        }
    }

    fn render_text(&mut self, text: &str, at: &str) -> Value {
        if let Some(name) = whole_placeholder(text) {
            return self.find_fact(name, at).cloned().unwrap_or_default();
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            filled.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                filled.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let Some((name, after)) = after.split_once('}') else {
                    self.problems
                        .push(RenderProblem::Unclosed { at: at.to_owned() });
                    return Value::Null;
                };
                filled.push_str(&self.fact_as_text(name, at));
                rest = after;
            } else {
                filled.push('$');
                rest = &rest[1..];
            }
        }
        filled.push_str(rest);
        Value::String(filled)
    }

    fn fact_as_text(&mut self, name: &str, at: &str) -> String {
        let kind = match self.find_fact(name, at) {
            None => return String::new(),
            Some(Value::String(text)) => return text.clone(),
            Some(scalar @ (Value::Number(_) | Value::Bool(_))) => return scalar.to_string(),
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "an object",
            Some(Value::Null) => "null",
        };
        self.problems.push(RenderProblem::NotText {
            at: at.to_owned(),
            name: name.to_owned(),
            kind,
        });
        String::new()
    }

    fn find_fact(&mut self, name: &str, at: &str) -> Option<&Value> {
        let given = self.facts.get(name);
        let fact = given.filter(|value| value.as_str() != Some(""));
        if fact.is_none() {
            self.problems.push(RenderProblem::Unknown {
                at: at.to_owned(),
                name: name.to_owned(),
                nearest: nearest_facts(name, self.facts),
                is_empty: given.is_some(),
            });
        }
        fact
    }
}

/// The known names, the most similar first.
fn nearest_facts(name: &str, facts: &Facts) -> Vec<String> {
    // The environment has so many names that the other facts would be hard to find.
    let of_environment = name.starts_with("env.");
    let mut names: Vec<String> = facts
        .keys()
        .filter(|fact| fact.starts_with("env.") == of_environment)
        .cloned()
        .collect();
    names.sort_by_cached_key(|known| spelling_distance(name, known));
    names
}

fn explain_unknown(name: &str, nearest: &[String], is_empty: bool) -> String {
    match is_empty {
        true => format!("the fact '{name}' is empty, which is as good as none; give it a value"),
        false => format!(
            "there is no fact '{name}'; {}; {}",
            known_facts(nearest),
            source_advice(name)
        ),
    }
}

/// How to provide a fact.
pub(super) fn source_advice(name: &str) -> String {
    if name == "node.defaultRoutes" {
        return "give node.podCIDRs, from which it follows".to_owned();
    }
    match name.strip_prefix("env.") {
        Some(variable) => format!("set {variable} in the agent's environment"),
        None => format!("give it under network.facts: - values: {{{name}: …}}"),
    }
}

fn known_facts(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return "none are known".to_owned();
    }
    let listed = nearest[..nearest.len().min(LISTED)].join(", ");
    match nearest.len().saturating_sub(LISTED) {
        0 => format!("known are {listed}"),
        more => format!("known are {listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        let facts = json!({
            "FLANNEL_MTU": 1450,
            "FLANNEL_SUBNET": "10.244.1.1/24",
            "FLANNEL_IPMASQ": true,
            "node.podCIDRs": ["10.244.1.0/24", "fd00::/64"],
            "nothing": null,
            "looks like one": "${FLANNEL_MTU}",
        });
        facts.as_object().unwrap().clone().into_iter().collect()
    }

    fn rendered(template: &Value) -> Value {
        serde_json::from_str(&render_conflist(template, &facts()).unwrap()).unwrap()
    }

    fn refused(template: &Value) -> String {
        render_conflist(template, &facts()).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_value_takes_the_facts_own_type() {
        let template = json!({
            "mtu": "${FLANNEL_MTU}",
            "ipMasq": "${FLANNEL_IPMASQ}",
            "ranges": ["${node.podCIDRs}"],
            "null": "${nothing}",
            "text": "${FLANNEL_SUBNET}",
        });
        assert_eq!(
            rendered(&template),
            json!({
                "mtu": 1450,
                "ipMasq": true,
                "ranges": [["10.244.1.0/24", "fd00::/64"]],
                "null": null,
                "text": "10.244.1.1/24",
            })
        );
    }

    #[test]
    fn within_a_text_a_scalar_is_text() {
        assert_eq!(
            rendered(&json!(
                "mtu=${FLANNEL_MTU} masq=${FLANNEL_IPMASQ} ${FLANNEL_MTU}"
            )),
            json!("mtu=1450 masq=true 1450")
        );
        assert_eq!(
            refused(&json!({"a": ["x ${node.podCIDRs}"]})),
            "the conflist cannot be rendered: a[0]: the fact 'node.podCIDRs' is a list and cannot be \
             part of a text; let \"${node.podCIDRs}\" be the whole value"
        );
    }

    #[test]
    fn dollars_are_only_special_before_a_brace() {
        assert_eq!(
            rendered(&json!("$HOME $1 {x} $${FLANNEL_MTU} $ $$")),
            json!("$HOME $1 {x} ${FLANNEL_MTU} $ $$")
        );
        assert_eq!(rendered(&json!("$${a}${FLANNEL_MTU}")), json!("${a}1450"));
        assert_eq!(
            rendered(&json!("${FLANNEL_MTU}${FLANNEL_MTU}")),
            json!("14501450")
        );
    }

    #[test]
    fn keys_and_facts_are_not_filled_in() {
        assert_eq!(
            rendered(&json!({"${FLANNEL_MTU}": "${looks like one}"})),
            json!({"${FLANNEL_MTU}": "${FLANNEL_MTU}"})
        );
    }

    #[test]
    fn every_unknown_fact_is_named_with_its_place_and_its_like() {
        let error =
            refused(&json!({"mtu": "${FLANNEL_MTUU}", "dns": {"domain": "x.${node.name}"}}));
        assert!(
            error.contains("mtu: there is no fact 'FLANNEL_MTUU'; known are FLANNEL_MTU, "),
            "{error}"
        );
        assert!(
            error.contains("dns.domain: there is no fact 'node.name'"),
            "{error}"
        );
        let none = render_conflist(&json!("${env.A}"), &Facts::new()).unwrap_err();
        assert!(
            none.to_string()
                .ends_with("none are known; set A in the agent's environment"),
            "{none}"
        );
    }

    #[test]
    fn an_unclosed_placeholder_is_an_error() {
        assert_eq!(
            refused(&json!({"a": "x ${FLANNEL_MTU"})),
            "the conflist cannot be rendered: a: a '${' without its '}'; close it, or write '$${' \
             for the two characters themselves"
        );
    }

    #[test]
    fn the_order_of_keys_and_the_form_are_kept() {
        let template: Value =
            serde_json::from_str(r#"{"name":"n","cniVersion":"1.0.0","a":[1]}"#).unwrap();
        assert_eq!(
            render_conflist(&template, &Facts::new()).unwrap(),
            "{\n  \"name\": \"n\",\n  \"cniVersion\": \"1.0.0\",\n  \"a\": [\n    1\n  ]\n}\n"
        );
    }
}
