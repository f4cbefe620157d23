//! Names from an archive in messages: few of them, short, and without control characters.

use std::fmt::Write as _;

use super::tar_entries::TarEntryKind;
use crate::model::escape_name;

/// How many names are listed where a wanted one is missing.
pub(in crate::fetch) const MAX_LISTED_NAMES: usize = 20;

/// The first few names in an archive, for the message about one that is missing.
#[derive(Default)]
pub(super) struct NameListing {
    names: String,
    more: usize,
    count: usize,
}

impl NameListing {
    pub(super) fn add_name(&mut self, path: &str, kind: TarEntryKind<'_>) {
        if kind == TarEntryKind::Directory {
            return;
        }
        self.count += 1;
        if self.count > MAX_LISTED_NAMES {
            self.more += 1;
            return;
        }
        let comma = if self.names.is_empty() { "" } else { ", " };
        let path = short_name(path);
        // Writing to a String cannot fail.
        let _ = write!(self.names, "{comma}{path}");
    }
}

/// Names come from outside: no control character reaches a terminal, no long one fills it.
pub(in crate::fetch) fn short_name(name: &str) -> String {
    escape_name(name, 80)
}

impl std::fmt::Display for NameListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.count, self.more) {
            (0, _) => f.write_str("no file"),
            (_, 0) => f.write_str(&self.names),
            (_, more) => write!(f, "{} and {more} more", self.names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_bounded_and_harmless() {
        let mut listing = NameListing::default();
        assert_eq!(listing.to_string(), "no file");
        listing.add_name("dir", TarEntryKind::Directory);
        listing.add_name("a\x1b[2J", TarEntryKind::File);
        assert_eq!(listing.to_string(), "a\\u{1b}[2J");
        for n in 0..MAX_LISTED_NAMES {
            listing.add_name(&"x".repeat(n * 100), TarEntryKind::Symlink(b""));
        }
        assert!(listing.to_string().ends_with("x… and 1 more"));
        assert!(listing.to_string().len() < MAX_LISTED_NAMES * 83);
    }
}
