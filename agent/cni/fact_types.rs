//! Gives the value of a fact the type that the plugin wants where the fact is used. A variable of the environment is
//! always a text, and `"1450"` is no MTU for any plugin.

use serde_json::{Map, Value, json};

use super::ipam_caller::type_of;
use super::json_tree::{element_path, member_path};
use super::placeholder::{has_placeholder, whole_placeholder};
use super::reference_plugins::{find_ipam_plugin, find_plugin};
use super::wanted_value::{INT, KnownKeys, WantedValue, find_key};

/// What a plugin wants that is not in the table, by the convention of those that have the key.
const OTHER_PLUGIN: KnownKeys = &[("mtu", INT)];

/// A fact that cannot be what is wanted where it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnfitFact {
    pub(super) at: String,
    pub(super) fact: String,
    pub(super) want: String,
}

/// Gives the values of a filled-in conflist their types, where a placeholder of the template was the whole value.
pub(super) fn give_types(template: &Value, filled: &mut Value) -> Vec<UnfitFact> {
    let mut unfit = Vec::new();
    let Some(chain) = template.get("plugins").and_then(Value::as_array) else {
        return unfit;
    };
    let plugins = filled.get_mut("plugins").and_then(Value::as_array_mut);
    for (index, (template, filled)) in chain.iter().zip(plugins.into_iter().flatten()).enumerate() {
        let at = element_path("plugins", index);
        give_plugin_types(template, filled, &at, "", &mut unfit);
    }
    unfit
}

/// Of a plugin, its IPAM plugin and, for flannel, the plugin that it calls.
fn give_plugin_types(
    template: &Value,
    filled: &mut Value,
    at: &str,
    usual_kind: &str,
    unfit: &mut Vec<UnfitFact>,
) {
    let (Some(template), Some(filled)) = (template.as_object(), filled.as_object_mut()) else {
        return;
    };
    let kind = type_of(filled).unwrap_or(usual_kind).to_owned();
    let keys = find_plugin(&kind).map_or(OTHER_PLUGIN, |plugin| plugin.keys);
    give_member_types(template, filled, at, keys, unfit);
    for (key, value) in filled {
        let Some(template) = template.get(key) else {
            continue;
        };
        let at = member_path(at, key);
        if kind == "flannel" && key == "delegate" {
            give_plugin_types(template, value, &at, "bridge", unfit);
        } else if let ("ipam", Value::Object(ipam)) = (key.as_str(), value)
            && let Some(template) = template.as_object()
            && let Some(plugin) = type_of(ipam).and_then(find_ipam_plugin)
        {
            give_member_types(template, ipam, &at, plugin.keys, unfit);
        }
    }
}

fn give_member_types(
    template: &Map<String, Value>,
    filled: &mut Map<String, Value>,
    at: &str,
    keys: KnownKeys,
    unfit: &mut Vec<UnfitFact>,
) {
    for (key, value) in filled {
        if let (Some(template), Some((_, want))) = (template.get(key), find_key(keys, key)) {
            give_type(template, value, &member_path(at, key), want, unfit);
        }
    }
}

fn give_type(
    template: &Value,
    filled: &mut Value,
    at: &str,
    want: WantedValue,
    unfit: &mut Vec<UnfitFact>,
) {
    if let Some(fact) = template.as_str().and_then(whole_placeholder) {
        match converted(filled, want) {
            Some(value) => *filled = value,
            None => unfit.push(UnfitFact {
                at: at.to_owned(),
                fact: fact.to_owned(),
                want: want.describe(),
            }),
        }
        return;
    }
    match (template, filled, want) {
        (Value::Array(template), Value::Array(filled), WantedValue::List(want)) => {
            for (index, (template, filled)) in template.iter().zip(filled).enumerate() {
                give_type(template, filled, &element_path(at, index), *want, unfit);
            }
        }
        (
            Value::Object(template),
            Value::Object(filled),
            WantedValue::Object(keys) | WantedValue::Open(keys),
        ) => give_member_types(template, filled, at, keys, unfit),
        (Value::Object(template), Value::Object(filled), WantedValue::Sysctls) => {
            for (key, filled) in filled {
                if let Some(template) = template.get(key) {
                    give_type(
                        template,
                        filled,
                        &member_path(at, key),
                        WantedValue::Text,
                        unfit,
                    );
                }
            }
        }
        _ => {}
    }
}

