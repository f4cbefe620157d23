//! Damage in the state directory: whatever stands under a name of ours is kept, told once, and does not keep the node from
//! being healed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::Mode;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONFLIST, Node, STATE};
use crate::support::release::PLUGINS;

const BRIDGE: &str = "opt/cni/bin/bridge";

/// What the agent keeps in its state directory.
const RECORDS: [&str; 3] = ["ledger.json", "node.json", "pins.json"];
const DIRECTORIES: [&str; 3] = ["store", "spare", "tmp"];

/// Makes damage of a path at which nothing is.
type Make = fn(&Path);
/// A kind of damage.
type Damage = (&'static str, Make);

/// What is no record and no directory of ours.
const OBSTACLES: [Damage; 7] = [
    ("empty", |path| fs::write(path, "").unwrap()),
    ("cut", |path| {
        fs::write(path, "{\"schema\": 1, \"files\": [{\"pl").unwrap();
    }),
    ("something else", |path| fs::write(path, "[[[1]]]").unwrap()),
    ("huge", |path| {
        let file = fs::File::create(path).unwrap();
        file.set_len(1 << 40).unwrap();
    }),
    ("a FIFO", |path| {
        nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    }),
    ("a link to nothing", |path| {
        symlink("/nowhere", path).unwrap();
    }),
    ("a link to a file", |path| {
        symlink("/etc/cni/net.d/10-pods.conflist", path).unwrap();
    }),
];

fn make_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("somebody's"), "text").unwrap();
}

/// Removes what is there, and makes the damage.
fn damage(node: &Node, name: &str, make: fn(&Path)) {
    let path = node.path(&format!("{STATE}/{name}"));
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap();
    } else if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    make(&path);
}

/// Every record with every damage, as (name, kind, what makes it, whether it must be set aside).
fn every_damage() -> Vec<(&'static str, &'static str, Make, bool)> {
    let mut table = Vec::new();
    for record in RECORDS {
        table.extend(OBSTACLES.map(|(kind, make)| (record, kind, make, true)));
        table.push((record, "a directory", make_directory, true));
    }
    for directory in DIRECTORIES {
        table.extend(OBSTACLES.map(|(kind, make)| (directory, kind, make, true)));
    }
    // Of the lock only its being a file counts.
    table.extend(OBSTACLES.map(|(kind, make)| {
        let is_file = ["empty", "cut", "something else", "huge"].contains(&kind);
        ("lock", kind, make, !is_file)
    }));
    table.push(("lock", "a directory", make_directory, true));
    table
}

#[test]
fn no_damage_keeps_the_node_from_being_healed() {
    let node = Node::declared();
    node.run("install").exits(0);
    for (name, kind, make, is_kept) in every_damage() {
        damage(&node, name, make);
        fs::remove_file(node.path(BRIDGE)).unwrap();
        let install = node.run("install");
        install.exits(0);
        assert!(node.has(BRIDGE), "{name}: {kind}");
        if is_kept {
            install.says(&node.shown(&format!("{STATE}/{name} cannot be used: ")));
        }
        node.run("verify").exits(0).does_not_say("cannot be used");
        let names = node.names(STATE);
        let asides = names
            .iter()
            .filter(|aside| aside.starts_with(&format!("{name}.damaged-")));
        let count = asides.count();
        assert!(
            count <= 8 && (count > 0 || !is_kept),
            "{name}: {kind}: {names:?}"
        );
    }
    node.run("uninstall").exits(0).says("done: nothing that");
    assert!(!node.has(CONFLIST));
    assert_eq!(node.names(BIN), [""; 0]);
}

/// Of the files that are set aside from one name, three are kept: the first two and the last one. No directory is removed.
#[test]
fn a_bounded_number_is_kept() {
    let node = Node::declared();
    node.run("install").exits(0);
    for round in 0..9 {
        node.write(
            &format!("{STATE}/ledger.json"),
            format!("round {round}").as_bytes(),
            0o600,
        );
        node.run("install").exits(0);
    }
    let kept = |number: u32| node.read(&format!("{STATE}/ledger.json.damaged-{number}"));
    assert_eq!(
        [kept(1), kept(2), kept(3)],
        [b"round 0", b"round 1", b"round 8"]
    );
    for _ in 0..3 {
        damage(&node, "node.json", make_directory);
        node.run("install").exits(0);
    }
    let names = node.names(STATE);
    let asides = |name: &str| names.iter().filter(|aside| aside.starts_with(name)).count();
    assert_eq!(
        (asides("ledger.json."), asides("node.json.")),
        (3, 3),
        "{names:?}"
    );
}

/// Commands that change nothing go on, and say what they see.
#[test]
fn commands_that_change_nothing_name_the_damage_and_keep_it() {
    let node = Node::declared();
    node.run("install").exits(0);
    for (name, kind, make, _) in every_damage() {
        // Only what a pass reads. The test itself cannot read the huge file.
        if !["ledger.json", "store", "spare"].contains(&name) || kind == "huge" {
            continue;
        }
        damage(&node, name, make);
        let before = node.whole_tree();
        let verify = node.run("verify");
        verify.says(&node.shown(&format!("{STATE}/{name} cannot be used: ")));
        node.run("plan").does_not_say("error");
        assert_eq!(before, node.whole_tree(), "{name}: {kind}");
        node.run("install").exits(0);
    }
}

