//! A node under a directory of its own, and the sets of real plugins that it gets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cni_keeper::model::{Arch, Sha256};

use crate::support::archive::Tar;

/// Where Debian's containernetworking-plugins are.
const PACKAGED: &str = "/usr/lib/cni";
pub(super) const PLUGINS: [&str; 3] = ["host-local", "loopback", "ptp"];
pub(super) const CONFLIST: &str = "10-pods.conflist";

/// A set of plugins and the conflist that goes with it.
pub(super) struct Declared {
    config: PathBuf,
    pub(super) archive_size: usize,
    /// Content by name.
    pub(super) plugins: BTreeMap<&'static str, Vec<u8>>,
    /// The conflist, as `render` prints it.
    pub(super) conflist: Vec<u8>,
}

/// A directory with declarations, and with nodes made from a template.
pub(super) struct Site {
    scratch: tempfile::TempDir,
}

/// One node: a host root.
pub(super) struct Node {
    _own: Option<tempfile::TempDir>,
    root: PathBuf,
}

/// One file: everything of it that is enforced.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = Sha256::of(&self.content);
        let (size, digest) = (self.content.len(), digest.short());
        write!(f, "{size} bytes {digest} {:o} {:?}", self.mode, self.owner)
    }
}

impl Site {
    pub(super) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A site in a directory whose mounts the caller removes.
    pub(super) fn below(scratch: &Path) -> Self {
        Self {
            scratch: tempfile::tempdir_in(scratch).unwrap(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Declares the set `version`: Debian's plugins with the version after their end, which the kernel
    /// ignores, and a conflist with that subnet. `more` is added to the configuration as it is.
    pub(super) fn declare(&self, version: &str, subnet: u8, more: &str) -> Declared {
        let mut plugins = BTreeMap::new();
        let mut tar = Tar::like_upstream();
        for plugin in PLUGINS {
            let mut content = fs::read(Path::new(PACKAGED).join(plugin))
                .expect("apt-get install containernetworking-plugins");
            content.extend(version.as_bytes());
            tar = tar.file(&format!("./{plugin}"), &content);
            plugins.insert(plugin, content);
        }
        let archive = tar.gz();
        let pin = Sha256::of(&archive);
        let source = self.path().join(format!("{version}.tgz"));
        fs::write(&source, &archive).unwrap();
        let arch = Arch::of_this_program().expect("an architecture that CNI plugins are built for");
        let config = self.path().join(format!("{version}.yaml"));
        let text = format!(
            "apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
artifacts:
  - name: plugins
    version: {version}
    sources: ['file://{}']
    sha256: {{{}: {pin}}}
    plugins: [ptp, loopback, host-local]
network:
  fileName: {CONFLIST}
  conflist:
    cniVersion: 1.0.0
    name: pods
    plugins:
      - type: ptp
        ipam: {{type: host-local, ranges: [[{{subnet: 10.{subnet}.0.0/24}}]]}}
{more}",
            source.display(),
            arch.as_str()
        );
        fs::write(&config, text).unwrap();
        let rendered = keeper_command(&config, self.path(), "render")
            .output()
            .unwrap();
        assert!(rendered.status.success(), "{rendered:?}");
        Declared {
            config,
            archive_size: archive.len(),
            plugins,
            conflist: rendered.stdout,
        }
    }

    /// A node without anything.
    pub(super) fn bare(&self) -> Node {
        let own = tempfile::tempdir_in(self.path()).unwrap();
        Node {
            root: own.path().to_owned(),
            _own: Some(own),
        }
    }

    /// A node that is as declared.
    pub(super) fn installed(&self, declared: &Declared) -> Node {
        let node = self.bare();
        node.must(declared, "install");
        node
    }

    /// A node like another one, owners and modes included.
    pub(super) fn copy(&self, of: &Node) -> Node {
        let node = self.bare();
        of.copy_to(&node.root);
        node
    }
}

impl Node {
    /// A node in a directory that is there already, such as a mount.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            _own: None,
            root: root.to_owned(),
        }
    }

    /// Copies all of it into a directory, owners and modes included.
    pub(super) fn copy_to(&self, root: &Path) {
        copy(&self.root, root);
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.root.join("opt/cni/bin")
    }

    pub(super) fn conf(&self) -> PathBuf {
        self.root.join("etc/cni/net.d")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("opt/cni/.cni-keeper")
    }

    pub(super) fn conflist(&self) -> PathBuf {
        self.conf().join(CONFLIST)
    }

    /// The command, not yet run.
    pub(super) fn command(&self, declared: &Declared, command: &str) -> Command {
        keeper_command(&declared.config, &self.root, command)
    }

    pub(super) fn run(&self, declared: &Declared, command: &str) -> Output {
        self.command(declared, command).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub(super) fn must(&self, declared: &Declared, command: &str) {
        let output = self.run(declared, command);
        assert!(output.status.success(), "{command}: {}", message(&output));
    }

    /// Everything in the two directories that a runtime reads.
    pub(super) fn visible(&self) -> BTreeMap<PathBuf, File> {
        [self.bin(), self.conf()]
            .iter()
            .filter(|dir| dir.is_dir())
            .flat_map(|dir| files_below(dir))
            .map(|path| (path.strip_prefix(&self.root).unwrap().to_owned(), path))
            .map(|(name, path)| (name, file(&path)))
            .collect()
    }

    /// The names of the temps of our own pattern, wherever they are.
    pub(super) fn temps(&self) -> Vec<PathBuf> {
        let mut all = files_below(&self.root);
        all.retain(|path| is_own_temp(path));
        all
    }

    /// Fails unless every declared file is there, with its content, its mode and its owner.
    pub(super) fn is_as(&self, declared: &Declared, at: &str) {
        for (plugin, content) in &declared.plugins {
            let found = file(&self.bin().join(plugin));
            assert_eq!(found, ours(content.clone(), 0o755), "{at}: {plugin}");
        }
        let found = file(&self.conflist());
        assert_eq!(found, ours(declared.conflist.clone(), 0o600), "{at}");
        assert_eq!(self.temps(), [""; 0].map(PathBuf::from), "{at}");
    }
}

fn keeper_command(config: &Path, root: &Path, command: &str) -> Command {
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_cni-keeper"));
    keeper.arg(command);
    keeper.args([OsStr::new("--config"), config.as_os_str()]);
    keeper.args([OsStr::new("--host-root"), root.as_os_str()]);
    keeper
}

/// Copies the content of one directory into another. A plugin with the right mode is linked if possible: it is large,
/// and nothing may ever write to it in place.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&source, &target);
        } else {
            let plugin =
                metadata.len() > 1 << 20 && metadata.permissions().mode() & 0o7777 == 0o755;
            if plugin && fs::hard_link(&source, &target).is_ok() {
                continue;
            }
            fs::copy(&source, &target).unwrap();
        }
        chown(&target, Some(metadata.uid()), Some(metadata.gid())).unwrap();
        fs::set_permissions(&target, metadata.permissions()).unwrap();
    }
}

/// A file as the program places it.
pub(super) fn ours(content: Vec<u8>, mode: u32) -> File {
    let (uid, gid) = match nix::unistd::geteuid().as_raw() {
        0 => (0, 0),
        uid => (uid, nix::unistd::getegid().as_raw()),
    };
    File {
        content,
        mode,
        owner: (uid, gid),
    }
}

/// Whether a name is `.cni-keeper-<16 hex>.tmp`. The pattern is repeated here on purpose.
pub(super) fn is_own_temp(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    let middle = name
        .strip_prefix(".cni-keeper-")
        .and_then(|rest| rest.strip_suffix(".tmp"));
    middle.is_some_and(|hex| {
        hex.len() == 16
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

pub(super) fn file(path: &Path) -> File {
    let metadata =
        fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(metadata.is_file(), "{}", path.display());
    File {
        content: fs::read(path).unwrap(),
        mode: metadata.permissions().mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
    }
}

/// Both streams of output.
pub(super) fn message(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => ahead.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
}
