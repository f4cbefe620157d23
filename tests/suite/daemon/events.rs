//! The kernel's events are enough: these tests never ask the agent, because a request makes it read the disk, and its
//! next full reading is minutes away.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::release::{PLUGINS, plugin};

const BRIDGE: &str = "opt/cni/bin/bridge";

/// The longest wait. Only what never happens takes so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Fault 24 and others: every kind of damage, one after the other, each repaired because of the kernel's event.
#[test]
fn events_alone_get_every_damage_repaired() {
    let node = Node::installed();
    let conflist = node.read(CONFLIST);
    let agent = Agent::ready(&node);
    // The agent repairs meanwhile, so the directory may not stay empty.
    let remove = |inside: &str| while fs::remove_dir_all(node.path(inside)).is_err() {};
    let rename = |from: &str, to: &str| fs::rename(node.path(from), node.path(to)).unwrap();
    let chmod = |inside: &str, mode| {
        fs::set_permissions(node.path(inside), fs::Permissions::from_mode(mode)).unwrap();
    };
    let damages: &[(&str, &dyn Fn())] = &[
        ("removed", &|| fs::remove_file(node.path(BRIDGE)).unwrap()),
        ("overwritten", &|| {
            fs::write(node.path(BRIDGE), "x").unwrap();
        }),
        ("mode", &|| chmod(BRIDGE, 0o600)),
        ("conflist", &|| {
            fs::remove_file(node.path(CONFLIST)).unwrap();
        }),
        ("conflist edited", &|| {
            fs::write(node.path(CONFLIST), "{}").unwrap();
        }),
        ("bin wiped", &|| remove(BIN)),
        ("bin wiped again", &|| remove(BIN)),
        ("bin made again", &|| {
            remove(BIN);
            // The agent may have made it already.
            let _ = fs::create_dir(node.path(BIN));
        }),
        ("net.d wiped", &|| remove(CONF)),
        ("both wiped", &|| {
            remove(CONF);
            remove(BIN);
        }),
        ("all of etc/cni wiped", &|| remove("etc/cni")),
        ("bin renamed away", &|| {
            rename(BIN, "old-bin");
            remove("old-bin");
        }),
        ("etc/cni renamed away", &|| {
            rename("etc/cni", "old-cni");
            remove("old-cni");
        }),
    ];
    for (what, damage) in damages {
        rests(&agent);
        damage();
        let repaired = || {
            let plugins = PLUGINS.iter().all(|name| has_plugin(&node, BIN, name));
            plugins && holds(&node, CONFLIST, &conflist, 0o600)
        };
        assert!(comes_true(repaired), "{what}");
    }
}

/// Only events and the next full reading wake the agent.
#[test]
fn an_agent_that_has_nothing_to_do_sleeps() {
    rests(&Agent::ready(&Node::installed()));
}

/// The directory may be a link, as where a distribution keeps plugins in another place.
#[test]
fn a_directory_behind_a_link_is_watched_where_it_is() {
    let node = linked("opt/cni/bin", &["data/one", "data/two"]);
    let agent = Agent::ready(&node);
    assert_repaired(&agent, &node, "data/one");
    // The link now leads to the other directory.
    switch(&node, "opt/cni/bin", "/data/two");
    assert_repaired(&agent, &node, "data/two");
}

/// Where a directory really is is told: by the log at the start, by verify, and by the agent.
#[test]
fn a_link_is_not_followed_without_a_word() {
    for (link, target) in [(BIN, "data/one"), (CONF, "data/conf")] {
        let node = linked(link, &[target]);
        let agent = Agent::ready(&node);
        let told = format!(
            "{} leads through a link to {}",
            node.shown(link),
            node.shown(target)
        );
        assert!(agent.get("/readyz?verbose").body.contains(&told));
        node.run("verify").exits(0).says(&told);
        assert!(agent.stop().contains(&told));
    }
}

/// k3s keeps its plugins behind a link in the middle of the path, `data/current/bin`, and an upgrade switches it.
#[test]
fn a_link_in_the_middle_of_the_path_is_watched() {
    let node = linked("opt/cni", &["data/one", "data/two"]);
    let agent = Agent::ready(&node);
    assert_repaired(&agent, &node, "data/one/bin");
    switch(&node, "opt/cni", "/data/two");
    assert_repaired(&agent, &node, "data/two/bin");
}

/// A node on which a part of the way to the plugins is a link to the first of these directories, installed.
fn linked(link: &str, targets: &[&str]) -> Node {
    let node = Node::declared();
    for target in targets {
        fs::create_dir_all(node.path(target)).unwrap();
    }
    let link = node.path(link);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(Path::new("/").join(targets[0]), link).unwrap();
    node
}

fn switch(node: &Node, link: &str, to: &str) {
    let next = node.path("next");
    symlink(to, &next).unwrap();
    fs::rename(next, node.path(link)).unwrap();
}

/// Fails unless a plugin comes, and comes back when it is removed; afterwards the agent rests.
#[track_caller]
fn assert_repaired(agent: &Agent, node: &Node, bin: &str) {
    let is_there = || has_plugin(node, bin, "bridge");
    assert!(comes_true(is_there), "{bin}");
    rests(agent);
    fs::remove_file(node.path(bin).join("bridge")).unwrap();
    assert!(comes_true(is_there), "{bin}");
    rests(agent);
}

/// Waits until none of its threads has run for longer than it ever pauses between two turns that are due, so that
/// what happens next is noticed for its own sake.
fn rests(agent: &Agent) {
    let threads = format!("/proc/{}/task", agent.id());
    let switches = || -> String {
        let tasks = fs::read_dir(&threads).unwrap();
        let status = |path: PathBuf| fs::read_to_string(path.join("status")).unwrap_or_default();
        tasks.map(|task| status(task.unwrap().path())).collect()
    };
    assert!(comes_true(|| {
        let before = switches();
        thread::sleep(Duration::from_millis(400));
        switches() == before
    }));
}

fn has_plugin(node: &Node, bin: &str, name: &str) -> bool {
    holds(node, &format!("{bin}/{name}"), &plugin(name), 0o755)
}

fn holds(node: &Node, inside: &str, content: &[u8], mode: u32) -> bool {
    let path = node.path(inside);
    let found = fs::read(&path).and_then(|found| Ok((found, fs::metadata(&path)?.mode())));
    found.is_ok_and(|(found, had)| found == content && had & 0o7777 == mode)
}

/// Reads the disk again and again, without the agent.
fn comes_true(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > DEADLINE {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}
