//! What the value of a plugin's key has to be, and the check of it. The keys themselves are in `reference_plugins`.

use std::net::IpAddr;

use serde_json::{Map, Number, Value};

use super::json_tree::{Json, element_path, fold_key, member_path};
use super::placeholder::has_placeholder;
use super::validate::{Finding, Severity};
use super::value_forms::{
    LONGEST_LINK_NAME, as_go_integer, is_chain_name, is_dhcp_option, is_link_name, is_mac,
    is_mac_with_colons, is_net_sysctl,
};
use crate::model::{Cidr, nearest_word};

/// How the values of `subnet` begin that calico replaces itself (`usePodCidr`, `usePodCidrIPv6`).
pub(super) const POD_CIDR: &str = "usePodCidr";

/// What a value has to be. Null is as good as no value, unless it is said here.
#[derive(Debug, Clone, Copy)]
pub(super) enum WantedValue {
    /// The plugin does not read it, or another check reads it.
    Any,
    Flag,
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    Integer {
        least: i128,
        most: i128,
    },
    /// Of a link: zero for the kernel's own, or from 68 to 65535; the plugin ignores a negative one if `or_negative`.
    Mtu {
        or_negative: bool,
        most: i128,
    },
    /// The name that a new interface gets.
    LinkName,
    /// The address of a network card.
    Mac,
    /// The same, with colons only.
    ColonMac,
    /// The name of a chain of iptables; empty is none.
    ChainName,
    Address,
    /// An address with the length of its prefix; null is none.
    Prefixed,
    /// A range of addresses; null is none.
    Subnet,
    /// The number or the name of a DHCP option; it can be empty if `or_empty`.
    DhcpOption {
        or_empty: bool,
    },
    /// An object of texts, each with the name of a kernel parameter of the network.
    Sysctls,
    Object(KnownKeys),
    /// An object in which a runtime or another program may put more.
    Open(KnownKeys),
    List(&'static WantedValue),
}

/// The keys that a plugin reads in an object. Go takes a key that is written exactly so, else ignores its case.
///
/// If the first value is a [`WantedValue::Subnet`] or a [`WantedValue::Prefixed`], it has to be there.
pub(super) type KnownKeys = &'static [(&'static str, WantedValue)];

/// Any value of Go's `int`.
pub(super) const INT: WantedValue = WantedValue::Integer {
    least: i64::MIN as i128,
    most: i64::MAX as i128,
};

/// The largest MTU that the kernel gives an interface.
pub(super) const LARGEST_MTU: i128 = 65535;

/// Any value of Go's `uint32`.
pub(super) const UINT32: WantedValue = WantedValue::Integer {
    least: 0,
    most: u32::MAX as i128,
};

/// Any value of Go's `uint64`.
pub(super) const UINT64: WantedValue = WantedValue::Integer {
    least: 0,
    most: u64::MAX as i128,
};

/// A burst in bits; more would be 4 GB.
pub(super) const BURST: WantedValue = WantedValue::Integer {
    least: 0,
    most: 8 * u32::MAX as i128 - 1,
};

/// An integer within these bounds.
pub(super) const fn from_to(least: i128, most: i128) -> WantedValue {
    WantedValue::Integer { least, most }
}

/// What a runtime puts into `runtimeConfig` for the capability `mac`.
pub(super) const MAC_CONFIG: WantedValue = WantedValue::Open(&[("mac", WantedValue::Mac)]);

impl WantedValue {
    /// With an article, for a message.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::Flag => "true or false, without quotes".to_owned(),
            Self::Text | Self::Sysctls => "a string".to_owned(),
            Self::OneOf(words) => format!("one of {}", join_words(words)),
            Self::Integer { least, most } if most > 1 << 60 => match least {
                0 => "an integer from 0 on".to_owned(),
                _ => "an integer".to_owned(),
            },
            Self::Integer { least, most } => format!("an integer from {least} to {most}"),
            Self::Mtu { most, .. } => format!("an integer from 68 to {most}, or 0"),
            Self::LinkName => {
                format!(
                    "a name of at most {LONGEST_LINK_NAME} bytes, without '/', ':', '%' and spaces"
                )
            }
            Self::Mac | Self::ColonMac => "one such as 02:00:00:00:00:01".to_owned(),
            Self::ChainName => {
                "a name of at most 28 bytes, without spaces, that does not begin with '-' or '!'"
                    .to_owned()
            }
            Self::Address => "an address such as 10.244.1.10".to_owned(),
            Self::Prefixed => "an address with its prefix, such as 10.244.1.10/24".to_owned(),
            Self::Subnet => "a range of addresses such as 10.244.1.0/24".to_owned(),
            Self::DhcpOption { .. } => {
                "a number from 0 to 255, or a name such as host-name".to_owned()
            }
            Self::Object(_) | Self::Open(_) => "an object".to_owned(),
            Self::List(Self::List(_)) => "a list of lists: [[{\"subnet\": …}]]".to_owned(),
            Self::List(_) => "a list".to_owned(),
        }
    }
}

