//! Reads what is on the disk, without the agent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use rustix::fs::{IFlags, fgetxattr, ioctl_getflags};

use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::PLUGINS;

/// The declared files as they must be, and where.
#[derive(Clone)]
pub(super) struct Truth {
    files: Arc<Vec<IntactNode>>,
    conf: PathBuf,
}

struct IntactNode {
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// The declared files of a node, by their paths inside it.
pub(super) fn declared() -> impl Iterator<Item = String> {
    let plugins = PLUGINS.iter().map(|plugin| format!("{BIN}/{plugin}"));
    plugins.chain([CONFLIST.to_owned()])
}

impl Truth {
    /// Takes the present files as right.
    pub(super) fn of(node: &Node) -> Self {
        let right = |file: String| {
            let path = node.path(&file);
            let metadata = fs::metadata(&path).unwrap();
            IntactNode {
                content: fs::read(&path).unwrap(),
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                path,
            }
        };
        Self {
            files: Arc::new(declared().map(right).collect()),
            conf: node.path(CONF),
        }
    }

    /// Everything because of which "ready" would be wrong, sorted.
    pub(super) fn lies(&self) -> Vec<String> {
        let wrong = self.files.iter().filter(|file| !file.is_there());
        let mut lies: Vec<String> = wrong.map(|file| file.path.display().to_string()).collect();
        lies.extend(self.foreign_conflists());
        lies.sort();
        lies
    }

    /// The configurations that a runtime would take before the declared one.
    fn foreign_conflists(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.conf) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let is_read = |name: &str| {
            let extension = Path::new(name).extension();
            extension.is_some_and(|it| it == "conf" || it == "conflist" || it == "json")
        };
        let ours = CONFLIST.rsplit_once('/').unwrap().1;
        names
            .filter(|name| is_read(name) && &**name < ours)
            .collect()
    }
}

impl IntactNode {
    fn is_there(&self) -> bool {
        self.read().is_ok_and(|right| right)
    }

    fn read(&self) -> io::Result<bool> {
        let found = fs::symlink_metadata(&self.path)?;
        let looks = (found.mode(), (found.uid(), found.gid()), found.len());
        if looks != (self.mode, self.owner, self.content.len() as u64) {
            return Ok(false);
        }
        // A pipe may have taken its place by now, and this must not wait for the other end.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .custom_flags(flags.bits())
            .open(&self.path)?;
        if has_more(&file) {
            return Ok(false);
        }
        let mut content = Vec::with_capacity(self.content.len() + 1);
        file.read_to_end(&mut content)?;
        Ok(content == self.content)
    }
}

/// Whether a file has capabilities, an ACL or a flag. None of the declared ones has.
fn has_more(file: &File) -> bool {
    let has = |name| {
        let mut nothing: [u8; 0] = [];
        fgetxattr(file, name, &mut nothing).is_ok()
    };
    let locks = IFlags::IMMUTABLE | IFlags::APPEND;
    has("security.capability")
        || has("system.posix_acl_access")
        || ioctl_getflags(file).is_ok_and(|flags| flags.intersects(locks))
}
