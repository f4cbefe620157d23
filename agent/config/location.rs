//! Where in a configuration a value is written.

/// Which text a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextSource {
    /// The operator's file.
    File,
    /// The built-in profile that the file names.
    Profile,
    /// A flag or environment variable.
    Flag,
}

/// Where a value is written: in which text, on which line, and under which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub source: TextSource,
    /// The line of the key, or of the value in a list; from 1.
    pub line: u32,
    /// As in `artifacts[0].sha256.amd64`; empty for the whole document.
    pub path: String,
}

impl Location {
    /// A flag such as `--bin-dir`, which has no line.
    pub(super) fn of_flag(flag: &str) -> Self {
        Self {
            source: TextSource::Flag,
            line: 0,
            path: flag.to_owned(),
        }
    }

    /// Where a key below this value would be, for a key that is missing.
    pub(super) fn child(&self, key: &str) -> Self {
        Self {
            path: join_path(&self.path, key),
            ..self.clone()
        }
    }
}

/// Appends a key to a path.
pub(super) fn join_path(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
