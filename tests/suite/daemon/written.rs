//! Writes without a closing event: `truncate(2)`, and descriptors that stay open. They are repaired soon after the last
//! write, and nothing is replaced while it is being written.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::truncate;

use super::{BRIDGE, node};
use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::without_asking::IntactNode;

/// The longest time from the last write to the repair.
const LIMIT: Duration = Duration::from_secs(1);

/// How long the slow writer writes, and how often.
const WRITING: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_millis(50);

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// Writes and leaves the file open, if it opens it.
type Damage = fn(&Path) -> Option<File>;

const DAMAGES: [(&str, Damage); 7] = [
    ("truncate", |path| {
        truncate(path, 3).unwrap();
        None
    }),
    ("truncate to nothing", |path| {
        truncate(path, 0).unwrap();
        None
    }),
    ("truncate to more", |path| {
        let size = path.metadata().unwrap().len();
        truncate(path, i64::try_from(size).unwrap() + 4096).unwrap();
        None
    }),
    ("ftruncate", |path| {
        let file = open(path);
        file.set_len(7).unwrap();
        Some(file)
    }),
    ("write in the middle", |path| {
        let file = open(path);
        file.write_all_at(b"other", 100).unwrap();
        Some(file)
    }),
    ("append", |path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
        Some(file)
    }),
    ("open truncates", |path| {
        let mut file = File::create(path).unwrap();
        file.write_all(b"half of someth").unwrap();
        Some(file)
    }),
];

/// Waits until the node is right, and fails unless that was soon after the last write.
#[track_caller]
fn is_soon_right(agent: &Agent, right: &IntactNode, last_write: Instant, what: &str) {
    agent.until_without_asking(what, || right.is_intact());
    let took = last_write.elapsed();
    if took > LIMIT {
        agent.fail(&format!("{what}: {took:?} after the last write"));
    }
}

fn quiet_node() -> (Node, IntactNode) {
    let node = node();
    node.declare_more("drift: {resync: 1h}\n");
    let right = IntactNode::of(&node);
    (node, right)
}

/// Fault 32: nobody closes the file, and nobody asks.
#[test]
fn fault_32_a_change_that_nothing_closes() {
    let (node, right) = quiet_node();
    let agent = Agent::with_spares(&node);
    for file in [CONFLIST, BRIDGE] {
        for (way, damage) in DAMAGES {
            let held = damage(&node.path(file));
            is_soon_right(&agent, &right, Instant::now(), &format!("{way}: {file}"));
            // What is still written goes to the file that was replaced.
            if let Some(mut held) = held {
                held.write_all(b"more").unwrap();
            }
            assert!(right.is_intact());
        }
    }
    agent.becomes_ready();
    agent.stop();
}

/// Fault 32: somebody writes for two seconds, a little at a time. The file is not replaced meanwhile, whoever asks, and
/// soon afterwards. If this test does not get to write for too long, that is a pause, so it tries again.
#[test]
fn fault_32_a_slow_writer_is_not_interrupted() {
    let (node, right) = quiet_node();
    let agent = Agent::with_spares(&node);
    for file in [CONFLIST, BRIDGE] {
        while !write_slowly(&agent, &node, file, &right) {}
    }
    agent.becomes_ready();
    agent.stop();
}

/// `false` if there was a pause.
fn write_slowly(agent: &Agent, node: &Node, file: &str, right: &IntactNode) -> bool {
    let path = node.path(file);
    let mut held = File::create(&path).unwrap();
    let start = Instant::now();
    let mut last = Instant::now();
    while start.elapsed() < WRITING {
        let ready = agent.is_ready();
        let replaced = path.metadata().unwrap().ino() != held.metadata().unwrap().ino();
        if last.elapsed() > 4 * PERIOD {
            return false;
        }
        assert!(!ready, "{file} is half written");
        assert!(!replaced, "{file}: replaced after {:?}", start.elapsed());
        held.write_all(b"some").unwrap();
        last = Instant::now();
        thread::sleep(PERIOD);
    }
    is_soon_right(agent, right, last, file);
    true
}
