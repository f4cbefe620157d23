//! Loads a file as libcni does: whether it is accepted, and as which network.
//!
//! This is as lenient as the runtimes are. What we demand of our own conflist is stricter, and is in `validate`. The
//! result decides whether a foreign file shadows or blocks ours.

use std::ffi::OsString;

use super::directory::{DropIns, EntryKind, has_extension};
use super::json_tree::{Json, element_path};
use super::parse::{GO_DEPTH, SyntaxError, parse_json};
use super::plugin_conf::{DecodedPlugin, Order, WrongType, decode_plugin};
use super::spec_version::{self, VersionEntry};

/// A generation of libcni. They differ in which files they load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Libcni {
    /// 1.1, in containerd 1.6 and 1.7: ignores `cniVersions` and `disableGC`, and requires that `disableCheck` is a
    /// boolean.
    V1_1,
    /// 1.2, in containerd 2.0: reads `cniVersions`.
    V1_2,
    /// 1.3 and later, in containerd 2.1 and later and in CRI-O: merges `<confDir>/<network name>/*.conf`.
    V1_3,
}

impl Libcni {
    /// Every generation, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_1, Self::V1_2, Self::V1_3];

    /// The runtimes that use it, for a message.
    pub(super) const fn used_by(self) -> &'static str {
        match self {
            Self::V1_1 => "containerd 1.7 and older",
            Self::V1_2 => "containerd 2.0",
            Self::V1_3 => "containerd 2.1 and newer, and CRI-O",
        }
    }
}

/// How a file is read. Its extension decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfForm {
    /// `.conflist`: a list of plugins.
    List,
    /// `.conf` and `.json`: a single plugin.
    Single,
}

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

/// Loads one file as libcni does. For libcni 1.3 and later, `drop_ins` is called with the directory `<confDir>/<its
/// argument>`, a cleaned relative path.
///
/// # Errors
/// When libcni refuses the file.
pub fn load_as_libcni(
    bytes: &[u8],
    form: ConfForm,
    libcni: Libcni,
    drop_ins: &dyn Fn(&str) -> DropIns,
) -> Result<LibcniNetwork, LoadError> {
    let document = parse_json(bytes)?;
    if let Some(at) = document.flaws.overflow {
        return Err(LoadError::Overflow(at));
    }
    match form {
        ConfForm::List => load_list(&document.root, libcni, drop_ins),
        // libcni puts it into the list of a conflist, which has two more levels, and reads that.
        ConfForm::Single if document.flaws.depth + 2 > GO_DEPTH => Err(SyntaxError {
            line: 1,
            column: 1,
            problem: format!("it nests deeper than {} levels", GO_DEPTH - 2),
        }
        .into()),
        ConfForm::Single => load_single(&document.root, libcni),
    }
}

/// `ConfFromFile`, then `ConfListFromConf`, which writes the plugin out sorted and reads it again.
fn load_single(root: &Json, libcni: Libcni) -> Result<LibcniNetwork, LoadError> {
    let written = decode_valid_plugin(root, "", Order::Written, libcni)?;
    let sorted = decode_valid_plugin(root, "", Order::Sorted, libcni)?;
    Ok(LibcniNetwork {
        name: written.name,
        version: written.cni_version,
        chain: vec![sorted.kind],
    })
}

fn load_list(
    root: &Json,
    libcni: Libcni,
    drop_ins: &dyn Fn(&str) -> DropIns,
) -> Result<LibcniNetwork, LoadError> {
    if root.as_object().is_none() && *root != Json::Null {
        return Err(type_error("", root, "an object"));
    }
    let name = match root.get("name") {
        None => return Err(LoadError::NoName),
        Some(name) => require_text(name, "name")?,
    };
    let version = selected_version(root, libcni)?;
    if libcni == Libcni::V1_1 {
        match root.get("disableCheck") {
            None | Some(Json::Bool(_)) => {}
            Some(other) => return Err(type_error("disableCheck", other, "a boolean")),
        }
    } else {
        read_flag(root, "disableCheck")?;
        read_flag(root, "disableGC")?;
    }
    let inlined_only = libcni >= Libcni::V1_3 && read_flag(root, "loadOnlyInlinedPlugins")?;

    let mut chain = Vec::new();
    match root.get("plugins") {
        // For a libcni that reads drop-ins, they alone can make a network.
        None if libcni >= Libcni::V1_3 && !inlined_only => {}
        None => return Err(LoadError::NoPlugins),
        Some(plugins) => {
            let plugins = plugins
                .as_list()
                .ok_or_else(|| type_error("plugins", plugins, "a list"))?;
            if plugins.is_empty() {
                return Err(LoadError::NoPlugins);
            }
            for (index, plugin) in plugins.iter().enumerate() {
                let at = element_path("plugins", index);
                chain.push(decode_valid_plugin(plugin, &at, Order::Sorted, libcni)?.kind);
            }
        }
    }
    if libcni >= Libcni::V1_3 && !inlined_only {
        chain.extend(load_drop_ins(name, libcni, drop_ins)?);
    }
    if chain.is_empty() {
        return Err(LoadError::NoPlugins);
    }
    Ok(LibcniNetwork {
        name: name.to_owned(),
        version: version.to_owned(),
        chain,
    })
}