fn join_words(words: &[&str]) -> String {
    let named = words.iter().filter(|word| !word.is_empty());
    named.copied().collect::<Vec<_>>().join(", ")
}

/// The value that a plugin reads at this key; of several spellings the one that Go reads last.
pub(super) fn get<'a>(
    members: &'a Map<String, Value>,
    name: &str,
) -> Option<(&'a String, &'a Value)> {
    let same = |(key, _): &(&String, _)| fold_key(key) == fold_key(name);
    members.iter().filter(same).max_by_key(|(key, _)| *key)
}

/// What the plugin reads at this key.
pub(super) fn find_key(known: KnownKeys, key: &str) -> Option<(&'static str, WantedValue)> {
    let exact = known.iter().find(|(name, _)| *name == key);
    exact
        .or_else(|| {
            known
                .iter()
                .find(|(name, _)| fold_key(name) == fold_key(key))
        })
        .copied()
}

/// Checks values one by one, for the plugin that reads them.
pub(super) struct ValueCheck<'a> {
    pub(super) plugin: &'a str,
    /// `usePodCidr` is taken for a range.
    pub(super) takes_pod_cidr: bool,
    pub(super) findings: Vec<Finding>,
    /// A value is not known yet.
    pub(super) is_open: bool,
}

impl<'a> ValueCheck<'a> {
    pub(super) fn of(plugin: &'a str) -> Self {
        Self {
            plugin,
            takes_pod_cidr: false,
            findings: Vec::new(),
            is_open: false,
        }
    }

