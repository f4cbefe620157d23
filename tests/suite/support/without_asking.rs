//! What an agent does by itself: whoever asks it makes it look at the disk, and so sees nothing of that.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cni_keeper::model::Sha256;

use super::agent::Agent;
use super::node::{BIN, CONFLIST, Node, STATE};
use super::release::{PLUGINS, plugin};
use super::tree::Tree;

/// Reached only by what never happens.
const DEADLINE: Duration = Duration::from_secs(60);

impl Agent {
    /// Waits until something holds that is seen without asking the agent.
    #[track_caller]
    pub(crate) fn until_without_asking(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > DEADLINE {
                self.fail(&format!("never by itself: {what}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts an agent that is ready, and waits until it has two copies of each plugin beside the one in place.
    pub(crate) fn with_spares(node: &Node) -> Self {
        let agent = Self::ready(node);
        agent.until_without_asking("two copies of each plugin", || has_spares(node));
        agent
    }

    /// Waits until the agent has made it right by itself; then it is ready, and nothing else was changed.
    #[track_caller]
    pub(crate) fn repairs_by_itself(&self, right: &IntactNode, node: &Node) {
        self.until_without_asking("as declared", || right.is_intact());
        self.becomes_ready();
        let now = node.tree();
        let differences = right.tree.differences(&now);
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

/// Whether there are two sound copies of each plugin in the store.
pub(crate) fn has_spares(node: &Node) -> bool {
    let mut plugins = PLUGINS.iter().map(|name| plugin(name));
    plugins.all(|content| {
        let mut copies = ["store", "spare"]
            .iter()
            .map(|dir| spare_path(node, dir, &content));
        copies.all(|copy| fs::read(copy).is_ok_and(|there| there == content))
    })
}

/// Where a copy of this content lies in a part of the store.
pub(crate) fn spare_path(node: &Node, part: &str, content: &[u8]) -> PathBuf {
    let digest = Sha256::of(content).to_string();
    node.path(STATE).join(part).join(digest)
}

/// Removes a directory with all that is in it, also while somebody puts something back.
pub(crate) fn remove_tree(directory: &Path) {
    while let Err(error) = fs::remove_dir_all(directory) {
        match error.kind() {
            ErrorKind::DirectoryNotEmpty => {}
            ErrorKind::NotFound => return,
            _ => panic!("{}: {error}", directory.display()),
        }
    }
}

/// A node as it is declared to be.
pub(crate) struct IntactNode {
    files: Vec<(PathBuf, Entry)>,
    tree: Tree,
}

type Entry = (Vec<u8>, u32, u32);

impl IntactNode {
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
    pub(crate) fn is_intact(&self) -> bool {
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
