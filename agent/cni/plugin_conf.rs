//! Decodes one plugin of the chain as libcni decodes it into its `PluginConf`.

use std::collections::BTreeMap;

use super::json_tree::{Json, element_path, fold_key, member_path};

/// The part of a plugin's configuration that libcni reads. Only the plugin itself reads the rest.
#[derive(Debug, Default)]
pub(super) struct DecodedPlugin {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) cni_version: String,
    pub(super) capabilities: BTreeMap<String, bool>,
    pub(super) ipam: String,
    /// Values of a type that makes Go refuse the configuration.
    pub(super) wrong_types: Vec<WrongType>,
}

/// A value of the wrong JSON type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongType {
    /// Where, as in `plugins[1].ipam`; empty for the whole document.
    pub at: String,
    /// What is there.
    pub got: &'static str,
    /// What should be there.
    pub want: &'static str,
}

/// The order in which Go reads an object's keys. It decides which of two spellings of one field counts: Go ignores the
/// case of a field's name, and each value overwrites the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// For a plugin of a conflist: libcni reads it into a map and writes it again, sorted and without duplicates.
    Sorted,
    /// For a `.conf` file: in the order written.
    Written,
}

/// The fields whose case libcni ignores.
pub(super) const FIELDS: [&str; 8] = [
    "cniVersion",
    "name",
    "type",
    "capabilities",
    "ipam",
    "dns",
    "prevResult",
    ATTACHMENTS,
];

/// A field since libcni 1.2.
const ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// Decodes the plugin's configuration at the path `at`. With `attachments`, it reads the field that libcni 1.2 added.
pub(super) fn decode_plugin(
    value: &Json,
    at: &str,
    order: Order,
    attachments: bool,
) -> DecodedPlugin {
    let mut decoder = Decoder {
        order,
        wrong_types: Vec::new(),
    };
    let mut plugin = DecodedPlugin::default();
    for (key, at, value) in decoder.fields_in_order(value, at) {
        match fold_key(key).as_str() {
            "cniversion" => decoder.read_string(value, &at, &mut plugin.cni_version),
            "name" => decoder.read_string(value, &at, &mut plugin.name),
            "type" => decoder.read_string(value, &at, &mut plugin.kind),
            "capabilities" => decoder.read_capabilities(value, &at, &mut plugin.capabilities),
            "ipam" => {
                for (key, at, value) in decoder.fields_in_order(value, &at) {
                    if fold_key(key) == "type" {
                        decoder.read_string(value, &at, &mut plugin.ipam);
                    }
                }
            }
            "dns" => decoder.read_dns(value, &at),
            "prevresult" => {
                decoder.fields_in_order(value, &at);
            }
            ATTACHMENTS if attachments => decoder.read_attachments(value, &at),
            _ => {}
        }
    }
    plugin.wrong_types = decoder.wrong_types;
    plugin
}

struct Decoder {
    order: Order,
    wrong_types: Vec<WrongType>,
}

impl Decoder {
    /// An object's members as (key, path, value) in the order in which Go reads them.
    fn fields_in_order<'a>(
        &mut self,
        value: &'a Json,
        at: &str,
    ) -> Vec<(&'a str, String, &'a Json)> {
        let Some(members) = value.as_object() else {
            self.refuse_unless_null(value, at, "an object");
            return Vec::new();
        };
        let found = |(key, value): (&'a str, &'a Json)| (key, member_path(at, key), value);
        let written = members.iter().map(|(key, value)| (key.as_str(), value));
        match self.order {
            Order::Written => written.map(found).collect(),
            Order::Sorted => {
                let last_of_each: BTreeMap<_, _> = written.collect();
                last_of_each.into_iter().map(found).collect()
            }
        }
    }

    /// Notes a value of the wrong type. Null is accepted, because it leaves a Go value unchanged.
    fn refuse_unless_null(&mut self, value: &Json, at: &str, want: &'static str) {
        if *value != Json::Null {
            self.wrong_types.push(WrongType {
                at: at.to_owned(),
                got: value.type_name(),
                want,
            });
        }
    }

    fn read_string(&mut self, value: &Json, at: &str, field: &mut String) {
        match value.as_text() {
            Some(text) => text.clone_into(field),
            None => self.refuse_unless_null(value, at, "a string"),
        }
    }

    fn read_list<'a>(&mut self, value: &'a Json, at: &str) -> &'a [Json] {
        value.as_list().unwrap_or_else(|| {
            self.refuse_unless_null(value, at, "a list");
            &[]
        })
    }

    fn read_capabilities(&mut self, value: &Json, at: &str, field: &mut BTreeMap<String, bool>) {
        if *value == Json::Null {
            field.clear();
        }
        // These are the keys of a map and not the fields of a struct, so their case counts.
        for (key, at, value) in self.fields_in_order(value, at) {
            field.insert(key.to_owned(), *value == Json::Bool(true));
            if !matches!(value, Json::Bool(_)) {
                self.refuse_unless_null(value, &at, "a boolean");
            }
        }
    }

    fn read_dns(&mut self, value: &Json, at: &str) {
        for (key, at, value) in self.fields_in_order(value, at) {
            match fold_key(key).as_str() {
                "domain" => self.read_string(value, &at, &mut String::new()),
                "nameservers" | "search" | "options" => {
                    for (index, value) in self.read_list(value, &at).iter().enumerate() {
                        self.read_string(value, &element_path(&at, index), &mut String::new());
                    }
                }
                _ => {}
            }
        }
    }

    fn read_attachments(&mut self, value: &Json, at: &str) {
        for (index, value) in self.read_list(value, at).iter().enumerate() {
            for (key, at, value) in self.fields_in_order(value, &element_path(at, index)) {
                if let "containerid" | "ifname" = fold_key(key).as_str() {
                    self.read_string(value, &at, &mut String::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::parse::parse_json;

    fn decoded(text: &str, order: Order) -> DecodedPlugin {
        decode_plugin(&parse_json(text.as_bytes()).unwrap().root, "p", order, true)
    }

    #[test]
    fn in_a_conflist_the_lower_case_spelling_wins() {
        let text = r#"{"type": "a", "Type": "b"}"#;
        assert_eq!(decoded(text, Order::Sorted).kind, "a");
        assert_eq!(decoded(text, Order::Written).kind, "b");
        assert_eq!(
            decoded(r#"{"type": null, "TYPE": "b"}"#, Order::Sorted).kind,
            "b"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let plugin = decoded(
            r#"{"type": 1, "dnſ": {"search": ["a", 2]}, "capabilities": {"x": "yes"},
                "prevResult": [], "ipam": {"TYPE": {}}, "mtu": "any",
                "cni.dev/valid-attachments": [{"ifname": 1}]}"#,
            Order::Sorted,
        );
        let at: Vec<_> = plugin
            .wrong_types
            .iter()
            .map(|wrong_type| wrong_type.at.as_str())
            .collect();
        assert_eq!(
            at,
            [
                "p.capabilities.x",
                "p.cni.dev/valid-attachments[0].ifname",
                "p.dnſ.search[1]",
                "p.ipam.TYPE",
                "p.prevResult",
                "p.type"
            ]
        );
        assert!(
            decoded(
                r#"{"type": "a", "dns": null, "ipam": null, "capabilities": {"x": null}}"#,
                Order::Sorted
            )
            .wrong_types
            .is_empty()
        );
    }
}
