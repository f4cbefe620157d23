//! The names near a path that an image does not have, for the error message.

use std::collections::BTreeSet;
use std::fmt;

use super::path_search::{WHITEOUT, strip_parent};
use crate::fetch::unpack::{MAX_LISTED_NAMES, short_name};

/// Names in the directories that lead to a path.
pub(super) struct NearbyPaths {
    /// From the root down.
    directories: Vec<DirectoryNames>,
}

struct DirectoryNames {
    path: String,
    names: BTreeSet<String>,
    more: bool,
}

impl NearbyPaths {
    pub(super) fn new(path: &str) -> Self {
        let ends = path.match_indices('/').map(|(end, _)| end);
        let directories = std::iter::once(0).chain(ends).map(|end| DirectoryNames {
            path: path[..end].to_owned(),
            names: BTreeSet::new(),
            more: false,
        });
        Self {
            directories: directories.collect(),
        }
    }

    /// Adds an entry of any layer, even one that another layer deletes.
    pub(super) fn add_path(&mut self, path: &str) {
        for directory in &mut self.directories {
            let name = strip_parent(path, &directory.path).and_then(|rest| rest.split('/').next());
            let Some(name) = name.filter(|name| !name.starts_with(WHITEOUT)) else {
                continue;
            };
            if directory.names.len() < MAX_LISTED_NAMES {
                directory.names.insert(short_name(name));
            } else {
                directory.more |= !directory.names.contains(name);
            }
        }
    }
}

impl fmt::Display for NearbyPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut deepest = self.directories.iter().rev();
        let Some(directory) = deepest.find(|directory| !directory.names.is_empty()) else {
            return f.write_str("no file is in it");
        };
        let names: Vec<&str> = directory.names.iter().map(String::as_str).collect();
        let more = if directory.more { " and more" } else { "" };
        let path = short_name(&directory.path);
        write!(f, "'/{path}' holds {}{more}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_that_is_there_is_reported() {
        let nearby = |paths: &[&str]| {
            let mut nearby = NearbyPaths::new("opt/cni/bin/bridge");
            paths.iter().for_each(|path| nearby.add_path(path));
            nearby.to_string()
        };
        assert_eq!(nearby(&[]), "no file is in it");
        assert_eq!(nearby(&["etc/passwd", "bin"]), "'/' holds bin, etc");
        assert_eq!(
            nearby(&["bin", "opt/cni/bin/ptp", "opt/cni/bin/.wh.vlan", "opt/x"]),
            "'/opt/cni/bin' holds ptp"
        );
        let many: Vec<String> = (10..40).map(|n| format!("opt/{n}\x1b")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let reported = nearby(&many);
        assert!(reported.ends_with("29\\u{1b} and more"), "{reported}");
    }
}
