//! What an agent does by itself. A request makes the agent read the disk, so these helpers look at the disk only.

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

/// The longest wait. Only what never happens takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

impl Agent {
    /// Waits until something holds, without asking the agent.
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

    /// Waits until the agent has repaired the node by itself. Then it must be ready, and nothing else may have changed.
    #[track_caller]
    pub(crate) fn repairs_by_itself(&self, right: &IntactNode, node: &Node) {
        self.until_without_asking("as declared", || right.is_intact());
        self.becomes_ready();
        let now = node.tree();
        let differences = right.tree.differences(&now);
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

/// Whether the store has two intact copies of each plugin.
pub(crate) fn has_spares(node: &Node) -> bool {
    let mut plugins = PLUGINS.iter().map(|name| plugin(name));
    plugins.all(|content| {
        let mut copies = ["store", "spare"]
            .iter()
            .map(|dir| spare_path(node, dir, &content));
        copies.all(|copy| fs::read(copy).is_ok_and(|there| there == content))
    })
}

/// The path of a copy of this content in a part of the store.
pub(crate) fn spare_path(node: &Node, part: &str, content: &[u8]) -> PathBuf {
    let digest = Sha256::of(content).to_string();
    node.path(STATE).join(part).join(digest)
}

/// Removes a directory with everything in it, also while the agent puts something back.
pub(crate) fn remove_tree(directory: &Path) {
    while let Err(error) = fs::remove_dir_all(directory) {
        match error.kind() {
            ErrorKind::DirectoryNotEmpty => {}
            ErrorKind::NotFound => return,
            _ => panic!("{}: {error}", directory.display()),
        }
    }
}

/// The declared files of a node, while they are right.
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

/// Content, mode and owner of a file; `None` if it is missing or is not a regular file.
fn entry(path: &PathBuf) -> Option<Entry> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let content = metadata.is_file().then(|| fs::read(path).ok())??;
    Some((content, metadata.mode(), metadata.uid()))
}
