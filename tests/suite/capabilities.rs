//! The capabilities that the DaemonSet keeps: they are enough for all that the agent does, and each is needed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node, behind};
use crate::support::release::{PLUGINS, other_build};
use crate::support::skipped;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base/daemonset.yaml");
const BRIDGE: &str = "opt/cni/bin/bridge";
const FOREIGN: &str = "etc/cni/net.d/05-other.conflist";

/// Something that happens to a node, and the capability without which it cannot be repaired.
struct Damage {
    what: &'static str,
    needs: Option<&'static str>,
    deed: fn(&Node),
}

const DAMAGES: [Damage; 7] = [
    Damage {
        what: "files given away",
        needs: Some("CHOWN"),
        deed: |node| {
            for file in [BRIDGE, CONFLIST] {
                give(node, file, 1000, 0o600);
            }
        },
    },
    Damage {
        what: "files given to another group",
        // An owner may give a file to any group that the owner is in.
        needs: None,
        deed: |node| {
            for file in [BRIDGE, CONFLIST] {
                chown(node.path(file), None, Some(1000)).unwrap();
            }
        },
    },
    Damage {
        what: "directories of somebody else, fault 22",
        needs: Some("DAC_OVERRIDE"),
        deed: |node| {
            give_directories(node);
            fs::remove_file(node.path(BRIDGE)).unwrap();
        },
    },
    Damage {
        what: "a foreign conflist that only its owner may read",
        needs: None,
        deed: |node| {
            let network =
                r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}"#;
            replace(node, FOREIGN, network.as_bytes());
        },
    },
    Damage {
        what: "other bytes, closed to all but their owner",
        needs: None,
        deed: |node| {
            replace(node, BRIDGE, &other_build("bridge"));
        },
    },
    Damage {
        what: "modes",
        needs: None,
        deed: |node| {
            mode(node, BRIDGE, 0o4755);
            mode(node, CONFLIST, 0o000);
        },
    },
    Damage {
        what: "everything gone, the directories too",
        needs: None,
        deed: |node| {
            // Each in one step: the agent puts files back faster than they could be removed one by one.
            for directory in [BIN, CONF] {
                let away = format!("{directory}.away");
                fs::rename(node.path(directory), node.path(&away)).unwrap();
            }
        },
    },
];

fn give(node: &Node, inside: &str, uid: u32, bits: u32) {
    chown(node.path(inside), Some(uid), Some(uid)).unwrap();
    mode(node, inside, bits);
}

fn mode(node: &Node, inside: &str, bits: u32) {
    fs::set_permissions(node.path(inside), Permissions::from_mode(bits)).unwrap();
}

/// Puts a file of another user in place that only its owner may read. In one step: the agent would be faster than a
/// `chmod` afterwards.
fn replace(node: &Node, inside: &str, content: &[u8]) {
    let new = format!("{inside}.new");
    node.write(&new, content, 0o600);
    give(node, &new, 1000, 0o600);
    fs::rename(node.path(&new), node.path(inside)).unwrap();
}

/// Directories and their parents as a node's image or a provisioning tool may leave them.
fn give_directories(node: &Node) {
    for directory in [BIN, CONF, "opt/cni", "etc/cni"] {
        give(node, directory, 1001, 0o700);
    }
}

/// The capabilities that the DaemonSet adds after it dropped all.
fn granted() -> Vec<String> {
    let text = fs::read_to_string(MANIFEST).unwrap();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    let capabilities =
        &manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]));
    serde_json::from_value(capabilities["add"].clone()).unwrap()
}

/// The program as the runtime starts it in the pod: with only these of root's capabilities, and no way to get more.
fn confined(node: &Node, arguments: &str, capabilities: &[String]) -> Command {
    let bounds = capabilities.iter().fold("-all".to_owned(), |set, one| {
        format!("{set},+{}", one.to_lowercase())
    });
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        "--bounding-set",
        &bounds,
        "--inh-caps=-all",
        "--no-new-privs",
    ]);
    behind(setpriv, &node.command(arguments))
}

fn agent(node: &Node, capabilities: &[String]) -> Agent {
    node.listen_anywhere();
    Agent::spawn(&mut confined(node, "run", capabilities))
}

/// A configured node that sets foreign conflists aside.
fn declared() -> Node {
    let node = Node::declared();
    node.declare_more("drift: {foreignConflists: disable}\n");
    node
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// With the granted capabilities, the agent installs below directories of another user, repairs whatever happens to the
/// files, and ends on SIGTERM; and `uninstall` removes everything.
#[test]
fn what_is_granted_is_enough() {
    if !is_root() {
        return skipped("only root has capabilities to drop");
    }
    let granted = granted();
    let node = declared();
    for directory in [BIN, CONF] {
        fs::create_dir_all(node.path(directory)).unwrap();
    }
    give_directories(&node);
    let agent = agent(&node, &granted);
    agent.becomes_ready();
    for Damage { what, deed, .. } in DAMAGES {
        deed(&node);
        agent.becomes_ready();
        let verify = node.run("verify");
        assert_eq!(verify.code, Some(0), "{what}: {verify}");
    }
    agent.stop();
    for command in ["plan", "verify", "install --offline", "uninstall"] {
        crate::support::node::start(&mut confined(&node, command, &granted))
            .end()
            .exits(0);
    }
    for file in PLUGINS.map(|plugin| format!("{BIN}/{plugin}")) {
        assert!(!node.has(&file), "{file}");
    }
    assert!(!node.has(CONFLIST));
}

/// Without any one of them, some damage is not repaired.
#[test]
fn none_is_granted_that_is_not_needed() {
    if !is_root() {
        return skipped("only root has capabilities to drop");
    }
    let granted = granted();
    for without in &granted {
        let rest: Vec<String> = granted
            .iter()
            .filter(|one| *one != without)
            .cloned()
            .collect();
        let mut needed = false;
        for Damage { what, needs, deed } in DAMAGES {
            let node = declared();
            node.run("install").exits(0);
            let agent = agent(&node, &rest);
            agent.becomes_ready();
            deed(&node);
            if needs == Some(without) {
                // The question comes after the damage, so the answer is about it.
                assert!(!agent.is_ready(), "{what} was repaired without {without}");
                needed = true;
            } else {
                agent.becomes_ready();
            }
            agent.stop();
        }
        assert!(needed, "nothing here shows what {without} is needed for");
    }
}
