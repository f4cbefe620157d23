//! `mirrors`: other places to download from. A rule applies to the sources that begin with its prefix.

use std::cell::Cell;

use url::Url;

use super::config_value::ConfigValue;
use super::source_url::{check_source_url, is_image_source};
use crate::model::Reference;

/// The rules of a configuration.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<Mirror>);

/// One rule. Its prefixes do not end with a slash.
#[derive(Debug)]
struct Mirror {
    from: String,
    to: Vec<String>,
    only: bool,
    /// Whether a source begins with `from`.
    is_used: Cell<bool>,
}

/// Reads the whole list.
pub(super) fn read_mirrors(list: ConfigValue<'_>) -> Option<Mirrors> {
    let mut rules: Vec<Mirror> = Vec::new();
    for item in list.items()? {
        let Some(rule) = read_mirror(item) else {
            continue;
        };
        if rules.iter().any(|other| other.from == rule.from) {
            let what = "another rule has the same prefix; write all its mirrors into one rule";
            item.get("from").unwrap_or(item).note(what);
        }
        rules.push(rule);
    }
    Some(Mirrors(rules))
}

fn read_mirror(item: ConfigValue<'_>) -> Option<Mirror> {
    let fields = item.fields(&["from", "to", "only"])?;
    let fix = "write what the sources begin with, such as https://github.com/";
    let from = fields.require("from", fix).and_then(read_prefix);
    let from = from.map(|from| normalize_address(&from).trim_end_matches('/').to_owned());
    let fix = "list what takes its place, such as [https://mirror.example/github/]";
    let to = fields.require("to", fix).and_then(|list| {
        list.read_some_items(fix, |item| {
            let to = read_prefix(item)?;
            if let Some(from) = &from
                && is_image_source(from) != is_image_source(&to)
            {
                item.note(
                    "the mirror of an image must be a registry (oci://), and the mirror of a file must not be one",
                );
            }
            Some(to)
        })
    });
    let only = fields.read_or("only", false, ConfigValue::flag);
    Some(Mirror {
        from: from?,
        to: to?,
        only,
        is_used: Cell::new(false),
    })
}

/// Reads a prefix of sources. It ends at a slash, so that it covers whole parts of the path.
fn read_prefix(value: ConfigValue<'_>) -> Option<String> {
    let prefix = value.text()?.trim_end_matches('/');
    let checked = match prefix.strip_prefix("oci://") {
        // The prefix is valid if a reference that begins with it is valid.
        Some(_) => format!("{prefix}/x@sha256:{}", "0".repeat(64))
            .parse::<Reference>()
            .map(drop)
            .map_err(|error| format!("{error}; a prefix is oci://HOST/ or oci://HOST/PATH/")),
        None if prefix.contains(['?', '#']) => {
            Err("a prefix ends before any ? or #; write scheme, host and path".to_owned())
        }
        None => check_source_url(prefix),
    };
    value.accept(checked)?;
    Some(prefix.to_owned())
}

/// An address as it is compared: capitals in the host and the default port make no difference.
fn normalize_address(address: &str) -> String {
    match is_image_source(address) {
        // In a reference only the host may contain capitals, and they have no meaning there.
        true => address.to_lowercase(),
        false => Url::parse(address).map_or_else(|_| address.to_owned(), String::from),
    }
}

impl Mirrors {
    /// Every address to ask, in order: the mirrors of all sources, then the sources themselves unless their rule says
    /// `only`. If several rules fit a source, the one with the longest prefix applies.
    pub(super) fn place_before(&self, sources: Vec<String>) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        let mut origins = Vec::new();
        for source in sources {
            let address = normalize_address(&source);
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
        // No address is asked twice.
        let mut seen = std::collections::HashSet::new();
        places.retain(|place| seen.insert(place.clone()));
        places
    }

    /// A sentence for each rule that fits no source. Call it after all sources were read. Such a rule may be meant for
    /// another cluster, or have a typing error.
    pub(super) fn unused_rules(&self) -> Vec<String> {
        let rules = self.0.iter().filter(|rule| !rule.is_used.get());
        let sentence = |rule: &Mirror| {
            format!(
                "mirrors: no source begins with {}/; check the rule for a typing error, or remove it",
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
        Mirrors(rules).place_before(sources.iter().map(|source| (*source).to_owned()).collect())
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
    fn capitals_and_usual_ports_are_the_same_host_and_a_rule_for_nothing_is_reported() {
        let rules = Mirrors(vec![
            rule("https://a", &["https://m"], true),
            rule("https://b", &["https://m"], true),
        ]);
        let places = rules.place_before(vec!["https://A:443/X".to_owned()]);
        assert_eq!(places, ["https://m/X"]);
        let [unused] = &rules.unused_rules()[..] else {
            panic!("{:?}", rules.unused_rules());
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
