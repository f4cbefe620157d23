//! The plugins must answer `VERSION` before the conflist appears.

use std::time::Instant;

use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::{NETWORK, PLUGINS, RELEASE, Release, plugin};

/// A node whose own bridge is this, and is kept.
fn with_bridge(content: &[u8], mode: u32) -> Node {
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&node.mirror("p.tgz", &RELEASE.bytes));
    artifact.more = "ifPresent: keep".to_owned();
    node.declare(&artifact, NETWORK);
    node.write("opt/cni/bin/bridge", content, mode);
    node
}

fn refused(node: &Node, reported: &str) {
    let install = node.run("install");
    assert_eq!(
        install.exits(2).errors(),
        [
            format!("conflist: {} is missing", node.shown(CONFLIST)),
            format!("plugins: {reported}")
        ],
        "{install}"
    );
    assert_eq!(node.names(BIN), PLUGINS);
    assert!(!node.has(CONF));
}

/// The line names the plugin, the version asked for and those that it speaks.
#[test]
fn a_version_that_the_plugins_do_not_speak() {
    let node = Node::empty();
    let network = NETWORK.replace("cniVersion: 1.0.0", "cniVersion: 1.1.0");
    let source = node.mirror("p.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), &network);
    let install = node.run("install");
    for name in ["bridge", "host-local"] {
        install.exits(2).says(&format!(
            "error: plugins: {name} does not support CNI version 1.1.0, only 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0; \
             declare a version that it supports, or install another release of it\n"
        ));
    }
    install.does_not_say("loopback does not support");
    assert_eq!(node.names(BIN), PLUGINS);
    assert!(!node.has(CONFLIST));
}

/// A plugin that is neither installed by an artifact nor part of the node's image.
#[test]
fn a_plugin_that_nobody_installs() {
    let node = Node::empty();
    let pack = Release::new(&["bridge", "loopback"], plugin);
    node.declare(&pack.artifact(&node.mirror("p.tgz", &pack.bytes)), NETWORK);
    node.run("validate")
        .exits(0)
        .says("host-local is needed and no artifact installs it");
    node.run("install").exits(2).says(
        "error: plugins: host-local is not in the bin directory or does not answer VERSION; ",
    );
    assert!(!node.has(CONFLIST));

    // The image's own will do.
    node.write("opt/cni/bin/host-local", &plugin("host-local"), 0o755);
    node.run("install").exits(0);
    assert!(node.has(CONFLIST));
}

/// A script without its interpreter is no plugin, here or on the host.
#[test]
fn a_plugin_without_its_interpreter() {
    refused(
        &with_bridge(b"#!/nonexistent/sh\n", 0o755),
        "bridge: its interpreter /nonexistent/sh does not exist on the host",
    );
}

#[test]
fn a_plugin_that_crashes() {
    refused(
        &with_bridge(b"#!/bin/sh\necho no such luck\nexit 7\n", 0o755),
        "bridge: it answered VERSION with exit status: 7: no such luck",
    );
    refused(
        &with_bridge(b"#!/bin/sh\nkill -SEGV $$\n", 0o755),
        "bridge: it answered VERSION with signal: 11 (SIGSEGV) and printed nothing",
    );
}

#[test]
fn a_plugin_that_answers_something_else() {
    refused(
        &with_bridge(b"#!/bin/sh\necho hello\n", 0o755),
        "bridge: it answered VERSION with something else: hello",
    );
    refused(
        &with_bridge(b"\x7fELF, not really", 0o755),
        "bridge: it cannot be run: Exec format error; it is not a program for this machine",
    );
}

/// Fault 20: a plugin that the kernel does not run has a reason of its own.
#[test]
fn fault_20_a_plugin_that_cannot_be_run() {
    refused(
        &with_bridge(&plugin("bridge"), 0o644),
        "bridge: it cannot be run: Permission denied; look at its mode, or is its directory mounted noexec?",
    );
}

/// A plugin that hangs costs its time limit and nothing else: what it supports is not known, which is told.
#[test]
fn a_plugin_that_hangs() {
    let node = with_bridge(b"#!/bin/sh\nexec sleep 600\n", 0o755);
    let begin = Instant::now();
    node.run("install").exits(0).says(
        "bridge: which CNI versions it supports is unknown, and it is asked again later: it did not answer VERSION \
         within 5 s",
    );
    assert!(begin.elapsed().as_secs() < 30);
    assert!(node.has(CONFLIST));
}

/// libcni asks with an environment of its own, and so does the agent: a plugin gets none of the agent's variables.
#[test]
fn plugins_see_nothing_of_the_agents_environment() {
    let script = br#"#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] || exit 1
[ -z "$CNI_KEEPER_CONFIG" ] || exit 2
echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'
"#;
    let node = with_bridge(script, 0o755);
    node.run("install").exits(0);
}

/// A link that leads nowhere is no plugin: no conflist may name it. One that leads to a plugin is, and where
/// it leads counts from the host's root.
#[test]
fn a_plugin_that_is_a_link() {
    let node = Node::empty();
    let pack = Release::new(&["bridge", "loopback"], plugin);
    node.declare(&pack.artifact(&node.mirror("p.tgz", &pack.bytes)), NETWORK);
    std::fs::create_dir_all(node.path(BIN)).unwrap();
    std::os::unix::fs::symlink(
        "/usr/lib/own-host-local",
        node.path(&format!("{BIN}/host-local")),
    )
    .unwrap();
    node.run("install")
        .exits(2)
        .says("error: plugins: host-local is not in the bin directory");
    assert!(!node.has(CONFLIST));
    node.write("usr/lib/own-host-local", &plugin("host-local"), 0o755);
    node.run("install").exits(0);
    assert!(node.has(CONFLIST));
}
