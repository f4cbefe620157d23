//! Finds values that only the operator knows. In a profile they are texts that begin with `FILL-IN:` and say what to
//! write there.

use super::error::Problems;
use super::yaml::{Yaml, YamlNode};

/// The beginning of such a text.
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
