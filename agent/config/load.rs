//! From the text of a file to [`Settings`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalog::PROFILES;
use super::error::{ConfigErrors, Problems, suggestion};
use super::fill_in::fill_ins;
use super::merge::lay_over;
use super::overrides::Overrides;
use super::settings::Settings;
use super::tree::{Node, Origin, Yaml, parse};
use super::validate::settings;

/// A configuration in force, and where in the file its values stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub settings: Settings,
    /// The file that it was loaded from.
    pub file: PathBuf,
    lines: BTreeMap<String, u32>,
}

impl Loaded {
    /// The line of a key path such as `network.conflist.plugins[1].type`, or of the nearest key above it that
    /// the file holds. `None` where the file holds none, as for a section that the profile brings.
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

/// Reads a configuration: built-in defaults, under the profile, under the file, under the overrides.
///
/// `file` is for messages only; nothing is opened.
///
/// # Errors
/// All mistakes found. Where values are still to be filled in, all of those and nothing else. A file that is no YAML has one; so has one with an unknown profile, because what
/// follows would be noise.
pub fn load(text: &str, file: &Path, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    let tree = parse(text, Origin::File)
        .map_err(|problems| Problems::from(problems).into_errors(file, None))?;
    let mut problems = Problems::default();
    if tree.value == Yaml::Null {
        problems.add(
            &tree.at,
            "the file is empty; begin with apiVersion: cni-keeper/v1alpha1 and kind: NodeNetwork",
        );
        return Err(problems.into_errors(file, None));
    }
    let mut lines = BTreeMap::new();
    note_lines(&tree, &mut lines);
    let mut profile = None;
    let merged = match tree.get("profile").filter(|node| node.value != Yaml::Null) {
        None => Some(tree.clone()),
        Some(node) => node.text(&mut problems).and_then(|name| {
            profile = Some((name, node.at.line));
            on_profile(name, node, &tree, &mut problems)
        }),
    };
    // What is still to be filled in cannot be right, and hides what is wrong.
    let open = fill_ins(merged.as_ref().unwrap_or(&tree));
    if open.count() > 0 {
        return Err(open.into_errors(file, profile));
    }
    let settings = merged.and_then(|merged| settings(&merged, overrides, &mut problems));
    match settings {
        Some(settings) => Ok(Loaded {
            settings,
            file: file.to_owned(),
            lines,
        }),
        None => Err(problems.into_errors(file, profile)),
    }
}

/// The file laid over the profile that it names.
fn on_profile(name: &str, node: &Node, tree: &Node, problems: &mut Problems) -> Option<Node> {
    let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) else {
        let known = PROFILES.map(|profile| profile.name);
        let near = suggestion(name, &known);
        problems.add(
            &node.at,
            format!(
                "no profile is called '{name}'; there are {}{near}",
                known.join(", ")
            ),
        );
        return None;
    };
    match parse(profile.text, Origin::Profile) {
        Ok(mut merged) => {
            // What schema the file is written in, only the file can say.
            if let Yaml::Map(entries) = &mut merged.value {
                entries.retain(|(key, _)| key != "apiVersion" && key != "kind");
            }
            lay_over(&mut merged, tree.clone());
            Some(merged)
        }
        Err(found) => {
            *problems = Problems::from(found);
            None
        }
    }
}

fn note_lines(node: &Node, lines: &mut BTreeMap<String, u32>) {
    lines.insert(node.at.path.clone(), node.at.line);
    match &node.value {
        Yaml::List(items) => items.iter().for_each(|item| note_lines(item, lines)),
        Yaml::Map(entries) => entries.iter().for_each(|(_, node)| note_lines(node, lines)),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) | Yaml::Text { .. } => {}
    }
}
