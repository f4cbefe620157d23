//! What these tests declare: real plugins, packed as a release, and a network of them.

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::LazyLock;

use cni_keeper::model::{Arch, Sha256};

use super::archive::Tar;

/// The plugins that [`NETWORK`] needs, and that [`RELEASE`] holds.
pub(crate) const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// A network of them. The builds of Debian speak CNI up to 1.0.0.
pub(crate) const NETWORK: &str = "\
network:
  fileName: 10-pods.conflist
  conflist:
    cniVersion: 1.0.0
    name: pod-network
    plugins:
      - type: bridge
        bridge: cni0
        ipam: {type: host-local, ranges: [[{subnet: 10.88.0.0/16}]]}
";

/// A real plugin, as Debian built it.
pub(crate) fn plugin(name: &str) -> Vec<u8> {
    let path = Path::new("/usr/lib/cni").join(name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; install containernetworking-plugins",
            path.display()
        )
    })
}

/// Another build of the same plugin: other bytes that run as well.
pub(crate) fn other_build(name: &str) -> Vec<u8> {
    [plugin(name), b"another build".to_vec()].concat()
}

/// An archive of plugins.
pub(crate) struct Release {
    pub(crate) bytes: Vec<u8>,
    plugins: Vec<&'static str>,
}

/// The real plugins, packed as upstream packs them.
pub(crate) static RELEASE: LazyLock<Release> = LazyLock::new(|| Release::new(&PLUGINS, plugin));

/// The next release: the same plugins with other bytes.
pub(crate) static NEXT_RELEASE: LazyLock<Release> =
    LazyLock::new(|| Release::new(&PLUGINS, other_build));

impl Release {
    pub(crate) fn new(plugins: &[&'static str], content: impl Fn(&'static str) -> Vec<u8>) -> Self {
        let tar = plugins.iter().fold(Tar::like_upstream(), |tar, plugin| {
            tar.file(&format!("./{plugin}"), &content(plugin))
        });
        Self {
            bytes: tar.gz(),
            plugins: plugins.to_vec(),
        }
    }

    /// The declared artifact of this archive, with its right pin.
    pub(crate) fn artifact(&self, source: &str) -> Artifact {
        Artifact {
            version: "v1.1.1".to_owned(),
            sources: vec![source.to_owned()],
            pin: pin(&self.bytes),
            plugins: format!("[{}]", self.plugins.join(", ")),
            more: String::new(),
        }
    }
}

/// `sha256: {amd64: …}` for the architecture of this machine.
pub(crate) fn pin(bytes: &[u8]) -> String {
    format!("sha256: {{{}: {}}}", arch(), Sha256::of(bytes))
}

pub(crate) fn arch() -> Arch {
    Arch::of_this_program().unwrap()
}

/// One artifact of a configuration.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) version: String,
    pub(crate) sources: Vec<String>,
    pub(crate) pin: String,
    pub(crate) plugins: String,
    /// One more key.
    pub(crate) more: String,
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            sources,
            pin,
            plugins,
            more,
        } = self;
        writeln!(
            f,
            "artifacts:\n  - name: cni-plugins\n    version: {version}"
        )?;
        writeln!(f, "    sources: {sources:?}\n    {pin}")?;
        writeln!(f, "    plugins: {plugins}\n    {more}")
    }
}

/// The URL of an archive on a port where nobody listens.
pub(crate) fn unreachable_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/p.tgz", listener.local_addr().unwrap())
}
