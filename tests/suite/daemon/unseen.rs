//! Changes without an event. The next observation finds them by a file's times, and the full reading finds those that
//! leave the times as they were.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{BRIDGE, node, only_drift};
use crate::support::agent::Agent;
use crate::support::node::{BIN, CONFLIST, Node};
use crate::support::release::plugin;
use crate::support::rerun::has_program;
use crate::support::skipped;
use crate::support::without_asking::IntactNode;

/// Another name of a file, in a directory that is not watched: changes through it give no event in ours.
struct Alias {
    path: PathBuf,
    _dir: TempDir,
}

impl Alias {
    fn of(node: &Node, file: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("alias");
        fs::hard_link(node.path(file), &path).unwrap();
        Self { path, _dir: dir }
    }

    /// Changes one bit: the size stays the same, and the time of the last change is put back.
    fn flip_a_bit(&self) {
        let file = File::options().read(true).write(true).open(&self.path);
        let file = file.unwrap();
        let before = file.metadata().unwrap();
        let (mut byte, last) = ([0], before.len() - 1);
        file.read_exact_at(&mut byte, last).unwrap();
        file.write_all_at(&[byte[0] ^ 1], last).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
    }
}

/// Fault 27: the same size, the same time, and no event. The answer is right nevertheless, because the kernel keeps a
/// time of change that no program can set.
#[test]
fn fault_27_the_same_size_and_time_are_not_believed() {
    for file in [BRIDGE, CONFLIST] {
        let node = node();
        node.declare_more("drift: {resync: 1h}\n");
        let right = node.tree();
        let agent = Agent::ready(&node);
        let alias = Alias::of(&node, file);
        let linked = fs::metadata(node.path(file)).unwrap();
        alias.flip_a_bit();
        let flipped = fs::metadata(node.path(file)).unwrap();
        let known = |it: &fs::Metadata| (it.ino(), it.len(), it.modified().unwrap());
        assert_eq!(known(&flipped), known(&linked));
        agent.becomes_ready();
        assert!(right.has_same_content(&node.tree()));
        let reported = only_drift(&agent);
        assert_eq!((&*reported.kind, &*reported.outcome), ("content", "healed"));
        agent.stop();
    }
}

/// Fault 26: without an event and without a request, the next full reading repairs it.
#[test]
fn fault_26_a_lost_event_is_made_up_for() {
    for file in [BRIDGE, CONFLIST] {
        let node = node();
        node.declare_more("drift: {resync: 300ms}\n");
        let right = IntactNode::of(&node);
        let agent = Agent::ready(&node);
        Alias::of(&node, file).flip_a_bit();
        agent.repairs_by_itself(&right, &node);
        let reported = only_drift(&agent);
        assert_eq!((&*reported.kind, &*reported.outcome), ("content", "healed"));
        agent.stop();
    }
}

/// A program that has a file mapped into memory, and can change it without a system call.
struct Mapping(Child);

impl Mapping {
    /// Opens and maps a file, and touches its last byte. From then on, until the page is written back, the kernel does
    /// not notice what is written to it.
    fn of(path: &Path) -> Self {
        const PROGRAM: &str = "\
import mmap, sys
file = open(sys.argv[1], 'r+b')
mapped = mmap.mmap(file.fileno(), 0)
mapped[-1] = mapped[-1]
print('touched', flush=True)
sys.stdin.readline()
mapped[-1] ^= 1
print('changed', flush=True)
sys.stdin.readline()
";
        let child = Command::new("python3")
            .args(["-c", PROGRAM])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut mapping = Self(child);
        mapping.says("touched\n");
        mapping
    }

    /// Changes the last byte.
    fn change(&mut self) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").unwrap();
        self.says("changed\n");
    }

    fn says(&mut self, line: &str) {
        let mut message = String::new();
        // It says one line at a time and waits, so nothing is read ahead.
        let mut stdout = BufReader::new(self.0.stdout.as_mut().unwrap());
        stdout.read_line(&mut message).unwrap();
        assert_eq!(message, line);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fault 27: a change without any trace, as a failing disk makes it. The full reading finds it.
#[test]
fn fault_27_what_leaves_no_trace_is_found_by_reading() {
    if !has_program("python3") {
        return skipped("python3 is needed to write to a file through a mapping");
    }
    let node = node();
    node.declare_more("drift: {resync: 2s}\n");
    let agent = Agent::ready(&node);
    let path = node.path(BRIDGE);
    let mut mapping = Mapping::of(&path);
    // The touch left a trace, and what is read for it is known by the time that trace is old enough to be believed.
    for _ in 0..10 {
        assert!(agent.is_ready());
    }
    let touched = fs::metadata(&path).unwrap();
    mapping.change();
    let changed = fs::metadata(&path).unwrap();
    let traces = |it: &fs::Metadata| (it.ino(), it.len(), it.mtime_nsec(), it.ctime_nsec());
    assert_eq!(traces(&changed), traces(&touched), "no trace is left");

    agent.until_without_asking("read and repaired", || {
        node.read(BRIDGE) == plugin("bridge")
    });
    agent.becomes_ready();
    let reported = only_drift(&agent);
    assert_eq!((&*reported.kind, &*reported.outcome), ("content", "healed"));
    drop(mapping);
    assert_eq!(node.names(BIN).len(), 4);
    agent.stop();
}
