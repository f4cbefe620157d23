//! Rules about several keys of a plugin, as data: a rule is broken where all of its conditions hold.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::json_tree::member_path;
use super::placeholder::has_placeholder;
use super::validate::{Finding, Severity};
use super::value_forms::LONGEST_LINK_NAME;
use super::wanted_value::{KnownKeys, get};

/// What is known of a plugin.
#[derive(Debug)]
pub(super) struct ReferencePlugin {
    pub(super) name: &'static str,
    /// What it reads itself.
    pub(super) keys: KnownKeys,
    pub(super) rules: &'static [Rule],
}

/// A rule about several keys. `at` is the key at which it is told; empty for the plugin itself.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) broken_if: &'static [Condition],
    pub(super) at: &'static str,
    pub(super) problem: &'static str,
    pub(super) fix: &'static str,
    pub(super) severity: Severity,
}

/// What can be asked of a plugin's configuration. A key can be a path, such as `ipam.type`; its case does not matter.
#[derive(Debug)]
pub(super) enum Condition {
    /// The plugin is called before all others, so that there is no result of an earlier one.
    IsFirst,
    /// The key is there, whatever its value.
    IsThere(&'static str),
    /// It has a value, and that is not null.
    IsGiven(&'static str),
    /// It has a value that is not null, false, zero or empty.
    IsSet(&'static str),
    /// The contrary.
    IsNotSet(&'static str),
    IsNotGiven(&'static str),
    /// One of these is set.
    AnyIsSet(&'static [&'static str]),
    /// It is given, and none of these.
    IsNoneOf(&'static str, &'static [&'static str]),
    /// It is exactly this text.
    Equals(&'static str, &'static str),
    /// It is a path that does not begin at the root.
    IsRelative(&'static str),
    /// The list's first text begins with a character of these, or, if not `really`, with another one.
    Begins {
        key: &'static str,
        with: &'static str,
        really: bool,
    },
    /// The first number is greater than the second.
    IsGreater(&'static str, &'static str),
    /// The name of the bridge, a dot and the number of the VLAN are too long for the name of an interface.
    HasLongVlanName,
    /// Both are set, and the burst, in bits, is sent in less than a microsecond at this rate, in bits a second. The plugin
    /// then asks the kernel for a buffer of no size. It counts in whole bytes.
    IsShortBurst {
        rate: &'static str,
        burst: &'static str,
    },
    /// The list has a text that is no address.
    HasNoAddress(&'static str),
    /// The list has two addresses of one family.
    HasTwoOfAFamily(&'static str),
}

/// A rule without which every ADD fails.
pub(super) const fn refuse(
    broken_if: &'static [Condition],
    at: &'static str,
    problem: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        broken_if,
        at,
        problem,
        fix,
        severity: Severity::Error,
    }
}

/// A rule without which the plugin does something else than was probably meant.
pub(super) const fn warn(
    broken_if: &'static [Condition],
    at: &'static str,
    problem: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        severity: Severity::Warning,
        ..refuse(broken_if, at, problem, fix)
    }
}

/// The backends of the firewall that plugins know.
pub(super) const BACKENDS: &[&str] = &["iptables", "nftables"];

/// What a rule is asked about.
#[derive(Clone, Copy)]
pub(super) struct PluginPlace<'a> {
    pub(super) members: &'a Map<String, Value>,
    pub(super) at: &'a str,
    pub(super) is_first: bool,
}

/// The rules that are broken. A rule about a value that is not known yet is not judged.
pub(super) fn list_broken_rules(rules: &[Rule], place: PluginPlace<'_>) -> Vec<Finding> {
    let is_broken = |rule: &&Rule| {
        let conditions = rule.broken_if.iter();
        conditions
            .map(|condition| condition.holds(place))
            .try_fold(true, |all, holds| match (all, holds) {
                // One that does not hold decides, whatever the unknown ones will be.
                (_, Some(false)) => Err(false),
                (all, Some(true)) => Ok(all),
                (_, None) => Ok(false),
            })
            .unwrap_or(false)
    };
    let findings = rules.iter().filter(is_broken).map(|rule| Finding {
        severity: rule.severity,
        ..Finding::error(
            if rule.at.is_empty() {
                place.at.to_owned()
            } else {
                member_path(place.at, rule.at)
            },
            rule.problem,
            rule.fix,
        )
    });
    findings.collect()
}

/// The value at a path of keys.
fn find<'a>(members: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => get(members, path).map(|(_, value)| value),
        Some((key, rest)) => match get(members, key)?.1 {
            Value::Object(members) => find(members, rest),
            // A placeholder for the whole object.
            text @ Value::String(_) => Some(text),
            _ => None,
        },
    }
}

fn is_open(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(has_placeholder)
}

fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(elements)) => !elements.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
    }
}

impl Condition {
    /// None if it depends on a value that is not known yet.
    fn holds(&self, place: PluginPlace<'_>) -> Option<bool> {
        let value = |key: &str| find(place.members, key);
        let known = |key: &str| Some(value(key)).filter(|value| !is_open(*value));
        Some(match self {
            Self::IsFirst => place.is_first,
            Self::IsThere(key) => value(key).is_some(),
            Self::IsGiven(key) => known(key)?.is_some_and(|value| !value.is_null()),
            Self::IsNotGiven(key) => known(key)?.is_none_or(Value::is_null),
            Self::IsSet(key) => is_set(known(key)?),
            Self::IsNotSet(key) => !is_set(known(key)?),
            Self::AnyIsSet(keys) => {
                let known: Option<Vec<_>> = keys.iter().map(|key| known(key)).collect();
                known?.into_iter().any(is_set)
            }
            Self::IsNoneOf(key, words) => known(key)?
                .and_then(Value::as_str)
                .is_some_and(|text| !words.contains(&text)),
            Self::Equals(key, text) => known(key)?.and_then(Value::as_str) == Some(text),
            Self::IsRelative(key) => known(key)?
                .and_then(Value::as_str)
                .is_some_and(|path| !path.is_empty() && !path.starts_with('/')),
            Self::Begins { key, with, really } => {
                let first = known(key)?
                    .and_then(Value::as_array)
                    .and_then(|list| list.first());
                known_text(first)?
                    .and_then(|text| text.chars().next())
                    .is_some_and(|first| with.contains(first) == *really)
            }
            Self::IsGreater(one, other) => {
                let number = |key| Some(known(key)?.and_then(Value::as_f64));
                matches!((number(one)?, number(other)?), (Some(one), Some(other)) if one > other)
            }
            Self::HasLongVlanName => {
                let vlan = known("vlan")?.and_then(Value::as_u64).unwrap_or_default();
                let bridge = known("bridge")?.and_then(Value::as_str).unwrap_or("cni0");
                format!("{bridge}.{vlan}").len() > LONGEST_LINK_NAME
            }
            Self::IsShortBurst { rate, burst } => {
                let bytes = |key| {
                    let bits = known(key)?.and_then(Value::as_f64);
                    Some(
                        bits.filter(|bits| *bits > 0.0)
                            .map(|bits| (bits / 8.0).floor()),
                    )
                };
                match (bytes(rate)?, bytes(burst)?) {
                    (Some(rate), Some(burst)) => rate == 0.0 || burst * 1e6 < rate,
                    _ => false,
                }
            }
            Self::HasNoAddress(key) => {
                let mut listed = known(key)?.and_then(Value::as_array).into_iter().flatten();
                listed.any(|one| {
                    let text = one.as_str().unwrap_or_default();
                    !has_placeholder(text) && text.parse::<IpAddr>().is_err()
                })
            }
            Self::HasTwoOfAFamily(key) => {
                let listed = known(key)?.and_then(Value::as_array).into_iter().flatten();
                let texts: Option<Vec<_>> = listed.map(|one| known_text(Some(one))).collect();
                let of_ipv6 = |text: &&str| text.contains(':') && !text.contains('.');
                let texts: Vec<&str> = texts?.into_iter().flatten().collect();
                let six = texts.iter().filter(|text| of_ipv6(text)).count();
                six > 1 || texts.len() - six > 1
            }
        })
    }
}

/// The text; none of none; nothing at all if it is not known yet.
fn known_text(value: Option<&Value>) -> Option<Option<&str>> {
    (!is_open(value)).then(|| value.and_then(Value::as_str))
}
