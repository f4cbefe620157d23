//! What the kernel refuses is told with advice that fits: drawn from what the process has, and from what is at the path.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use crate::support::agent::Agent;
use crate::support::namespace::{in_private_mounts, remount};
use crate::support::node::{CONF, CONFLIST, Node, behind, start};
use crate::support::skipped;

const THEM: u32 = 1001;

/// Sets or clears a flag; false where the file system has none.
fn chattr(change: &str, path: &Path) -> bool {
    let output = Command::new("chattr").arg(change).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

fn give_away(node: &Node, inside: &str, mode: u32) {
    let path = node.path(inside);
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    chown(&path, Some(THEM), Some(THEM)).unwrap();
}

/// The program that takes something from the process, the obstacle, and parts of the advice.
type Case = (&'static [&'static str], fn(&Node), &'static [&'static str]);

const CASES: [Case; 6] = [
    (
        &["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
        |node| give_away(node, CONF, 0o700),
        &[
            "etc/cni/net.d: Permission denied; this process is root without CAP_DAC_OVERRIDE; add DAC_OVERRIDE under",
        ],
    ),
    (
        &["setpriv", "--bounding-set=-fowner"],
        |node| {
            node.write(CONFLIST, b"theirs", 0o644);
            give_away(node, CONFLIST, 0o644);
            give_away(node, CONF, 0o1777);
        },
        &[
            "etc/cni/net.d belongs to uid 1001 and is sticky",
            "chmod -t it, or add FOWNER under",
        ],
    ),
    (
        &["setpriv", "--bounding-set=-chown"],
        |node| give_away(node, CONFLIST, 0o600),
        &["this process is root without CAP_CHOWN; add CHOWN under"],
    ),
    (
        &["setpriv", "--bounding-set=-linux_immutable"],
        |node| {
            node.write(CONFLIST, b"theirs", 0o600);
            chattr("+i", &node.path(CONF));
        },
        &[
            "is immutable or append-only (lsattr); run chattr -i -a ",
            "etc/cni/net.d",
        ],
    ),
    (
        &["unshare", "--user", "--map-root-user", "--"],
        |node| give_away(node, CONF, 0o700),
        &[
            "Permission denied; this process is root only in a user namespace of its own",
            "hostUsers: true",
        ],
    ),
    (
        &["setpriv", "--reuid=1002", "--regid=1002", "--clear-groups"],
        |node| give_away(node, CONF, 0o700),
        &["this process runs as uid 1002; run it as root, or with CAP_"],
    ),
];

#[test]
fn the_advice_fits_what_the_process_lacks() {
    if !geteuid().is_root() {
        return skipped("to take something from root needs root");
    }
    for (number, (wrapper, obstruct, parts)) in CASES.iter().enumerate() {
        let node = Node::installed();
        obstruct(&node);
        if number == 3 && !chattr("+i", &node.path(CONF)) {
            skipped("this file system knows no immutable directories");
            continue;
        }
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]);
        let outcome = start(&mut behind(command, &node.command("install"))).end();
        chattr("-i", &node.path(CONF));
        outcome.exits(2);
        for part in *parts {
            outcome.says(part);
        }
        if !wrapper.iter().any(|option| option.contains("reuid")) {
            outcome.does_not_say("as root");
        }
    }
}

/// Only the mount is read-only, as with `readOnly: true` in a pod: that is what has to change.
#[test]
fn a_read_only_mount_is_named() {
    in_private_mounts(&a_read_only_mount_is_named, |scratch| {
        let node = Node::within(scratch);
        node.declare_release();
        node.run("install").exits(0);
        node.write(CONFLIST, b"theirs", 0o600);
        remount(&node.path(CONF), "ro");
        let outcome = node.run("install");
        let advice = format!(
            "only the mount {} is read-only; mount it read-write",
            node.shown(CONF)
        );
        outcome.exits(2).says("Read-only file system").says(&advice);
    });
}

/// While the conflist's new name waits, the one under the former name is the node's network. Nobody is told to remove it.
#[test]
fn our_conflist_under_its_former_name_is_no_rival() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    let text = fs::read_to_string(node.config()).unwrap();
    let renamed = "  fileName: 20-pods.conflist\n  requires: [{file: /run/gate}]\n";
    node.redeclare(&text.replace("  fileName: 10-pods.conflist\n", renamed));
    agent.becomes_unready("/run/gate");
    let told = agent.get("/readyz?verbose").body;
    let line = "10-pods.conflist is our own conflist under its former name; it stays in force until 20-pods.conflist is in place";
    assert!(told.contains(line), "{told}");
    for wrong in ["remove it", "same name", "remove that file"] {
        assert!(!told.contains(wrong), "{told}");
    }
    assert!(node.has(CONFLIST));
    node.write("run/gate", b"", 0o644);
    agent.becomes_ready();
    assert_eq!(node.names(CONF), ["20-pods.conflist"]);
    agent.stop();
}
