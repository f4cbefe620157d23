//! The layout is a feature: imports point one way, the pure rooms stay pure, one door to the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms from the ground up. A room may import from lower floors only, never from its own.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["trust"],
    &["cli", "config", "cni", "metrics", "plan", "retry"],
    &["host"],
    &["fetch", "store", "telemetry", "watch"],
    &["kube", "probe", "runtime"],
    &["reconcile"],
    &["bundle", "daemon"],
    &["http"],
    &["commands"],
];

/// Rooms that decide and never do: no clock, no process, no network, no kernel.
const PURE: &[&str] = &[
    "model", "config", "cni", "metrics", "plan", "retry", "trust",
];

/// What a pure room may not name.
const EFFECTS: &[&str] = &[
    "nix::",
    "reqwest::",
    "std::fs",
    "std::process",
    "std::net::Tcp",
    "tokio::",
    "SystemTime::now",
    "Instant::now",
    "std::env::var",
];

/// What only `host` may name: the file-system calls of std, tokio and nix.
const DISK: &[&str] = &[
    "std::fs",
    "tokio::fs",
    "nix::fcntl",
    "nix::unistd",
    "nix::sys::stat",
    "nix::dir",
];

/// What lives beside the file-system calls and is none.
const NO_DISK: &str = "nix::unistd::Pid;";

struct Source {
    room: String,
    path: PathBuf,
    /// The lines before the file's test module, numbered from one, comments left out.
    lines: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent");
    let mut pending = vec![agent.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let inside = path.strip_prefix(&agent).unwrap();
                let room = inside.iter().next().unwrap().to_str().unwrap();
                let lines = std::fs::read_to_string(&path)
                    .unwrap()
                    .lines()
                    .take_while(|line| !line.starts_with("mod tests"))
                    .enumerate()
                    .map(|(number, line)| (number + 1, line.to_owned()))
                    .filter(|(_, line)| !line.trim_start().starts_with("//"))
                    .collect();
                sources.push(Source {
                    room: room.trim_end_matches(".rs").to_owned(),
                    path,
                    lines,
                });
            }
        }
    }
    assert!(sources.len() > 20, "the agent's sources were not found");
    sources
}

/// The rooms that a line names by `crate::room` or `crate::{room, room}`.
fn imported(line: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let named = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        };
        rooms.extend(named.iter().map(|name| {
            let end = name.trim().find(|c: char| !is_word(c));
            &name.trim()[..end.unwrap_or(name.trim().len())]
        }));
    }
    rooms
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a line names something, and not merely something that ends alike (`unix::` is no `nix::`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_word))
}

#[test]
fn every_room_stands_on_a_floor_and_imports_point_down() {
    let floor_of: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let mut wrong = Vec::new();
    for source in sources() {
        if source.room == "lib" || source.room == "main" {
            continue;
        }
        let Some(&own) = floor_of.get(source.room.as_str()) else {
            wrong.push(format!(
                "{}: no floor is named for this room",
                source.path.display()
            ));
            continue;
        };
        for (number, line) in &source.lines {
            for room in imported(line)
                .into_iter()
                .filter(|room| *room != source.room)
            {
                if floor_of.get(room).is_none_or(|&floor| floor >= own) {
                    wrong.push(format!(
                        "{}:{number}: {} imports {room}",
                        source.path.display(),
                        source.room
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_have_no_effects() {
    forbid(|room| PURE.contains(&room), EFFECTS);
}

#[test]
fn only_host_touches_the_disk() {
    forbid(|room| room != "host", DISK);
}

fn forbid(applies: impl Fn(&str) -> bool, words: &[&str]) {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| applies(&source.room)) {
        for (number, line) in source
            .lines
            .iter()
            .filter(|(_, line)| !line.contains(NO_DISK))
        {
            for word in words.iter().filter(|word| names(line, word)) {
                wrong.push(format!("{}:{number}: names {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_import_is_seen_wherever_it_stands() {
    assert_eq!(imported("use crate::model::{A, B};"), ["model"]);
    assert_eq!(imported("use crate::{config, retry};"), ["config", "retry"]);
    assert_eq!(
        imported("fn f(a: crate::host::Dir) -> crate::store::Blobs {"),
        ["host", "store"]
    );
    assert!(names("use nix::unistd;", "nix::"));
    assert!(!names("use std::os::unix::ffi;", "nix::"));
}