    fn error(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding::error(at, problem, fix));
    }

    fn warning(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            ..Finding::error(at, problem, fix)
        });
    }

    /// Checks an object's values, and names the keys that are in no table, unless the object `is_open`.
    pub(super) fn check_members(
        &mut self,
        members: &Map<String, Value>,
        at: &str,
        known: &[KnownKeys],
        is_open: bool,
    ) {
        for (key, value) in members {
            let here = member_path(at, key);
            match known.iter().find_map(|known| find_key(known, key)) {
                Some((name, want)) => {
                    // The spelling of what libcni reads as well is checked with the chain.
                    if !matches!(want, WantedValue::Any) {
                        self.check_spelling(members, key, name, &here);
                    }
                    self.check_value(value, &here, want);
                }
                None if !is_open => self.name_unknown_key(key, &here, known),
                None => {}
            }
        }
        if let [[(name, WantedValue::Subnet | WantedValue::Prefixed), ..]] = known
            && get(members, name).is_none()
        {
            self.error(
                at,
                format!("it has no {name}, which no ADD survives"),
                "add one such as 10.244.1.0/24",
            );
        }
    }

    fn check_spelling(&mut self, members: &Map<String, Value>, key: &str, name: &str, at: &str) {
        let other = |other: &&String| *other != key && fold_key(other) == fold_key(key);
        if let Some(other) = members.keys().find(other) {
            if key < other.as_str() {
                self.error(
                    at,
                    format!(
                        "it is also written as '{other}', and {} ignores case",
                        self.plugin
                    ),
                    format!("keep only '{name}'"),
                );
            }
        } else if key != name {
            self.warning(
                at,
                format!("not every reader accepts this spelling of '{name}'"),
                format!("write '{name}'"),
            );
        }
    }

    fn name_unknown_key(&mut self, key: &str, at: &str, known: &[KnownKeys]) {
        let names: Vec<&str> = known
            .iter()
            .copied()
            .flatten()
            .map(|(name, _)| *name)
            .collect();
        let fix = match nearest_word(key, &names) {
            Some(nearest) => format!("write '{nearest}' if that is meant, or remove it"),
            None => "remove it, unless another program reads it".to_owned(),
        };
        self.warning(at, format!("{} does not read it", self.plugin), fix);
    }

    pub(super) fn check_value(&mut self, value: &Value, at: &str, want: WantedValue) {
        match (want, value) {
            (WantedValue::Any, _) => {}
            (_, Value::String(text)) if has_placeholder(text) => self.is_open = true,
            (WantedValue::Subnet, Value::String(text))
                if self.takes_pod_cidr && text.starts_with(POD_CIDR) =>
            {
                self.is_open = true;
            }
            (WantedValue::Subnet | WantedValue::Prefixed, Value::Null) => {
                self.wrong_type(value, at, want);
            }
            (_, Value::Null) => {}
            (WantedValue::Flag, Value::Bool(_)) | (WantedValue::Text, Value::String(_)) => {}
            (_, Value::String(text)) => self.check_text(text, value, at, want),
            (_, Value::Number(number)) => self.check_number(number, value, at, want),
            (WantedValue::List(want), Value::Array(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    self.check_element(element, &element_path(at, index), *want);
                }
            }
            (WantedValue::Object(known), Value::Object(members)) => {
                self.check_members(members, at, &[known], false);
            }
            (WantedValue::Open(known), Value::Object(members)) => {
                self.check_members(members, at, &[known], true);
            }
            (WantedValue::Sysctls, Value::Object(members)) => self.check_sysctls(members, at),
            _ => self.wrong_type(value, at, want),
        }
    }

    /// A null, which is nothing elsewhere, is an empty object or text in a list, or crashes the plugin.
    fn check_element(&mut self, element: &Value, at: &str, want: WantedValue) {
        match (want, element) {
            (WantedValue::Text, _) => self.check_value(element, at, want),
            (_, Value::Null) => self.wrong_type(element, at, want),
            (WantedValue::Address, Value::String(text)) if text.is_empty() => {
                self.error(at, "it is empty", format!("write {}", want.describe()));
            }
            _ => self.check_value(element, at, want),
        }
    }

    fn wrong_type(&mut self, value: &Value, at: &str, want: WantedValue) {
        let want = match want {
            WantedValue::Sysctls => "an object of strings".to_owned(),
            other => other.describe(),
        };
        self.error(
            at,
            format!(
                "it is {}, which {} refuses",
                Json::from(value).type_name(),
                self.plugin
            ),
            format!("write {want}"),
        );
    }

    fn check_text(&mut self, text: &str, value: &Value, at: &str, want: WantedValue) {
        let problem = match want {
            WantedValue::OneOf(words) if !words.contains(&text) => {
                format!("'{text}' is none that {} knows", self.plugin)
            }
            WantedValue::LinkName if !is_link_name(text) => {
                format!("'{text}' cannot be the name of an interface")
            }
            WantedValue::Mac if !text.is_empty() && !is_mac(text) => {
                format!("'{text}' is no address that a network card can have")
            }
            WantedValue::ColonMac if !text.is_empty() && !is_mac_with_colons(text) => {
                format!("'{text}' is no address that a network card can have")
            }
            WantedValue::ChainName if !is_chain_name(text) => {
                format!("'{text}' cannot be the name of a chain")
            }
            WantedValue::Address if !text.is_empty() && text.parse::<IpAddr>().is_err() => {
                format!("'{text}' is not an address")
            }
            WantedValue::Prefixed if Cidr::parse_lenient(text).is_none() => {
                format!("'{text}' is not an address with a prefix")
            }
            WantedValue::Subnet if Cidr::parse_lenient(text).is_none() => {
                format!("'{text}' is not a range of addresses")
            }
            WantedValue::DhcpOption { or_empty } if !is_dhcp_option(text, or_empty) => {
                format!("'{text}' is no DHCP option that the plugin knows")
            }
            WantedValue::OneOf(_)
            | WantedValue::LinkName
            | WantedValue::Mac
            | WantedValue::ColonMac
            | WantedValue::ChainName
            | WantedValue::Address
            | WantedValue::Prefixed
            | WantedValue::Subnet
            | WantedValue::DhcpOption { .. } => return,
            _ => return self.wrong_type(value, at, want),
        };
        let fix = match want {
            WantedValue::Subnet => "write one such as 10.244.1.0/24".to_owned(),
            _ => format!("write {}", want.describe()),
        };
        self.error(at, problem, fix);
    }

    fn check_number(&mut self, number: &Number, value: &Value, at: &str, want: WantedValue) {
        let Some(integer) = as_go_integer(number) else {
            return match want {
                WantedValue::Integer { .. } | WantedValue::Mtu { .. } => self.error(
                    at,
                    format!("{number} is not an integer, which {} refuses", self.plugin),
                    format!("write {}", want.describe()),
                ),
                _ => self.wrong_type(value, at, want),
            };
        };
        let fits = match want {
            WantedValue::Integer { least, most } => (least..=most).contains(&integer),
            WantedValue::Mtu { or_negative, most } => {
                integer == 0 || (68..=most).contains(&integer) || (or_negative && integer < 0)
            }
            _ => return self.wrong_type(value, at, want),
        };
        if !fits {
            self.error(
                at,
                format!("{integer} is out of range, so every ADD fails"),
                format!("write {}", want.describe()),
            );
        }
    }

    fn check_sysctls(&mut self, members: &Map<String, Value>, at: &str) {
        for (key, value) in members {
            let at = member_path(at, key);
            self.check_value(value, &at, WantedValue::Text);
            if !is_net_sysctl(key) {
                self.error(
                    &at,
                    format!("{} sets only parameters below net.", self.plugin),
                    "write one such as net.core.somaxconn, or remove it",
                );
            }
        }
    }
}
