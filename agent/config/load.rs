//! Turns the text of a file into [`Settings`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalog::PROFILES;
use super::config_value::ConfigValue;
use super::error::{ConfigErrors, Problems, suggestion};
use super::fill_in::find_fill_ins;
use super::location::TextSource;
use super::merge::merge_over;
use super::overrides::Overrides;
use super::sections::read_settings;
use super::settings::Settings;
use super::yaml::{Yaml, YamlNode, parse_yaml};

/// A valid configuration, and the line of each of its values in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedConfig {
    /// The configuration.
    pub settings: Settings,
    /// The file that it was loaded from.
    pub file: PathBuf,
    lines: BTreeMap<String, u32>,
}

impl LoadedConfig {
    /// The line of a key path such as `network.conflist.plugins[1].type`. If the file does not have this key, the line
    /// of the nearest key above it. `None` if the file has neither, as for a section that comes from the profile.
    #[must_use]
    pub fn line_of(&self, path: &str) -> Option<u32> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Reads a configuration. The profile overrides built-in defaults, the file overrides the profile, and `overrides`
/// (from flags and environment) override the file.
///
/// `file` is only used in messages. No file is opened.
///
/// # Errors
/// All mistakes that were found, except:
/// - If values are still to be filled in, only those are listed.
/// - A file that is not YAML, or names an unknown profile, has only this one mistake, because all others would follow
///   from it.
pub fn load(text: &str, file: &Path, overrides: &Overrides) -> Result<LoadedConfig, ConfigErrors> {
    let tree =
        parse_yaml(text, TextSource::File).map_err(|problems| problems.into_errors(file, None))?;
    let problems = Problems::default();
    if tree.value == Yaml::Null {
        problems.add(
            &tree.at,
            "the file is empty; begin with apiVersion: cni-keeper/v1alpha1 and kind: NodeNetwork",
        );
        return Err(problems.into_errors(file, None));
    }
    let mut profile = None;
    let merged = match tree.get("profile").filter(|node| node.value != Yaml::Null) {
        None => Some(tree.clone()),
        Some(node) => {
            let value = ConfigValue::new(node, &problems);
            value.text().and_then(|name| {
                profile = Some((name.to_owned(), node.at.line));
                merge_over_profile(name, value, &tree)
            })
        }
    };
    let profile = profile.as_ref().map(|(name, line)| (&**name, *line));
    // A value that is still to be filled in cannot be valid, and further mistakes would only follow from it.
    let open = find_fill_ins(merged.as_ref().unwrap_or(&tree));
    if open.count() > 0 {
        return Err(open.into_errors(file, profile));
    }
    let settings = merged.and_then(|merged| read_settings(&merged, overrides, &problems));
    match settings {
        Some(settings) => Ok(LoadedConfig {
            settings,
            file: file.to_owned(),
            lines: collect_lines(&tree),
        }),
        None => Err(problems.into_errors(file, profile)),
    }
}

/// Merges the file over the profile that it names.
fn merge_over_profile(name: &str, value: ConfigValue<'_>, tree: &YamlNode) -> Option<YamlNode> {
    let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) else {
        let known = PROFILES.map(|profile| profile.name);
        let near = suggestion(name, &known);
        let known = known.join(", ");
        return value.reject(format!(
            "there is no profile '{name}'; the profiles are {known}{near}"
        ));
    };
    // A test parses every profile, so this is a fault of the program and not of the file.
    let Ok(mut merged) = parse_yaml(profile.text, TextSource::Profile) else {
        return value
            .reject("this profile of the program cannot be read; use another build of cni-keeper");
    };
    // The schema must be named in the file itself.
    if let Yaml::Map(entries) = &mut merged.value {
        entries.retain(|(key, _)| key != "apiVersion" && key != "kind");
    }
    merge_over(&mut merged, tree.clone());
    Some(merged)
}

/// The line of every key path of the file.
fn collect_lines(tree: &YamlNode) -> BTreeMap<String, u32> {
    let mut lines = BTreeMap::new();
    tree.for_each(&mut |node| {
        lines.insert(node.at.path.clone(), node.at.line);
    });
    lines
}
