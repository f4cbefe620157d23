//! `mirrors`: other places for what a source's address begins with.

use std::cell::Cell;

use url::Url;

use super::error::Problems;
use super::source::check_source;
use super::tree::Node;
use crate::model::Reference;

/// The rules of a configuration.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<Mirror>);

/// One rule. Prefixes have no slash at their end.
#[derive(Debug)]
struct Mirror {
    from: String,
    to: Vec<String>,
    only: bool,
    /// Whether a source begins with it.
    is_used: Cell<bool>,
}

/// Reads the whole list, and notes every mistake.
pub(super) fn mirrors(node: &Node, problems: &mut Problems) -> Option<Mirrors> {
    let before = problems.count();
    let mut rules: Vec<Mirror> = Vec::new();
    for item in node.items(problems)? {
        let Some(rule) = mirror(item, problems) else {
            continue;
        };
        if rules.iter().any(|other| other.from == rule.from) {
            let at = item.get("from").map_or(&item.at, |from| &from.at);
            problems.add(
                at,
                "a second rule for this prefix; put all its mirrors into one",
            );
        }
        rules.push(rule);
    }
    (problems.count() == before).then_some(Mirrors(rules))
}

fn mirror(node: &Node, problems: &mut Problems) -> Option<Mirror> {
    let fields = node.fields(&["from", "to", "only"], problems)?;
    let mend = "write what the sources begin with, such as https://github.com/";
    let from_node = fields.require("from", mend, problems);
    let from = from_node.and_then(|node| prefix(node, problems));
    let from = from.map(|from| normal(&from).trim_end_matches('/').to_owned());
    let mend = "list what takes its place, such as [https://mirror.example/github/]";
    let to = fields.require("to", mend, problems).and_then(|node| {
        node.at_least_one(mend, problems, |item, problems| {
            let to = prefix(item, problems)?;
            if let Some(from) = &from
                && is_registry(from) != is_registry(&to)
            {
                problems.add(
                    &item.at,
                    "an image is mirrored by a registry (oci://) and a file by anything else",
                );
            }
            Some(to)
        })
    });
    let only = match fields.get("only") {
        None => Some(false),
        Some(node) => node.flag(problems),
    };
    Some(Mirror {
        from: from?,
        to: to?,
        only: only?,
        is_used: Cell::new(false),
    })
}

/// A source's beginning: whole parts of it, up to a slash.
fn prefix(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = node.text(problems)?;
    let prefix = text.trim_end_matches('/');
    let checked = match prefix.strip_prefix("oci://") {
        // Whatever follows, it must be a reference then.
        Some(_) => format!("{prefix}/x@sha256:{}", "0".repeat(64))
            .parse::<Reference>()
            .map(drop)
            .map_err(|error| format!("{error}; a prefix is oci://HOST/ or oci://HOST/PATH/")),
        None if prefix.contains(['?', '#']) => {
            Err("a prefix ends before any ? or #; write scheme, host and path".to_owned())
        }
        None => check_source(prefix),
    };
    node.note(checked, problems)?;
    Some(prefix.to_owned())
}

/// An address as it is compared: one host is the same in capitals and with the port that it has anyway.
fn normal(address: &str) -> String {
    match is_registry(address) {
        // No part of a reference has capitals but the host, where they mean nothing.
        true => address.to_lowercase(),
        false => Url::parse(address).map_or_else(|_| address.to_owned(), String::from),
    }
}

fn is_registry(prefix: &str) -> bool {
    prefix.starts_with("oci://")
}

impl Mirrors {
    /// Every place to ask, in order: the mirrors of all sources, then the sources themselves unless a rule leaves
    /// them out. Of several rules that fit a source, the one with the longest prefix holds.
    pub(super) fn before(&self, sources: Vec<String>) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        let mut origins = Vec::new();
        for source in sources {
            let address = normal(&source);
            let rules = self.0.iter().filter_map(|rule| {
                let rest = address.strip_prefix(&rule.from)?;
                rest.starts_with(['/', '@']).then_some((rule, rest))
            });
            match rules.max_by_key(|(rule, _)| rule.from.len()) {
                None => origins.push(source),
                Some((rule, rest)) => {
                    rule.is_used.set(true);
                    places.extend(rule.to.iter().map(|to| format!("{to}{rest}")));
                    if !rule.only {
                        origins.push(source);
                    }
                }
            }
        }
        places.extend(origins);
        // One that is named twice would only be asked twice.
        let mut seen = std::collections::HashSet::new();
        places.retain(|place| seen.insert(place.clone()));
        places
    }
}

impl Mirrors {
    /// A sentence for each rule that no source begins with, once all sources were looked at: it may be there for
    /// another cluster, or have a slip.
    pub(super) fn unused(&self) -> Vec<String> {
        let rules = self.0.iter().filter(|rule| !rule.is_used.get());
        let sentence = |rule: &Mirror| {
            format!(
                "mirrors: no source begins with {}/; check the rule for a slip, or leave it out",
                rule.from
            )
        };
        rules.map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: &[&str], only: bool) -> Mirror {
        Mirror {
            from: from.to_owned(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
            only,
            is_used: Cell::new(false),
        }
    }

    fn before(rules: Vec<Mirror>, sources: &[&str]) -> Vec<String> {
        Mirrors(rules).before(sources.iter().map(|source| (*source).to_owned()).collect())
    }

    #[test]
    fn all_mirrors_go_before_all_origins() {
        let rules = vec![rule("https://a", &["https://m1/a", "file:///m2"], false)];
        assert_eq!(
            before(rules, &["https://b/x", "https://a/d/x"]),
            [
                "https://m1/a/d/x",
                "file:///m2/d/x",
                "https://b/x",
                "https://a/d/x"
            ]
        );
    }

    #[test]
    fn the_longest_prefix_of_whole_parts_holds() {
        let rules = || {
            vec![
                rule("https://a", &["https://m"], false),
                rule("https://a/b", &["https://n"], true),
            ]
        };
        assert_eq!(before(rules(), &["https://a/b/x"]), ["https://n/x"]);
        assert_eq!(
            before(rules(), &["https://a/bc/x"]),
            ["https://m/bc/x", "https://a/bc/x"]
        );
        assert_eq!(
            before(rules(), &["https://a.example/x"]),
            ["https://a.example/x"]
        );
    }

    #[test]
    fn capitals_and_usual_ports_are_the_same_host_and_a_rule_for_nothing_is_told() {
        let rules = Mirrors(vec![
            rule("https://a", &["https://m"], true),
            rule("https://b", &["https://m"], true),
        ]);
        let places = rules.before(vec!["https://A:443/X".to_owned()]);
        assert_eq!(places, ["https://m/X"]);
        let [unused] = &rules.unused()[..] else {
            panic!("{:?}", rules.unused());
        };
        assert!(
            unused.contains("no source begins with https://b/"),
            "{unused}"
        );
    }

    #[test]
    fn a_repository_is_a_whole_part_too_and_nobody_is_asked_twice() {
        let rules = vec![rule("oci://r/calico/cni", &["oci://m/cni"], false)];
        assert_eq!(
            before(
                rules,
                &["oci://r/calico/cni@sha256:1", "oci://m/cni@sha256:1"]
            ),
            ["oci://m/cni@sha256:1", "oci://r/calico/cni@sha256:1"]
        );
    }
}
