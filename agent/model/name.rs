//! Names that become part of a path. They are checked once, when they are parsed.

use std::fmt;
use std::str::FromStr;

use super::Sha256;
use super::serde_as_text::serde_as_text;

/// Why a text cannot be a file name, a plugin name or a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// Over 255 bytes, the limit of every Linux file system in use (`NAME_MAX`).
    #[error("a name has at most 255 bytes, this has {0}")]
    TooLong(usize),
    /// `.` and `..` mean directories.
    #[error("'{0}' is a directory reference, not a name")]
    Dots(String),
    /// A character that would leave the directory, or that no tool prints well.
    #[error(
        "'{0}' holds {1:?}; a name is one path component without '/', '\\' or control characters"
    )]
    Character(String, char),
    /// Not an octal mode from 0000 to 0777.
    #[error(
        "'{0}' is not a file mode; write octal digits in quotes, such as \"0600\" (at most \"0777\")"
    )]
    Mode(String),
}

/// One path component: not empty, not `.` or `..`, no separator, no control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

/// The name of a CNI plugin, which is also its file name in the bin directory.
///
/// libcni refuses a plugin `type` with a `/` (`invoke.FindInPath`), so the rules are those of [`FileName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName(FileName);

/// The permission bits of a file; never set-uid, set-gid or sticky.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileMode(u32);

impl FileName {
    /// A fixed name of ours, such as `ledger.json`. It is not checked, so it must not come from input.
    #[must_use]
    pub(crate) fn fixed(name: &str) -> Self {
        debug_assert_eq!(name.parse::<Self>().as_ref().map(Self::as_str), Ok(name));
        Self(name.to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PluginName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The plugin's file name in the bin directory.
    #[must_use]
    pub const fn file(&self) -> &FileName {
        &self.0
    }
}

impl FileMode {
    /// `rwxr-xr-x`: what every plugin binary gets.
    pub const PLUGIN: Self = Self(0o755);
    /// `rw-------`: what CIS benchmarks require for a conflist, and the mode of the ledger.
    pub const PRIVATE: Self = Self(0o600);
    /// `rw-r--r--`: for files that everybody may read.
    pub const PUBLIC: Self = Self(0o644);

    /// The bits, for a system call.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// The name under which content is kept: its digest in hexadecimal.
impl From<&Sha256> for FileName {
    fn from(digest: &Sha256) -> Self {
        Self(digest.to_string())
    }
}

impl FromStr for FileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 255 {
            return Err(NameError::TooLong(text.len()));
        }
        if text == "." || text == ".." {
            return Err(NameError::Dots(text.to_owned()));
        }
        match text
            .chars()
            .find(|c| matches!(c, '/' | '\\') || c.is_control())
        {
            Some(stranger) => Err(NameError::Character(text.to_owned(), stranger)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for PluginName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

impl FromStr for FileMode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.chars().all(|c| c.is_digit(8));
        match u32::from_str_radix(digits, 8) {
            Ok(bits) if octal && bits <= 0o777 => Ok(Self(bits)),
            _ => Err(NameError::Mode(text.to_owned())),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(FileName, PluginName, FileMode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for good in ["bridge", "10-a.conflist", ".hidden", "with space", "ü"] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../x", "a\\b", "a\0b", "a\nb"] {
            assert!(bad.parse::<PluginName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<FileName>().is_err());
    }

    #[test]
    fn a_mode_has_permission_bits_only() {
        assert_eq!("0600".parse::<FileMode>().unwrap(), FileMode::PRIVATE);
        assert_eq!("755".parse::<FileMode>().unwrap().to_string(), "0755");
        for bad in ["", "4755", "0o", "rw-", "+755", "0888", "-1"] {
            assert!(bad.parse::<FileMode>().is_err(), "{bad:?}");
        }
    }
}
