//! One plugin of the chain, decoded as libcni decodes it into its `PluginConf`.

use std::collections::BTreeMap;

use super::json::{Json, element, fold, member};

/// What libcni reads of a plugin's configuration; everything else is the plugin's own business.
#[derive(Debug, Default)]
pub(super) struct Plugin {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) cni_version: String,
    pub(super) capabilities: BTreeMap<String, bool>,
    pub(super) ipam: String,
    /// Values of a type that makes Go refuse the configuration.
    pub(super) misfits: Vec<Misfit>,
}

/// A value of the wrong JSON type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) at: String,
    pub(super) got: &'static str,
    pub(super) want: &'static str,
}

/// The order in which Go comes by an object's keys, which decides who wins where two spellings of one
/// field meet: they are matched without regard to case, and each overwrites the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A plugin of a conflist: read into a map and written out again, so sorted and without duplicates.
    Sorted,
    /// A `.conf` file: as it stands.
    Written,
}

/// The fields that libcni matches without regard to case.
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

/// Decodes a plugin's configuration that stands at the path `at`; `attachments` is for libcni ≥ 1.2,
/// which knows one field more.
pub(super) fn decode(value: &Json, at: &str, order: Order, attachments: bool) -> Plugin {
    let mut decoder = Decoder {
        order,
        misfits: Vec::new(),
    };
    let mut plugin = Plugin::default();
    for (key, at, value) in decoder.fields(value, at) {
        match fold(key).as_str() {
            "cniversion" => decoder.string(value, &at, &mut plugin.cni_version),
            "name" => decoder.string(value, &at, &mut plugin.name),
            "type" => decoder.string(value, &at, &mut plugin.kind),
            "capabilities" => decoder.capabilities(value, &at, &mut plugin.capabilities),
            "ipam" => {
                for (key, at, value) in decoder.fields(value, &at) {
                    if fold(key) == "type" {
                        decoder.string(value, &at, &mut plugin.ipam);
                    }
                }
            }
            "dns" => decoder.dns(value, &at),
            "prevresult" => {
                decoder.fields(value, &at);
            }
            ATTACHMENTS if attachments => decoder.attachments(value, &at),
            _ => {}
        }
    }
    plugin.misfits = decoder.misfits;
    plugin
}

struct Decoder {
    order: Order,
    misfits: Vec<Misfit>,
}

impl Decoder {
    /// An object's members as (key, path, value) in the order in which Go meets them.
    fn fields<'a>(&mut self, value: &'a Json, at: &str) -> Vec<(&'a str, String, &'a Json)> {
        let Some(members) = value.members() else {
            self.unless_null(value, at, "an object");
            return Vec::new();
        };
        let found = |(key, value): (&'a str, &'a Json)| (key, member(at, key), value);
        let written = members.iter().map(|(key, value)| (key.as_str(), value));
        match self.order {
            Order::Written => written.map(found).collect(),
            Order::Sorted => {
                let last_of_each: BTreeMap<_, _> = written.collect();
                last_of_each.into_iter().map(found).collect()
            }
        }
    }

    /// Null leaves a Go value as it is.
    fn unless_null(&mut self, value: &Json, at: &str, want: &'static str) {
        if *value != Json::Null {
            self.misfits.push(Misfit {
                at: at.to_owned(),
                got: value.kind(),
                want,
            });
        }
    }

    fn string(&mut self, value: &Json, at: &str, field: &mut String) {
        match value.text() {
            Some(text) => text.clone_into(field),
            None => self.unless_null(value, at, "a string"),
        }
    }

    fn elements<'a>(&mut self, value: &'a Json, at: &str) -> &'a [Json] {
        value.elements().unwrap_or_else(|| {
            self.unless_null(value, at, "a list");
            &[]
        })
    }

    fn capabilities(&mut self, value: &Json, at: &str, field: &mut BTreeMap<String, bool>) {
        if *value == Json::Null {
            field.clear();
        }
        // These are a map's keys, not a struct's fields: they are not folded.
        for (key, at, value) in self.fields(value, at) {
            field.insert(key.to_owned(), *value == Json::Bool(true));
            if !matches!(value, Json::Bool(_)) {
                self.unless_null(value, &at, "a boolean");
            }
        }
    }

    fn dns(&mut self, value: &Json, at: &str) {
        for (key, at, value) in self.fields(value, at) {
            match fold(key).as_str() {
                "domain" => self.string(value, &at, &mut String::new()),
                "nameservers" | "search" | "options" => {
                    for (index, value) in self.elements(value, &at).iter().enumerate() {
                        self.string(value, &element(&at, index), &mut String::new());
                    }
                }
                _ => {}
            }
        }
    }

    fn attachments(&mut self, value: &Json, at: &str) {
        for (index, value) in self.elements(value, at).iter().enumerate() {
            for (key, at, value) in self.fields(value, &element(at, index)) {
                if let "containerid" | "ifname" = fold(key).as_str() {
                    self.string(value, &at, &mut String::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::parse::parse;

    fn decoded(text: &str, order: Order) -> Plugin {
        decode(&parse(text.as_bytes()).unwrap().root, "p", order, true)
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
            .misfits
            .iter()
            .map(|misfit| misfit.at.as_str())
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
            .misfits
            .is_empty()
        );
    }
}
