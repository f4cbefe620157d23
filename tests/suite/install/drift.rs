//! Every way in which a file can differ from what is declared: verify and plan name it, install repairs it
//! without any source, and nothing else on the disk is touched.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::support::node::{CONF, CONFLIST, Node};
use crate::support::release::{other_build, plugin};

pub(super) const BRIDGE: &str = "opt/cni/bin/bridge";
const FOREIGN: &str = "opt/cni/bin/cilium-cni";

/// A node with files that are not ours in both directories.
pub(super) fn node() -> Node {
    let node = Node::installed();
    node.write(FOREIGN, b"not ours", 0o700);
    node.write("etc/cni/net.d/99-other.conf", b"{}", 0o640);
    node.write("etc/cni/net.d/README", b"not ours", 0o644);
    node
}

/// Breaks one file, and checks that it is named and repaired.
fn heals(file: &str, kind: &str, reported: &str, step: &str, tamper: impl Fn(&Path)) {
    let node = node();
    let right = node.tree();
    tamper(&node.path(file));
    let broken = node.tree();
    node.run("verify")
        .exits(1)
        .row(kind, &node.shown(file), reported)
        .says("\ndrift: ");
    node.run("plan").exits(1).row(step, &node.shown(file), "");
    assert_eq!(broken, node.tree(), "verify and plan change nothing");

    node.run("install --offline")
        .exits(0)
        .row(step, &node.shown(file), "")
        .says("done: 4 files are as declared");
    let repaired = node.tree();
    assert_eq!(broken.changes(&repaired), [file]);
    assert!(right.has_same_content(&repaired));
    node.run("verify").exits(0);
    node.run("install --offline").says("nothing to do").exits(0);
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn mode(bits: u32) -> impl Fn(&Path) {
    move |path| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap()
}

pub(super) fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_removed_plugin() {
    heals(
        BRIDGE,
        "missing",
        "from cni-plugins v1.1.1",
        "place",
        remove,
    );
}

/// Fault 32: a file is renamed away. The file under its new name is left alone.
#[test]
fn a_plugin_renamed_away() {
    let node = node();
    fs::rename(node.path(BRIDGE), node.path("opt/cni/bin/bridge.bak")).unwrap();
    let broken = node.tree();
    node.run("install --offline").exits(0);
    let repaired = node.tree();
    assert_eq!(broken.changes(&repaired), [BRIDGE]);
    assert!(node.read(BRIDGE) == plugin("bridge"));
}

/// Fault 32: another file is renamed over it.
#[test]
fn a_plugin_replaced() {
    heals(BRIDGE, "content", "has sha256 ", "place", |path| {
        let other = path.with_file_name("other");
        fs::write(&other, other_build("bridge")).unwrap();
        mode(0o755)(&other);
        fs::rename(other, path).unwrap();
    });
}

/// Fault 27: a changed bit behind the same size and the same times.
#[test]
fn fault_27_a_flipped_bit_with_the_time_put_back() {
    heals(BRIDGE, "content", "has sha256 ", "place", |path| {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    });
}

/// Fault 32: emptied, cut, appended to.
#[test]
fn a_plugin_of_another_length() {
    for length in [0, 1000] {
        heals(BRIDGE, "content", "has sha256 ", "place", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(length).unwrap();
        });
    }
    heals(BRIDGE, "content", "has sha256 ", "place", |path| {
        append(path, b"\n");
    });
}

/// Fault 31: mode and owner are repaired in place, without a copy.
#[test]
fn fault_31_mode_and_owner() {
    heals(
        BRIDGE,
        "mode",
        "has mode 0644, expected 0755",
        "fix",
        mode(0o644),
    );
    heals(
        BRIDGE,
        "mode",
        "has mode 0777, expected 0755",
        "fix",
        mode(0o777),
    );
    heals(
        CONFLIST,
        "mode",
        "has mode 0666, expected 0600",
        "fix",
        mode(0o666),
    );
    if !is_root() {
        println!("skipped: only root gives files away");
        return;
    }
    for file in [BRIDGE, CONFLIST] {
        heals(
            file,
            "owner",
            "belongs to 1001:0, expected 0:0",
            "fix",
            |path| chown(path, Some(1001), None).unwrap(),
        );
    }
    heals(
        BRIDGE,
        "owner",
        "belongs to 0:7, expected 0:0",
        "fix",
        |path| chown(path, None, Some(7)).unwrap(),
    );
}

/// Fault 32: set-uid, set-gid and sticky bits.
#[test]
fn suid() {
    for bits in [0o4755, 0o2755, 0o1755] {
        let reported = format!("has mode {bits:o}: set-uid, set-gid or sticky");
        heals(BRIDGE, "suid", &reported, "fix", mode(bits));
    }
    // If the bytes differ as well, the content decides how it is repaired. The bit must not survive that.
    heals(BRIDGE, "content", "has sha256 ", "place", |path| {
        append(path, b"x");
        mode(0o6777)(path);
    });
}

