//! Merges the operator's file over the built-in profile.
//!
//! - Mappings are merged key by key. Everything else is replaced.
//! - `null` removes a key of the profile.
//! - `artifacts` are merged by name. If the file gives an artifact another version, the profile's pins of it are
//!   dropped.
//! - `network.conflist` is replaced as a whole.

use super::location::TextSource;
use super::yaml::{Yaml, YamlNode};

/// Merges the file over the profile. Each value keeps the location where it was written.
pub(super) fn merge_over(below: &mut YamlNode, above: YamlNode) {
    match (&mut below.value, above.value) {
        (Yaml::Map(entries), Yaml::Map(above)) if below.at.path != "network.conflist" => {
            for (key, node) in above {
                match entries.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, slot)) => merge_over(slot, node),
                    None => entries.push((key, node)),
                }
            }
        }
        (Yaml::List(items), Yaml::List(above)) if below.at.path == "artifacts" => {
            for artifact in above {
                merge_artifact(items, artifact);
            }
        }
        (slot, value) => *slot = value,
    }
    below.at = above.at;
}

/// An artifact with the same name as one of the profile changes that artifact. Any other is added at the end.
fn merge_artifact(artifacts: &mut Vec<YamlNode>, above: YamlNode) {
    let name = text_of(&above, "name");
    let slot = artifacts.iter_mut().find(|below| {
        // Only an artifact that comes from the profile: a second one of the same name in the file is a mistake that is
        // reported later.
        below.at.source == TextSource::Profile && name.is_some() && text_of(below, "name") == name
    });
    match slot {
        Some(slot) => {
            drop_stale_pins(slot, &above);
            merge_over(slot, above);
        }
        None => artifacts.push(above),
    }
}

/// The text under a key, with quotes or without.
fn text_of<'a>(artifact: &'a YamlNode, key: &str) -> Option<&'a str> {
    match &artifact.get(key)?.value {
        Yaml::Text { text, .. } => Some(text),
        _ => None,
    }
}

/// Removes the profile's pins that the file replaces. A pin belongs to one version, and an architecture has one pin.
fn drop_stale_pins(below: &mut YamlNode, above: &YamlNode) {
    let new_version =
        above.get("version").is_some() && text_of(above, "version") != text_of(below, "version");
    let Yaml::Map(entries) = &mut below.value else {
        return;
    };
    entries.retain_mut(|(key, node)| {
        let other = match key.as_str() {
            "sha256" => above.get("sha512"),
            "sha512" => above.get("sha256"),
            _ => return true,
        };
        match &mut node.value {
            Yaml::Map(pins) => {
                if let Some(other) = other {
                    pins.retain(|(arch, _)| other.get(arch).is_none());
                }
                !new_version
            }
            // This is not a pin but the request to fill one in, which holds for any version.
            _ => other.is_none(),
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::config_value::ConfigValue;
    use crate::config::error::Problems;
    use crate::config::yaml::parse_yaml;

    fn merged(profile: &str, file: &str) -> serde_json::Value {
        let mut merged = parse_yaml(profile, TextSource::Profile).unwrap();
        merge_over(&mut merged, parse_yaml(file, TextSource::File).unwrap());
        ConfigValue::new(&merged, &Problems::default()).to_json()
    }

    #[test]
    fn mappings_merge_deep_and_all_else_is_replaced() {
        assert_eq!(
            merged(
                "a: {b: {c: 1, d: [1, 2]}, e: 5}\nf: {g: 1}",
                "a: {b: {d: [3]}, e: {x: 1}}\nf: null\nh: 2"
            ),
            json!({"a": {"b": {"c": 1, "d": [3]}, "e": {"x": 1}}, "f": null, "h": 2})
        );
    }

    #[test]
    fn the_conflist_is_replaced_whole() {
        assert_eq!(
            merged(
                "network: {fileName: a, conflist: {name: x, plugins: []}}",
                "network: {conflist: {name: y}}"
            ),
            json!({"network": {"fileName": "a", "conflist": {"name": "y"}}})
        );
    }

    #[test]
    fn an_artifact_of_the_same_name_is_changed_and_another_is_added() {
        assert_eq!(
            merged(
                "artifacts: [{name: p, version: v1, sources: [a], sha256: {amd64: 'x', arm64: 'y'}}]",
                "artifacts: [{name: q}, {name: p, sources: [m]}, {name: p, sources: [n]}]"
            ),
            json!({"artifacts": [
                {"name": "p", "version": "v1", "sources": ["m"], "sha256": {"amd64": "x", "arm64": "y"}},
                {"name": "q"},
                {"name": "p", "sources": ["n"]},
            ]})
        );
    }

    #[test]
    fn another_version_does_not_inherit_the_pins() {
        let profile = "artifacts: [{name: p, version: v1, sha256: {amd64: 'x', arm64: 'y'}}]";
        assert_eq!(
            merged(
                profile,
                "artifacts: [{name: p, version: v2, sha256: {amd64: 'z'}}]"
            ),
            json!({"artifacts": [{"name": "p", "version": "v2", "sha256": {"amd64": "z"}}]})
        );
        assert_eq!(
            merged(
                profile,
                "artifacts: [{name: p, version: v1, sha256: {amd64: 'z'}}]"
            ),
            json!({"artifacts": [{"name": "p", "version": "v1", "sha256": {"amd64": "z", "arm64": "y"}}]})
        );
    }

    #[test]
    fn quotes_make_no_other_artifact_and_no_other_version() {
        assert_eq!(
            merged(
                "artifacts: [{name: p, version: v1, sha256: {amd64: 'x'}}]",
                r#"{"artifacts": [{"name": "p", "version": "v1", "sources": ["m"]}]}"#
            ),
            json!({"artifacts": [{"name": "p", "version": "v1", "sha256": {"amd64": "x"}, "sources": ["m"]}]})
        );
    }

    /// A profile of a plugin without public pins asks for one, until one is given.
    #[test]
    fn a_request_for_a_pin_stays_until_there_is_one() {
        let profile = "artifacts: [{name: p, version: v1, sha256: 'FILL-IN: it'}]";
        assert_eq!(
            merged(profile, "artifacts: [{name: p, version: v2}]"),
            json!({"artifacts": [{"name": "p", "version": "v2", "sha256": "FILL-IN: it"}]})
        );
        for algorithm in ["sha256", "sha512"] {
            assert_eq!(
                merged(
                    profile,
                    &format!("artifacts: [{{name: p, {algorithm}: {{amd64: 'x'}}}}]")
                ),
                json!({"artifacts": [{"name": "p", "version": "v1", algorithm: {"amd64": "x"}}]})
            );
        }
    }

    #[test]
    fn another_algorithm_takes_the_place_of_the_old_pin() {
        assert_eq!(
            merged(
                "artifacts: [{name: p, sha256: {amd64: 'x', arm64: 'y'}}]",
                "artifacts: [{name: p, sha512: {amd64: 'z'}}]"
            ),
            json!({"artifacts": [{"name": "p", "sha256": {"arm64": "y"}, "sha512": {"amd64": "z"}}]})
        );
    }
}
