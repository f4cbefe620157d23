//! Which values of a file of others are kept while it is read: those that libcni reads, within limits.
//!
//! A file of 2 MB can hold hundreds of thousands of values, and a tree of all of them is fifty times as large.

use super::json_tree::{Json, fold_key};

/// How many values of a file are kept. Real files need some dozens.
const MOST_VALUES: usize = 10_000;
/// How many bytes of keys and texts are kept.
const MOST_BYTES: usize = 256 << 10;
/// A longer text is cut. No name of a file or path can be so long, so it is as wrong as before.
const LONGEST_TEXT: usize = 8 << 10;

/// As what libcni reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadsAs {
    /// A list of plugins.
    List,
    /// A single plugin.
    Plugin,
}

/// What is kept of a value, and of the values in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selection {
    /// The value and everything in it.
    All,
    /// The object of a conflist.
    Conflist,
    /// The list of plugins.
    Plugins,
    /// The object of a plugin.
    Plugin,
    Ipam,
    Dns,
    /// The list of valid attachments.
    Attachments,
    Attachment,
    /// Each member of an object, without what is in it.
    Flags,
    /// Each element of a list, without what is in it.
    Texts,
    /// The value, without what is in it: only its type counts, or its text.
    Itself,
    /// Nothing.
    Nothing,
}

/// Decides for each value whether it is kept. It is told about every container and member that is read.
#[derive(Debug)]
pub(super) struct KeptValues {
    /// The selection of each container that is open.
    open: Vec<Selection>,
    /// The selection of the value that is read next, or was read just now.
    value: Selection,
    values: usize,
    bytes: usize,
}

impl KeptValues {
    /// Keeps everything, without limits.
    pub(super) const fn all() -> Self {
        Self::beginning_with(Selection::All)
    }

    /// Keeps what libcni reads of a file.
    pub(super) const fn of(form: ReadsAs) -> Self {
        Self::beginning_with(match form {
            ReadsAs::List => Selection::Conflist,
            ReadsAs::Plugin => Selection::Plugin,
        })
    }

    const fn beginning_with(value: Selection) -> Self {
        Self {
            open: Vec::new(),
            value,
            values: 0,
            bytes: 0,
        }
    }

    /// Whether everything was kept that was selected.
    pub(super) const fn is_whole(&self) -> bool {
        self.values <= MOST_VALUES && self.bytes <= MOST_BYTES
    }

    /// How many bytes of a key or text are read, at least.
    pub(super) fn longest_text(&self) -> usize {
        match self.open.first() {
            Some(Selection::All) | None => usize::MAX,
            Some(_) => LONGEST_TEXT,
        }
    }

    /// A list or object begins.
    pub(super) fn open_container(&mut self) {
        self.open.push(self.value);
        self.begin_element();
    }

    /// The innermost list or object has ended, and is the value that was read just now.
    pub(super) fn close_container(&mut self) {
        self.value = self.open.pop().unwrap_or(Selection::Nothing);
    }

    /// An element of the innermost list follows. If that is an object, [`Self::begin_member`] follows before its value.
    pub(super) fn begin_element(&mut self) {
        self.value = match self.open.last() {
            Some(Selection::All) => Selection::All,
            Some(Selection::Plugins) => Selection::Plugin,
            Some(Selection::Attachments) => Selection::Attachment,
            Some(Selection::Texts) => Selection::Itself,
            _ => Selection::Nothing,
        };
    }

    /// The value of a member of the innermost object follows.
    pub(super) fn begin_member(&mut self, key: &str) {
        let Some(open) = self.open.last() else {
            return;
        };
        self.value = match open {
            Selection::All => Selection::All,
            Selection::Conflist => match key {
                "plugins" => Selection::Plugins,
                "cniVersions" => Selection::Texts,
                "name" | "cniVersion" | "disableCheck" | "disableGC" | "loadOnlyInlinedPlugins" => {
                    Selection::Itself
                }
                _ => Selection::Nothing,
            },
            Selection::Plugin => match folded(key).as_str() {
                "cniversion" | "name" | "type" | "prevresult" => Selection::Itself,
                "capabilities" => Selection::Flags,
                "ipam" => Selection::Ipam,
                "dns" => Selection::Dns,
                "cni.dev/valid-attachments" => Selection::Attachments,
                _ => Selection::Nothing,
            },
            Selection::Ipam if folded(key) == "type" => Selection::Itself,
            Selection::Dns => match folded(key).as_str() {
                "domain" => Selection::Itself,
                "nameservers" | "search" | "options" => Selection::Texts,
                _ => Selection::Nothing,
            },
            Selection::Attachment => match folded(key).as_str() {
                "containerid" | "ifname" => Selection::Itself,
                _ => Selection::Nothing,
            },
            Selection::Flags => Selection::Itself,
            _ => Selection::Nothing,
        };
    }

    /// Whether the value that was read just now is kept, with its key if it has one.
    pub(super) fn keep(&mut self, key: &str, value: &mut Json) -> bool {
        match self.value {
            Selection::All => return true,
            Selection::Nothing => return false,
            _ => {}
        }
        match value {
            Json::Text(text) => self.bytes += text.len(),
            // Only its type counts.
            Json::Number(text) => text.truncate(1),
            _ => {}
        }
        self.values += 1;
        self.bytes += key.len();
        self.is_whole()
    }
}

/// A key as Go compares it with the name of a field. No field has a long name.
fn folded(key: &str) -> String {
    match key.len() {
        0..=64 => fold_key(key),
        _ => String::new(),
    }
}
