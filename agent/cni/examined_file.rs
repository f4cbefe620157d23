//! A file of others as libcni holds it, within limits: of foreign text only as much is kept as a reader of messages needs.

use std::ffi::OsString;
use std::sync::Arc;

use super::parse::SyntaxError;
use super::plugin_conf::WrongType;
use crate::model::clip;

/// A network as libcni holds it after loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibcniNetwork {
    /// Its name; not checked at load, so it may be empty or hold anything.
    pub name: String,
    /// The CNI version that every plugin will be called with; empty means 0.1.0.
    pub version: String,
    /// The `type` of every plugin in call order, drop-ins included.
    pub chain: Vec<String>,
}

/// Why libcni refuses a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened or read: a dangling link, a link to a directory.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is not JSON.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A number that is too large for a 64-bit float.
    #[error("{} is a number too large for a 64-bit float", subject_of(.0))]
    Overflow(String),
    /// A value of the wrong type.
    #[error("{} is {}, but libcni requires {}", subject_of(&.0.at), .0.got, .0.want)]
    Type(WrongType),
    /// There is no `name`.
    #[error("it has no 'name'")]
    NoName,
    /// A version that is not a sequence of integers.
    #[error("'{at}' is \"{version}\", which is not a version")]
    Version {
        /// Where.
        at: String,
        /// What is there.
        version: String,
    },
    /// No plugin, neither in the file nor in drop-ins.
    #[error("it has no plugins")]
    NoPlugins,
    /// A plugin without a type.
    #[error("{} has no 'type'", subject_of(.0))]
    NoType(String),
    /// The directory of drop-ins, or a file in it, fails; libcni then refuses the whole network.
    #[error("its drop-in {file} fails: {source}", file = file.display())]
    DropIn {
        /// The file in `<confDir>/<network name>`, or that directory itself.
        file: OsString,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
}

/// The subject of a message: the path in quotes, or `it` for the whole document.
fn subject_of(at: &str) -> String {
    if at.is_empty() {
        "it".to_owned()
    } else {
        format!("'{at}'")
    }
}

/// A file of others, read once: what each generation of libcni makes of it. Of its text only as much is kept as a reader
/// of messages needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaminedFile {
    /// By generation.
    pub(super) reads: [Arc<Result<ReadFile, LoadError>>; 3],
    /// The type of its plugin, where it is a drop-in of a network.
    pub(super) drop_in: Result<String, LoadError>,
}

/// A file as libcni holds it before it looks for drop-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadFile {
    pub(super) network: LibcniNetwork,
    /// The directory in which it looks for drop-ins, if it does.
    pub(super) drop_ins: Option<String>,
}

/// The network of a file that exceeds the limits of what is examined. A runtime would load it.
const UNEXAMINED: &str = "(too large to be examined)";
/// The longest foreign name in a network or in a message, in bytes. No file name is longer.
const LONGEST_NAME: usize = 255;
/// How many plugins a chain may have to be examined, and how many bytes their names.
pub(super) const LONGEST_CHAIN: usize = 64;
const LONGEST_CHAIN_BYTES: usize = 4 << 10;
/// The longest path, in bytes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

impl Default for ExaminedFile {
    /// A file that is not read, because it would exceed the limits of what is examined. It counts as one that a runtime
    /// loads.
    fn default() -> Self {
        let read = Arc::new(Ok(ReadFile {
            network: LibcniNetwork::unexamined(),
            drop_ins: None,
        }));
        Self {
            reads: [Arc::clone(&read), Arc::clone(&read), read],
            drop_in: Ok(UNEXAMINED.to_owned()),
        }
    }
}

impl LibcniNetwork {
    /// The network of a file that is not examined. What its chain is remains unknown.
    fn unexamined() -> Self {
        Self {
            name: UNEXAMINED.to_owned(),
            version: String::new(),
            chain: Vec::new(),
        }
    }

    /// Whether it is known only that a runtime would load it.
    pub(super) fn is_unexamined(&self) -> bool {
        self.name == UNEXAMINED
    }

    /// The same, if its chain is not too long to be examined.
    pub(super) fn bound_chain(self) -> Self {
        let bytes: usize = self.chain.iter().map(String::len).sum();
        let is_known = !self.chain.iter().any(|plugin| plugin == UNEXAMINED);
        match is_known
            && !self.is_unexamined()
            && self.chain.len() <= LONGEST_CHAIN
            && bytes <= LONGEST_CHAIN_BYTES
        {
            true => self,
            false => Self::unexamined(),
        }
    }
}

impl ReadFile {
    /// The same with texts that are cut, so that its size does not depend on the file.
    pub(super) fn bound(self) -> Self {
        let LibcniNetwork {
            name,
            version,
            chain,
        } = self.network;
        let network = LibcniNetwork {
            name: bound_text(&name),
            version: bound_text(&version),
            chain: chain.iter().map(|plugin| bound_text(plugin)).collect(),
        };
        Self {
            network: network.bound_chain(),
            drop_ins: self.drop_ins.map(bound_path),
        }
    }
}

impl LoadError {
    /// The same with foreign texts that are cut.
    pub(super) fn bound(self) -> Self {
        let cut = |text: String| bound_text(&text);
        match self {
            Self::Unreadable(reason) => Self::Unreadable(cut(reason)),
            Self::Overflow(at) => Self::Overflow(cut(at)),
            Self::Type(wrong) => Self::Type(WrongType {
                at: cut(wrong.at),
                ..wrong
            }),
            Self::Version { at, version } => Self::Version {
                at: cut(at),
                version: cut(version),
            },
            Self::NoType(at) => Self::NoType(cut(at)),
            Self::DropIn { file, source } => Self::DropIn {
                file: match file.len() > LONGEST_NAME {
                    true => bound_text(&file.to_string_lossy()).into(),
                    false => file,
                },
                source: Box::new(source.bound()),
            },
            Self::Syntax(_) | Self::NoName | Self::NoPlugins => self,
        }
    }
}

/// A foreign name, cut.
pub(super) fn bound_text(text: &str) -> String {
    clip(text, LONGEST_NAME).into_owned()
}

/// A path that the kernel would refuse as too long becomes a short one that it refuses for the same reason.
fn bound_path(path: String) -> String {
    let is_too_long =
        path.len() >= LONGEST_PATH || path.split('/').any(|part| part.len() > LONGEST_NAME);
    match is_too_long {
        true => "x".repeat(LONGEST_NAME + 1),
        false => path,
    }
}
