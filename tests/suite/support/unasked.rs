//! What an agent does by itself: whoever asks it makes it look at the disk, and so sees nothing of that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::node::{BIN, CONFLIST, Node};
use super::pack::PLUGINS;
use super::tree::Tree;

/// Reached only by what never happens.
const DEADLINE: Duration = Duration::from_secs(60);

impl Agent {
    /// Waits until something holds that is seen without asking the agent.
    #[track_caller]
    pub(crate) fn unasked(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > DEADLINE {
                self.fail(&format!("never by itself: {what}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the agent has made it right by itself; then it is ready, and nothing else was changed.
    #[track_caller]
    pub(crate) fn mends(&self, right: &Right, node: &Node) {
        self.unasked("as declared", || right.holds());
        self.becomes_ready();
        let now = node.tree();
        assert!(
            right.tree.looks_like(&now),
            "{:?}",
            right.tree.changes(&now)
        );
    }
}

/// A node as it is declared to be.
pub(crate) struct Right {
    files: Vec<(PathBuf, Entry)>,
    tree: Tree,
}

type Entry = (Vec<u8>, u32, u32);

impl Right {
    /// What is there now.
    pub(crate) fn of(node: &Node) -> Self {
        let plugins = PLUGINS.iter().map(|plugin| format!("{BIN}/{plugin}"));
        let files = plugins.chain([CONFLIST.to_owned()]);
        let entry = |file: String| {
            let path = node.path(&file);
            let entry = entry(&path).unwrap();
            (path, entry)
        };
        Self {
            files: files.map(entry).collect(),
            tree: node.tree(),
        }
    }

    /// Whether every declared file is as it was. May be asked while the disk is being worked on.
    pub(crate) fn holds(&self) -> bool {
        let is_right = |(path, right): &(PathBuf, Entry)| entry(path).as_ref() == Some(right);
        self.files.iter().all(is_right)
    }
}

/// What is regarded of a file; `None` where it is not there, or is something else.
fn entry(path: &PathBuf) -> Option<Entry> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let content = metadata.is_file().then(|| fs::read(path).ok())??;
    Some((content, metadata.mode(), metadata.uid()))
}
