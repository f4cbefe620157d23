//! `host`, the only access to the file system, and the state behind it, with real failures of the kernel.

mod faults;
mod paths;
mod publish;
mod read;
mod state;
mod steps;

use std::fs;
use std::io::Write;
use std::path::Path;

use cni_keeper::host::{Dir, Host, HostError, Sealed};
use cni_keeper::model::{FileMode, FileName, FileState, LARGEST_PLUGIN, Regular};

use crate::support::rerun;

/// Only root may mount, give files away and set flags.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn name(text: &str) -> FileName {
    text.parse().expect("a file name")
}

fn open(path: &Path) -> (Host, Dir) {
    let host = Host::open(Path::new("/")).expect("the root");
    let dir = host.open_dir(path).expect("the directory");
    (host, dir)
}

/// Writes and seals a temp of a directory, with the mode of a plugin and our own owner.
fn seal(host: &Host, dir: &Dir, content: &[u8]) -> Result<Sealed, HostError> {
    let mut temp = dir.create_temp()?;
    let path = temp.path();
    temp.write_all(content)
        .map_err(|error| HostError::new("write", path, error))?;
    temp.seal(FileMode::PLUGIN, host.owner())
}

fn publish(host: &Host, dir: &Dir, target: &str, content: &[u8]) -> Result<(), HostError> {
    seal(host, dir, content)?.publish(dir, &name(target))?;
    dir.sync()
}

fn regular(dir: &Dir, target: &str) -> Regular {
    match dir.observe_file(&name(target), LARGEST_PLUGIN) {
        FileState::Regular(regular) => regular,
        other => panic!("{target} is {other:?}"),
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