fn selected_version(root: &Json, libcni: Libcni) -> Result<&str, LoadError> {
    let declared = match root.get("cniVersion") {
        None => "",
        Some(version) => require_text(version, "cniVersion")?,
    };
    let versions = match root.get("cniVersions") {
        Some(versions) if libcni >= Libcni::V1_2 => versions,
        _ => return Ok(declared),
    };
    let versions = versions
        .as_list()
        .ok_or_else(|| type_error("cniVersions", versions, "a list of strings"))?;
    let mut listed = Vec::with_capacity(versions.len());
    for (index, version) in versions.iter().enumerate() {
        let at = element_path("cniVersions", index);
        let version = require_text(version, &at)?;
        check_version(version, &at)?;
        listed.push(version);
    }
    check_version(declared, "cniVersion")?;
    Ok(spec_version::select_version(&listed, declared))
}

fn check_version(text: &str, at: &str) -> Result<(), LoadError> {
    match spec_version::classify_version(text) {
        VersionEntry::Unreadable => Err(LoadError::Version {
            at: at.to_owned(),
            version: text.to_owned(),
        }),
        VersionEntry::Candidate | VersionEntry::Newer => Ok(()),
    }
}

/// Reads a flag as libcni 1.2 and later does: a boolean, or `true` or `false` as text in any case (`strings.ToLower`).
fn read_flag(root: &Json, key: &str) -> Result<bool, LoadError> {
    let value = match root.get(key) {
        None => return Ok(false),
        Some(value) => value,
    };
    match value {
        Json::Bool(flag) => Ok(*flag),
        Json::Text(text) if text.to_lowercase() == "true" => Ok(true),
        Json::Text(text) if text.to_lowercase() == "false" => Ok(false),
        other => Err(type_error(key, other, "true or false")),
    }
}

/// The types of the plugins in `<confDir>/<network name>/*.conf`, in the order of the file names.
fn load_drop_ins(
    network: &str,
    libcni: Libcni,
    drop_ins: &dyn Fn(&str) -> DropIns,
) -> Result<Vec<String>, LoadError> {
    let directory = clean_path(network);
    let mut entries = match drop_ins(&directory) {
        DropIns::Absent => return Ok(Vec::new()),
        DropIns::Unreadable(reason) => {
            return Err(LoadError::DropIn {
                file: directory.into(),
                source: Box::new(LoadError::Unreadable(reason)),
            });
        }
        DropIns::Entries(entries) => entries,
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut chain = Vec::new();
    for entry in entries
        .iter()
        .filter(|entry| has_extension(entry, &[".conf"]))
    {
        let loaded = match &entry.kind {
            EntryKind::Directory => continue,
            EntryKind::Unreadable(reason) => Err(LoadError::Unreadable(reason.clone())),
            EntryKind::File(bytes) => load_drop_in(bytes, libcni),
        };
        chain.push(loaded.map_err(|source| LoadError::DropIn {
            file: entry.name.clone(),
            source: Box::new(source),
        })?);
    }
    Ok(chain)
}

/// A drop-in is decoded once, in the order written. Numbers that libcni does not read may have any size.
fn load_drop_in(bytes: &[u8], libcni: Libcni) -> Result<String, LoadError> {
    decode_valid_plugin(&parse_json(bytes)?.root, "", Order::Written, libcni)
        .map(|plugin| plugin.kind)
}

/// A network's name as a directory relative to the configuration directory, as Go's `filepath.Join`
/// cleans it: a leading slash is dropped, and the empty name means the configuration directory itself.
fn clean_path(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

/// Decodes a plugin. It must have a type, and no value that Go refuses.
fn decode_valid_plugin(
    value: &Json,
    at: &str,
    order: Order,
    libcni: Libcni,
) -> Result<DecodedPlugin, LoadError> {
    let plugin = if *value == Json::Null {
        DecodedPlugin::default()
    } else {
        decode_plugin(value, at, order, libcni >= Libcni::V1_2)
    };
    if let Some(wrong_type) = plugin.wrong_types.first() {
        return Err(LoadError::Type(wrong_type.clone()));
    }
    if plugin.kind.is_empty() {
        return Err(LoadError::NoType(at.to_owned()));
    }
    Ok(plugin)
}

fn require_text<'a>(value: &'a Json, at: &str) -> Result<&'a str, LoadError> {
    value
        .as_text()
        .ok_or_else(|| type_error(at, value, "a string"))
}

fn type_error(at: &str, value: &Json, want: &'static str) -> LoadError {
    LoadError::Type(WrongType {
        at: at.to_owned(),
        got: value.type_name(),
        want,
    })
}

#[cfg(test)]
mod tests;
