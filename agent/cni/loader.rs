//! Loads a file as libcni does: whether it is accepted, and as which network.
//!
//! This is as lenient as the runtimes are. What we demand of our own conflist is stricter, and is in `validate`. The
//! result decides whether a foreign file shadows or blocks ours.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::directory::{DropIns, EntryKind, has_extension};
use super::examined_file::{
    ExaminedFile, LONGEST_CHAIN, LibcniNetwork, LoadError, ReadFile, bound_text,
};
use super::json_tree::{Json, element_path};
use super::kept_values::ReadsAs;
use super::parse::{GO_DEPTH, JsonDocument, SyntaxError, parse_selected};
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

impl ConfForm {
    /// The form of a file of this name.
    #[must_use]
    pub fn of_name(name: &OsStr) -> Self {
        match name.as_bytes().ends_with(b".conflist") {
            true => Self::List,
            false => Self::Single,
        }
    }
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

/// Reads a file, so that it can be loaded without being read again.
#[must_use]
pub fn examine_file(bytes: &[u8], form: ConfForm) -> ExaminedFile {
    let reads_as = match form {
        ConfForm::List => ReadsAs::List,
        ConfForm::Single => ReadsAs::Plugin,
    };
    let document = match parse_selected(bytes, reads_as) {
        Ok(document) if document.is_whole => document,
        Ok(_) => return ExaminedFile::default(),
        Err(error) => {
            let read = Arc::new(Err(LoadError::from(error.clone())));
            return ExaminedFile {
                reads: [Arc::clone(&read), Arc::clone(&read), read],
                drop_in: Err(error.into()),
            };
        }
    };
    let mut reads = Libcni::ALL.map(|libcni| {
        let read = read_document(&document, form, libcni);
        Arc::new(read.map(ReadFile::bound).map_err(LoadError::bound))
    });
    for newer in 1..reads.len() {
        if reads[newer] == reads[newer - 1] {
            reads[newer] = Arc::clone(&reads[newer - 1]);
        }
    }
    // A drop-in is decoded once, in the order written. Numbers that libcni does not read may have any size.
    let drop_in = decode_valid_plugin(&document.root, "", Order::Written, Libcni::V1_3);
    ExaminedFile {
        reads,
        drop_in: drop_in
            .map(|plugin| bound_text(&plugin.kind))
            .map_err(LoadError::bound),
    }
}

/// Loads an examined file as libcni does. For libcni 1.3 and later, `drop_ins` is called with the directory
/// `<confDir>/<its argument>`, a cleaned relative path.
///
/// # Errors
/// When libcni refuses the file.
pub(super) fn load_examined(
    file: &ExaminedFile,
    libcni: Libcni,
    drop_ins: &dyn Fn(&str) -> DropIns,
) -> Result<LibcniNetwork, LoadError> {
    let read = match &*file.reads[libcni as usize] {
        Ok(read) => read,
        Err(error) => return Err(error.clone()),
    };
    let mut network = read.network.clone();
    let Some(directory) = &read.drop_ins else {
        return Ok(network);
    };
    let merged = load_drop_ins(directory, drop_ins).map_err(LoadError::bound)?;
    network.chain.extend(merged);
    match network.chain.is_empty() && !network.is_unexamined() {
        true => Err(LoadError::NoPlugins),
        false => Ok(network.bound_chain()),
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
    load_examined(&examine_file(bytes, form), libcni, drop_ins)
}

fn read_document(
    document: &JsonDocument,
    form: ConfForm,
    libcni: Libcni,
) -> Result<ReadFile, LoadError> {
    if let Some(at) = &document.flaws.overflow {
        return Err(LoadError::Overflow(at.clone()));
    }
    match form {
        ConfForm::List => read_list(&document.root, libcni),
        // libcni puts it into the list of a conflist, which has two more levels, and reads that.
        ConfForm::Single if document.flaws.depth + 2 > GO_DEPTH => Err(SyntaxError {
            line: 1,
            column: 1,
            problem: format!("it nests deeper than {} levels", GO_DEPTH - 2),
        }
        .into()),
        ConfForm::Single => read_single(&document.root, libcni),
    }
}

/// `ConfFromFile`, then `ConfListFromConf`, which writes the plugin out sorted and reads it again.
fn read_single(root: &Json, libcni: Libcni) -> Result<ReadFile, LoadError> {
    let written = decode_valid_plugin(root, "", Order::Written, libcni)?;
    let sorted = decode_valid_plugin(root, "", Order::Sorted, libcni)?;
    Ok(ReadFile {
        network: LibcniNetwork {
            name: written.name,
            version: written.cni_version,
            chain: vec![sorted.kind],
        },
        drop_ins: None,
    })
}

fn read_list(root: &Json, libcni: Libcni) -> Result<ReadFile, LoadError> {
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
    // For a libcni that reads drop-ins, they alone can make a network.
    let merges = libcni >= Libcni::V1_3 && !inlined_only;

    let mut chain = Vec::new();
    match root.get("plugins") {
        None if merges => {}
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
    Ok(ReadFile {
        drop_ins: merges.then(|| clean_path(name)),
        network: LibcniNetwork {
            name: name.to_owned(),
            version: version.to_owned(),
            chain,
        },
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
    directory: &str,
    drop_ins: &dyn Fn(&str) -> DropIns,
) -> Result<Vec<String>, LoadError> {
    let entries = match drop_ins(directory) {
        DropIns::Absent => return Ok(Vec::new()),
        DropIns::Unreadable(reason) => {
            return Err(LoadError::DropIn {
                file: directory.into(),
                source: Box::new(LoadError::Unreadable(reason)),
            });
        }
        DropIns::Entries(entries) => entries,
    };
    let files = entries.iter();
    let mut files: Vec<_> = files
        .filter(|entry| has_extension(entry, &[".conf"]))
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut chain = Vec::new();
    for entry in files {
        let loaded = match &entry.kind {
            EntryKind::Directory => continue,
            EntryKind::Unreadable(reason) => Err(LoadError::Unreadable(reason.clone())),
            EntryKind::File(bytes) => examine_file(bytes, ConfForm::Single).drop_in,
            EntryKind::Examined(file) => file.drop_in.clone(),
        };
        let kind = loaded.map_err(|source| LoadError::DropIn {
            file: entry.name.clone(),
            source: Box::new(source),
        })?;
        chain.push(kind);
        // One more is enough to know that there are too many.
        if chain.len() > LONGEST_CHAIN {
            break;
        }
    }
    Ok(chain)
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
