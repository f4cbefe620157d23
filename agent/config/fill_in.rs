//! Values that only the operator knows: a text that begins with `FILL-IN:` says what to put in its place.

use super::error::Problems;
use super::yaml::{Yaml, YamlNode};

/// How such a text begins.
const MARK: &str = "FILL-IN:";

/// Every value that is still to be filled in.
pub(super) fn find_fill_ins(root: &YamlNode) -> Problems {
    let open = Problems::default();
    root.for_each(&mut |node| {
        if let Yaml::Text { text, .. } = &node.value
            && let Some(what) = text.trim_start().strip_prefix(MARK)
        {
            open.add(&node.at, format!("{MARK} {}", what.trim()));
        }
    });
    open
}
