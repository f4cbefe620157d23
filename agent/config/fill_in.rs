//! Values that only the operator knows: a text that begins with `FILL-IN:` says what to put in its place.

use super::error::Problems;
use super::tree::{Node, Yaml};

/// How such a text begins.
const MARK: &str = "FILL-IN:";

/// Every value that is still to be filled in.
pub(super) fn fill_ins(node: &Node) -> Problems {
    let mut open = Problems::default();
    search(node, &mut open);
    open
}

fn search(node: &Node, open: &mut Problems) {
    match &node.value {
        Yaml::Text { text, .. } => {
            if let Some(what) = text.trim_start().strip_prefix(MARK) {
                open.add(&node.at, format!("{MARK} {}", what.trim()));
            }
        }
        Yaml::List(items) => items.iter().for_each(|item| search(item, open)),
        Yaml::Map(entries) => entries.iter().for_each(|(_, node)| search(node, open)),
        Yaml::Null | Yaml::Bool(_) | Yaml::Number(_) => {}
    }
}