/// What a newer version wrote is kept for it, and what is understood of it is used: nothing has to be downloaded.
#[test]
fn a_ledger_of_a_newer_version() {
    let node = Node::installed();
    let ledger = format!("{STATE}/ledger.json");
    let text = String::from_utf8(node.read(&ledger)).unwrap();
    let newer = text
        .replace("\"schema\": 1", "\"schema\": 2, \"leases\": [1]")
        .replace("\"place\": \"bin\"", "\"place\": \"bin\", \"links\": 1");
    node.write(&ledger, newer.as_bytes(), 0o600);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.run("install --offline")
        .exits(0)
        .says("a newer cni-keeper wrote it, with schema 2, and this one knows schema 1; it is kept as ledger.json.schema-2");
    assert_eq!(node.read(&format!("{ledger}.schema-2")), newer.as_bytes());
    node.run("verify").exits(0);
    node.run("uninstall").exits(0).says("done: nothing that");
    assert_eq!(node.names(BIN), [""; 0]);
    assert_eq!(node.read(&format!("{ledger}.schema-2")), newer.as_bytes());
}

/// A running agent remembers its ledger, so it needs no source to make a new one.
#[test]
fn a_running_agent_mends_its_ledger_from_memory() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    for (kind, make) in OBSTACLES
        .into_iter()
        .chain([("a directory", make_directory as Make)])
    {
        agent.while_stopped(|| {
            damage(&node, "ledger.json", make);
            fs::remove_file(node.path(BRIDGE)).unwrap();
        });
        agent.until(kind, |agent| agent.is_ready() && node.has(BRIDGE));
    }
    let status = agent.json("/status").to_string();
    assert!(status.contains("ledger.json cannot be used: "), "{status}");
    let log = agent.stop();
    assert!(log.contains("it is kept as ledger.json.damaged-1"), "{log}");
    node.run("uninstall").exits(0).says("done: nothing that");
    assert_eq!(node.names(BIN), [""; 0]);
}

/// Directories that were replaced while the agent runs are made again.
#[test]
fn a_running_agent_makes_its_directories_again() {
    let node = Node::declared();
    let agent = Agent::ready(&node);
    for name in DIRECTORIES {
        for (kind, make) in OBSTACLES {
            agent.while_stopped(|| {
                damage(&node, name, make);
                fs::remove_file(node.path(BRIDGE)).unwrap();
            });
            agent.until(kind, |agent| agent.is_ready() && node.has(BRIDGE));
        }
    }
    agent.stop();
    node.run("verify").exits(0);
}

/// A directory under the name of a copy stands in nobody's way.
#[test]
fn directories_in_place_of_copies() {
    let node = Node::declared();
    node.run("install").exits(0);
    for part in ["store", "spare"] {
        for name in node.names(&format!("{STATE}/store")) {
            if name.len() == 64 {
                damage(&node, &format!("{part}/{name}"), make_directory);
            }
        }
    }
    for plugin in PLUGINS {
        fs::remove_file(node.path(&format!("{BIN}/{plugin}"))).unwrap();
    }
    node.run("install").exits(0);
    node.run("verify").exits(0);
    let agent = Agent::ready(&node);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    agent.becomes_ready();
    agent.stop();
    node.run("uninstall").exits(0).says("done: nothing that");
}

/// Modes of what is below the state directory: where nobody else could enter, they are set right. Where others could have
/// written a record, it is not trusted.
#[test]
fn modes_below_the_state_directory() {
    let chmod = |node: &Node, name: &str, mode: u32| {
        let path = node.path(&format!("{STATE}/{name}"));
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |node: &Node, name: &str| {
        let path = node.path(&format!("{STATE}/{name}"));
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    };
    for wrong in [0o666, 0o644, 0o620, 0o4600] {
        let node = Node::installed();
        chmod(&node, "ledger.json", wrong);
        node.run("install").exits(0).does_not_say("cannot be used");
        assert_eq!(mode(&node, "ledger.json"), 0o600);
    }
    for (wrong, is_trusted) in [(0o644, true), (0o666, false), (0o620, false)] {
        let node = Node::declared();
        node.run("install").exits(0);
        chmod(&node, "", 0o755);
        chmod(&node, "ledger.json", wrong);
        let install = node.run("install");
        install.exits(0);
        match is_trusted {
            true => install.does_not_say("cannot be used"),
            false => install.says("so that other users can have changed it; it is kept as"),
        };
        assert_eq!(mode(&node, "ledger.json"), 0o600);
    }
    for part in DIRECTORIES {
        let node = Node::installed();
        chmod(&node, part, 0o777);
        node.run("install").exits(0).says("it has mode 0700 again");
        assert_eq!(mode(&node, part), 0o700);
    }
}
