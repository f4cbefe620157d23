//! One content under several names: it is downloaded and stored once, and each name gets a file of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::agent::Agent;
use crate::support::namespace::{in_private_mounts, mount_tmpfs};
use crate::support::node::{BIN, Node, STATE};
use crate::support::release::{PLUGINS, Release, pin, plugin};
use crate::support::server::{Reply, Server};

/// Declarations of one content under two names, and the paths on the server that give it.
struct SameContent {
    what: &'static str,
    artifacts: String,
    server: Server,
    paths: [&'static str; 2],
}

/// An artifact with this name, path on the server, body, keys and plugins.
fn declare(server: &Server, name: &str, path: &str, body: &[u8], more: &str) -> String {
    server.on(path, [Reply::ok(body)]);
    format!(
        "  - {{name: {name}, version: v1, sources: [\"{}\"], {}, {more}}}\n",
        server.url(path),
        pin(body)
    )
}

impl SameContent {
    /// All kinds: two raw files, and two archives whose members have pins of their own.
    fn all() -> [Self; 2] {
        let bridge = plugin("bridge");
        let server = Server::http();
        let raw = |name, path| {
            let more = format!("format: raw, plugins: [{name}]");
            declare(&server, name, path, &bridge, &more)
        };
        let artifacts = raw("bridge", "/bridge") + &raw("bridge-too", "/bridge-too");
        let raw = Self {
            what: "two raw files",
            artifacts,
            server,
            paths: ["/bridge", "/bridge-too"],
        };
        let server = Server::http();
        let archive = |name, path, holds: &[&'static str]| {
            let member = format!("member: bridge, as: {name}, {}", pin(&bridge));
            let more = format!("plugins: [{{{member}}}]");
            declare(
                &server,
                name,
                path,
                &Release::new(holds, plugin).bytes,
                &more,
            )
        };
        let artifacts = archive("bridge", "/a.tgz", &["bridge"])
            + &archive("bridge-too", "/b.tgz", &["bridge", "loopback"]);
        let archives = Self {
            what: "two archives",
            artifacts,
            server,
            paths: ["/a.tgz", "/b.tgz"],
        };
        [raw, archives]
    }

    fn declare(&self, node: &Node) {
        node.declare_text(&format!("artifacts:\n{}", self.artifacts));
    }

    /// Both names are there, as files of their own; one of the two sources was asked, once; the store has it once.
    #[track_caller]
    fn is_in_place(&self, node: &Node) {
        let bridge = plugin("bridge");
        let files = ["bridge", "bridge-too"].map(|name| format!("{BIN}/{name}"));
        for file in &files {
            assert!(node.read(file) == bridge, "{}: {file}", self.what);
        }
        let inode = |file: &String| fs::metadata(node.path(file)).unwrap().ino();
        assert_ne!(inode(&files[0]), inode(&files[1]), "{}", self.what);
        let asked = self.paths.map(|path| self.server.count(path));
        assert_eq!(asked.iter().sum::<usize>(), 1, "{}: {asked:?}", self.what);
        let stored = node.names(&format!("{STATE}/store"));
        assert_eq!(stored.len(), 1, "{}: {stored:?}", self.what);
    }
}

#[test]
fn an_install_downloads_and_stores_it_once() {
    for content in SameContent::all() {
        let node = Node::empty();
        content.declare(&node);
        node.run("install").exits(0);
        content.is_in_place(&node);
        for names in [&["bridge"][..], &["bridge-too"], &["bridge", "bridge-too"]] {
            for name in names {
                fs::remove_file(node.path(&format!("{BIN}/{name}"))).unwrap();
            }
            node.run("install --offline").exits(0);
            content.is_in_place(&node);
        }
        node.run("verify").exits(0);
    }
}

#[test]
fn an_agent_downloads_and_stores_it_once() {
    for content in SameContent::all() {
        let node = Node::empty();
        content.declare(&node);
        let agent = Agent::ready(&node);
        agent.until("the store has it again", |_| {
            !node.names(&format!("{STATE}/store")).is_empty()
        });
        content.is_in_place(&node);
    }
}

/// In a tmpfs every copy counts against the agent's memory limit, so it keeps one copy of each plugin, not two.
#[test]
fn in_memory_there_are_no_second_copies() {
    in_private_mounts(&in_memory_there_are_no_second_copies, |scratch| {
        let node = Node::within(scratch);
        node.declare_release();
        let opt = node.path("opt/cni");
        fs::create_dir_all(&opt).unwrap();
        mount_tmpfs(&opt, "size=256m");
        let agent = Agent::ready(&node);
        node.remove_mirror();
        for name in PLUGINS {
            let file = format!("{BIN}/{name}");
            agent.until("a copy of each plugin", |_| {
                node.names(&format!("{STATE}/store")).len() == PLUGINS.len()
            });
            assert!(node.names(&format!("{STATE}/spare")).is_empty());
            fs::remove_file(node.path(&file)).unwrap();
            agent.until("the plugin is back", |_| node.has(&file));
            assert!(node.read(&file) == plugin(name));
        }
    });
}