/// The value as what is wanted; none if it cannot be that. What has the right type already is checked elsewhere.
fn converted(value: &Value, want: WantedValue) -> Option<Value> {
    match (want, value) {
        (_, Value::String(text)) if has_placeholder(text) => Some(value.clone()),
        (WantedValue::Flag, Value::String(text)) => {
            let flag: bool = text.trim().to_ascii_lowercase().parse().ok()?;
            Some(flag.into())
        }
        (WantedValue::Flag, Value::Number(_)) => None,
        (WantedValue::Integer { .. } | WantedValue::Mtu { .. }, Value::String(text)) => {
            let number: i64 = text.trim().parse().ok()?;
            Some(number.into())
        }
        (WantedValue::Integer { .. } | WantedValue::Mtu { .. }, Value::Bool(_)) => None,
        (WantedValue::List(want), Value::String(text)) if holds_addresses(*want) => {
            let parts = text
                .split(',')
                .map(|part| converted(&part.trim().into(), *want));
            parts.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (WantedValue::List(want), Value::Array(elements)) => {
            let elements = elements.iter().map(|element| converted(element, *want));
            elements.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (
            WantedValue::Object([(key, WantedValue::Subnet | WantedValue::Prefixed), ..]),
            Value::String(text),
        ) => Some(json!({ *key: text })),
        (want, Value::Number(_) | Value::Bool(_)) if is_text(want) => {
            Some(value.to_string().into())
        }
        _ => Some(value.clone()),
    }
}

/// Whether it is a text in the end.
fn is_text(want: WantedValue) -> bool {
    !matches!(
        want,
        WantedValue::Any
            | WantedValue::Flag
            | WantedValue::Integer { .. }
            | WantedValue::Mtu { .. }
            | WantedValue::Sysctls
            | WantedValue::Object(_)
            | WantedValue::Open(_)
            | WantedValue::List(_)
    )
}

/// Whether each part of a text such as `10.244.1.0/24,fd00::/64` can be an element of such a list.
fn holds_addresses(want: WantedValue) -> bool {
    match want {
        WantedValue::Address | WantedValue::Subnet | WantedValue::Prefixed => true,
        WantedValue::Object([(_, first), ..]) => holds_addresses(*first),
        WantedValue::List(want) => holds_addresses(*want),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plugin of this template, filled in with the same value for each placeholder.
    fn typed(template: &Value, value: &Value) -> Result<Value, Vec<String>> {
        let facts = [("x".to_owned(), value.clone())].into();
        let conflist = json!({"plugins": [template]});
        match super::super::render::render_conflist(&conflist, &facts) {
            Ok(text) => {
                let mut conflist: Value = serde_json::from_str(&text).unwrap();
                Ok(conflist["plugins"][0].take())
            }
            Err(error) => Err(error.problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_fact_has_the_type_that_is_wanted_where_it_is_used() {
        let host_local = |ranges: Value| json!({"type": "bridge", "ipam": {"type": "host-local", "ranges": ranges}});
        let both = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]);
        for (template, value, want) in [
            (
                json!({"type": "bridge", "mtu": "${x}"}),
                json!("1450"),
                json!({"type": "bridge", "mtu": 1450}),
            ),
            (
                json!({"type": "bridge", "MTU": "${x}"}),
                json!(" 1450 "),
                json!({"type": "bridge", "MTU": 1450}),
            ),
            (
                json!({"type": "calico", "mtu": "${x}"}),
                json!("1450"),
                json!({"type": "calico", "mtu": 1450}),
            ),
            (
                json!({"type": "bridge", "ipMasq": "${x}"}),
                json!("True"),
                json!({"type": "bridge", "ipMasq": true}),
            ),
            (
                json!({"type": "bridge", "bridge": "${x}"}),
                json!(7),
                json!({"type": "bridge", "bridge": "7"}),
            ),
            (
                json!({"type": "bridge", "vlanTrunk": [{"id": "${x}"}]}),
                json!("7"),
                json!({"type": "bridge", "vlanTrunk": [{"id": 7}]}),
            ),
            (
                json!({"type": "flannel", "delegate": {"mtu": "${x}"}}),
                json!("7"),
                json!({"type": "flannel", "delegate": {"mtu": 7}}),
            ),
            (
                json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "${x}"}}),
                json!(500),
                json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}),
            ),
            (
                json!({"type": "bridge", "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0", "priority": "${x}"}]}}),
                json!("7"),
                json!({"type": "bridge", "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0", "priority": 7}]}}),
            ),
            (
                host_local(json!("${x}")),
                json!(["10.1.0.0/24", "fd00::/64"]),
                host_local(both.clone()),
            ),
            (
                host_local(json!("${x}")),
                json!("10.1.0.0/24, fd00::/64"),
                host_local(both.clone()),
            ),
            (
                host_local(json!("${x}")),
                both.clone(),
                host_local(both.clone()),
            ),
            (
                host_local(json!("${x}")),
                json!("10.1.0.0/24"),
                host_local(json!([[{"subnet": "10.1.0.0/24"}]])),
            ),
            // What nobody knows of keeps its type.
            (
                json!({"type": "other", "x": "${x}"}),
                json!("7"),
                json!({"type": "other", "x": "7"}),
            ),
        ] {
            assert_eq!(typed(&template, &value), Ok(want), "{template}");
        }
    }

    #[test]
    fn a_fact_that_cannot_be_of_the_type_is_refused() {
        for (key, value, want) in [
            ("mtu", json!("abc"), "an integer from 68 to 65535"),
            ("mtu", json!("1450.5"), "an integer from 68 to 65535"),
            ("mtu", json!(true), "an integer from 68 to 65535"),
            ("vlan", json!("x"), "an integer from 0 to 4094"),
            ("ipMasq", json!("yes"), "true or false"),
            ("ipMasq", json!(1), "true or false"),
        ] {
            let said = typed(&json!({"type": "bridge", key: "${x}"}), &value).unwrap_err();
            let begin = format!(
                "plugins[0].{key}: the fact 'x' is not what is wanted here; it must be {want}"
            );
            assert!(said.len() == 1 && said[0].starts_with(&begin), "{said:?}");
        }
    }
}