/// What a file may have beside content, mode and owner: the words of verify, the kind, and who puts it there.
const ATTRIBUTES: [(&str, &str, &[&str]); 6] = [
    // `cap_sys_admin+ep`.
    (
        "capability",
        "has file capabilities",
        &[
            "setfattr",
            "-n",
            "security.capability",
            "-v",
            "0x0100000200002000000000000000000000000000",
        ],
    ),
    (
        "acl",
        "has an ACL that lets others write",
        // The mask suspends it, so the mode does not show it.
        &["setfacl", "-n", "-m", "u:1000:rw"],
    ),
    (
        "acl",
        "has an ACL that lets others write",
        &["setfacl", "-n", "-m", "g:1000:rwx"],
    ),
    ("flags", "is immutable or append-only", &["chattr", "+i"]),
    ("flags", "is immutable or append-only", &["chattr", "+a"]),
    ("flags", "is immutable or append-only", &["chattr", "+ia"]),
];

/// Capabilities, an ACL with which others may write, and flags are part of a file's state, as the mode is.
#[test]
fn attributes() {
    if !is_root() {
        println!("skipped: only root gives attributes away");
        return;
    }
    for file in [BRIDGE, CONFLIST] {
        for (kind, reported, command) in ATTRIBUTES {
            let give = |path: &Path| {
                let output = Command::new(command[0])
                    .args(&command[1..])
                    .arg(path)
                    .output();
                output.is_ok_and(|output| output.status.success())
            };
            // Whether the kernel takes it here.
            let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let probe = scratch.path().join("probe");
            fs::write(&probe, "").unwrap();
            let is_taken = give(&probe);
            let _ = Command::new("chattr").arg("-ia").arg(&probe).output();
            if !is_taken {
                println!("skipped: {command:?} does not work here");
                continue;
            }
            let kept = (fs::metadata(&probe).unwrap().permissions().mode()) & 0o077;
            assert_eq!(kept & 0o022, 0, "{command:?} shows in the mode");
            heals(file, kind, reported, "fix", |path| assert!(give(path)));
        }
    }
}

/// Fault 32: a hard link elsewhere keeps its content; only our name gets a new file.
#[test]
fn a_hard_link_is_not_written_through() {
    let node = node();
    let link = node.path("opt/cni/bin/linked");
    fs::hard_link(node.path(BRIDGE), &link).unwrap();
    append(&link, b"x");
    let edited = fs::read(&link).unwrap();
    node.run("verify").row("content", &node.shown(BRIDGE), "");
    node.run("install --offline").exits(0);
    assert!(node.read(BRIDGE) == plugin("bridge"));
    assert!(fs::read(&link).unwrap() == edited);
}

#[test]
fn a_conflist_removed_or_edited() {
    heals(CONFLIST, "missing", "from configuration", "write", remove);
    heals(CONFLIST, "content", "has sha256 ", "write", |path| {
        File::create(path).unwrap();
    });
    heals(CONFLIST, "content", "has sha256 ", "write", |path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replace("cni0", "br-lan")).unwrap();
    });
}

/// The plan shows what would become of an edit, line by line.
#[test]
fn the_plan_shows_an_edited_conflist_as_a_diff() {
    let node = Node::installed();
    let text = String::from_utf8(node.read(CONFLIST)).unwrap();
    node.write(CONFLIST, text.replace("cni0", "br-lan").as_bytes(), 0o600);
    let path = node.shown(CONFLIST);
    node.run("plan")
        .exits(1)
        .says(&format!("--- {path}\n+++ {path}\n"))
        .says("-      \"bridge\": \"br-lan\",\n+      \"bridge\": \"cni0\",\n");
}

/// A conflist that is renamed to a name that no runtime reads is written again; the renamed file is not ours to remove.
#[test]
fn a_conflist_renamed_away() {
    let node = node();
    let away = format!("{CONF}/10-pods.conflist.bak");
    fs::rename(node.path(CONFLIST), node.path(&away)).unwrap();
    let broken = node.tree();
    node.run("install --offline").exits(0);
    assert_eq!(broken.changes(&node.tree()), [CONFLIST]);
    assert_eq!(node.read(&away), node.read(CONFLIST));
}

/// Several drifts at once are repaired in one run and in the safe order: binaries before the conflist.
#[test]
fn everything_at_once() {
    let node = node();
    let right = node.tree();
    remove(&node.path(BRIDGE));
    append(&node.path("opt/cni/bin/host-local"), b"x");
    mode(0o600)(&node.path("opt/cni/bin/loopback"));
    remove(&node.path(CONFLIST));
    let install = node.run("install --offline --output json").exits(0).json();
    let steps: Vec<String> = install["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let on = step["plugin"].as_str().or(step["name"].as_str()).unwrap();
            format!("{} {on}", step["step"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        steps,
        [
            "place bridge",
            "place host-local",
            "fix-plugin loopback",
            "write-conflist 10-pods.conflist"
        ]
    );
    assert!(right.has_same_content(&node.tree()));
}
