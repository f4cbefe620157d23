//! What the real libcni, go-cni and ocicni did with thousands of files.
//!
//! The data quotes other projects' configurations, so it is not part of this repository: the tests over
//! it report themselves skipped where it is absent.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cni_keeper::cni::{DirEntry, DropIns, EntryKind, SPEC_VERSIONS};
use serde_json::Value;

/// The cases of one file of the corpus. Where there is no corpus: `None`, and a line on stderr.
pub(super) fn cases(file: &str) -> Option<Vec<Value>> {
    let path = directory().join(file);
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!(
            "skipped: no {}; CNI_CORPUS names the directory",
            path.display()
        );
        return None;
    };
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn directory() -> PathBuf {
    std::env::var_os("CNI_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    )
}

/// A field that is there and a string.
pub(super) fn text<'a>(case: &'a Value, pointer: &str) -> &'a str {
    let value = case.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("no string at {pointer} in {case}"))
}

/// A boolean; absent means false.
pub(super) fn flag(case: &Value, pointer: &str) -> bool {
    case.pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

/// The strings of a list; absent means none.
pub(super) fn texts(case: &Value, pointer: &str) -> Vec<String> {
    let list = case.pointer(pointer).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// The bytes under `key`, or base64-encoded under `key` + `_b64`.
pub(super) fn bytes(case: &Value, key: &str) -> Vec<u8> {
    match case.get(key) {
        Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
        None => base64(text(case, &format!("/{key}_b64"))),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut pending, mut bits) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = ALPHABET.iter().position(|known| *known == byte).unwrap();
        pending = pending << 6 | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits & 0xff) as u8);
        }
    }
    bytes
}

/// Lays the files of a `confdirs` case out in a real directory.
pub(super) fn lay_out(files: &[Value], directory: &Path) {
    for file in files {
        let path = directory.join(text(file, "/name"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text(file, "/kind") {
            "file" => fs::write(&path, bytes(file, "text")).unwrap(),
            "dir" => fs::create_dir_all(&path).unwrap(),
            "symlink" | "dangling" => symlink(text(file, "/target"), &path).unwrap(),
            other => panic!("unknown kind {other}"),
        }
    }
}

/// A directory as libcni reads it.
pub(super) fn entries(directory: &Path) -> Vec<DirEntry> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let kind = if entry.file_type().unwrap().is_dir() {
                EntryKind::Directory
            } else {
                match fs::read(entry.path()) {
                    Ok(bytes) => EntryKind::File(bytes),
                    Err(error) => EntryKind::Unreadable(error.to_string()),
                }
            };
            DirEntry {
                name: entry.file_name(),
                kind,
            }
        })
        .collect()
}

/// What lies in `<directory>/<name>`.
pub(super) fn drop_ins(directory: &Path, name: &str) -> DropIns {
    let directory = directory.join(name);
    match fs::read_dir(&directory) {
        Ok(_) => DropIns::Entries(entries(&directory).into()),
        Err(error) if error.kind() == ErrorKind::NotFound => DropIns::Absent,
        Err(error) => DropIns::Unreadable(error.to_string()),
    }
}

/// What a plugin of the corpus's bin directory answers to VERSION.
pub(super) fn answer(meta: &Value, plugin: &str) -> Option<Vec<String>> {
    let plugins = meta.get("bin_dir").and_then(Value::as_array).unwrap();
    let found = plugins
        .iter()
        .find(|found| text(found, "/name") == plugin)?;
    let all = || SPEC_VERSIONS.map(str::to_owned).to_vec();
    match text(found, "/kind") {
        "exec" | "symlink->bridge" => Some(all()),
        kind => {
            let supported = kind.strip_prefix("exec, supports ")?;
            Some(supported.split(' ').map(str::to_owned).collect())
        }
    }
}

/// The corpus's description of itself.
pub(super) fn meta() -> Value {
    serde_json::from_slice(&fs::read(directory().join("META.json")).unwrap()).unwrap()
}
