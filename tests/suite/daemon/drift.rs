//! Every way in which a file can differ from what is declared. Each is seen, repaired without any source, and reported.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, truncate};

use super::{BRIDGE, ReportedDrift, drifts, node, only_drift};
use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST};
use crate::support::release::{PLUGINS, other_build, plugin};

const FILE: &str = "10-pods.conflist";

const PLACED: &str = "placed from the store";
const WRITTEN: &str = "written";
const SET: &str = "mode and owner set";

/// Breaks one file under a running agent, and checks that it is repaired without any source when the agent is ready
/// again. Returns its entry in the drift log.
fn heals(file: &str, kind: &str, how: &str, tamper: impl FnOnce(&Path)) -> ReportedDrift {
    let node = node();
    let right = node.tree();
    let agent = Agent::ready(&node);
    tamper(&node.path(file));
    agent.becomes_ready();
    // The request came after the damage, so the answer is about it.
    let repaired = node.tree();
    assert!(
        right.get(file).has_same_content(repaired.get(file)),
        "{:?}",
        repaired.get(file)
    );
    assert_eq!(
        right.changes(&repaired),
        [file],
        "nothing else is even touched"
    );

    let reported = only_drift(&agent);
    assert_eq!(
        (&*reported.kind, &*reported.outcome),
        (kind, "healed"),
        "{reported:?}"
    );
    assert_eq!(reported.path, node.shown(file));
    assert_eq!(reported.how.as_deref(), Some(how), "{reported:?}");
    assert_eq!(reported.times, 1);
    let name = file.rsplit_once('/').map_or(file, |(_, name)| name);
    let counted = format!("cni_keeper_drift_total{{kind=\"{kind}\",file=\"{name}\"}}");
    assert_eq!(agent.metric(&counted), 1.0);
    let healed = "cni_keeper_repairs_total{result=\"healed\"}";
    assert_eq!(agent.metric(healed), 1.0);
    assert_eq!(agent.downloads(), 0.0);
    agent.stop();
    reported
}

fn mode(bits: u32) -> impl Fn(&Path) {
    move |path| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap()
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

/// Puts something in the place of a file in one step.
fn replace(path: &Path, with: impl FnOnce(&Path)) {
    let new = path.with_file_name("replacement");
    with(&new);
    fs::rename(new, path).unwrap();
}

/// Puts an empty directory in the place of a file. In one step: an agent that sees the file gone is as fast as the
/// next `mkdir`.
fn exchange_for_directory(path: &Path) {
    let aside = path.with_file_name("aside");
    fs::create_dir(&aside).unwrap();
    let flags = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, &aside, AT_FDCWD, path, flags).unwrap();
    remove(&aside);
}

fn executable(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    mode(0o755)(path);
}

fn short(content: &[u8]) -> String {
    let digest = cni_keeper::model::Sha256::of(content).to_string();
    format!("sha256 {}", &digest[..12])
}

#[test]
fn a_removed_plugin() {
    let reported = heals(BRIDGE, "missing", PLACED, remove);
    assert_eq!(reported.before, "absent");
    assert_eq!(reported.after, Some(short(&plugin("bridge"))));
}

#[test]
fn a_removed_conflist() {
    let reported = heals(CONFLIST, "missing", WRITTEN, remove);
    assert_eq!(reported.before, "absent");
}

/// Fault 32: another file is renamed over it.
#[test]
fn fault_32_a_plugin_renamed_over() {
    let other = other_build("bridge");
    let reported = heals(BRIDGE, "content", PLACED, |path| {
        replace(path, |new| executable(new, &other));
    });
    assert_eq!(reported.before, short(&other));
    assert_eq!(reported.by, Some(format!("uid {}", nix::unistd::geteuid())));
    assert_eq!(reported.after, Some(short(&plugin("bridge"))));
}

/// Fault 32: a file is renamed away. The file under its new name is left alone.
#[test]
fn fault_32_a_plugin_renamed_away() {
    let node = node();
    let agent = Agent::ready(&node);
    let right = node.tree();
    let backup = "opt/cni/bin/bridge.bak";
    fs::rename(node.path(BRIDGE), node.path(backup)).unwrap();
    agent.becomes_ready();
    let repaired = node.tree();
    assert_eq!(right.changes(&repaired), [BRIDGE, backup]);
    assert!(right.get(BRIDGE).has_same_content(repaired.get(backup)));
    assert!(right.get(BRIDGE).has_same_content(repaired.get(BRIDGE)));
    let reported = only_drift(&agent);
    assert_eq!(
        (&*reported.kind, reported.how.as_deref()),
        ("missing", Some(PLACED))
    );
    agent.stop();
}

/// Fault 24: a directory is removed with its content. Foreign files in it are lost; the agent cannot restore them.
#[test]
fn a_removed_directory() {
    for (dir, how, files) in [(BIN, PLACED, &PLUGINS[..]), (CONF, WRITTEN, &[FILE][..])] {
        let node = node();
        let right = node.tree();
        let agent = Agent::ready(&node);
        // In one step: otherwise the agent may see it disappear file by file.
        let aside = node.config().with_file_name("aside");
        fs::rename(node.path(dir), &aside).unwrap();
        fs::remove_dir_all(aside).unwrap();
        agent.becomes_ready();
        let repaired = node.tree();
        assert_eq!(node.names(dir), files);
        for file in files {
            let file = format!("{dir}/{file}");
            assert!(
                right.get(&file).has_same_content(repaired.get(&file)),
                "{file}"
            );
        }
        let reported = only_drift(&agent);
        assert_eq!(
            (&*reported.kind, reported.path),
            ("dir-missing", node.shown(dir))
        );
        assert_eq!(reported.how.as_deref(), Some(how));
        assert_eq!(reported.before, "absent");
        assert_eq!(agent.downloads(), 0.0);
        agent.stop();
    }
}

/// Damage while no agent ran is found before the first answer, and reported: the ledger knows what was placed.
#[test]
fn damage_done_while_it_was_away() {
    let node = node();
    let right = node.tree();
    remove(&node.path(BRIDGE));
    mode(0o4755)(&node.path("opt/cni/bin/loopback"));
    fs::write(node.path(CONFLIST), "{}").unwrap();
    let agent = Agent::start(&node);
    agent.becomes_ready();
    assert!(right.has_same_content(&node.tree()));
    let mut reported = drifts(&agent);
    reported.sort_by(|a, b| a.kind.cmp(&b.kind));
    let kinds: Vec<&str> = reported.iter().map(|reported| &*reported.kind).collect();
    assert_eq!(kinds, ["content", "missing", "suid"]);
    assert!(reported.iter().all(|reported| reported.outcome == "healed"));
    agent.stop();
}

/// Fault 32: a hard link of another file in its place; that file is left alone.
#[test]
fn fault_32_a_plugin_replaced_by_a_hard_link() {
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let other = elsewhere.path().join("other");
    executable(&other, b"another one");
    heals(BRIDGE, "content", PLACED, |path| {
        replace(path, |new| fs::hard_link(&other, new).unwrap());
    });
    assert_eq!(fs::read(other).unwrap(), b"another one");
}

/// Fault 32: emptied and cut.
#[test]
fn fault_32_a_plugin_cut_in_place() {
    for length in [0, 1000] {
        let reported = heals(BRIDGE, "content", PLACED, |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(length).unwrap();
        });
        let cut = usize::try_from(length).unwrap();
        assert_eq!(reported.before, short(&plugin("bridge")[..cut]));
    }
}

/// Fault 32: cut by `truncate(2)`, after which no writer's close gives an event.
#[test]
fn fault_32_a_plugin_cut_by_its_name() {
    heals(BRIDGE, "content", PLACED, |path| truncate(path, 0).unwrap());
}

/// Fault 32.
#[test]
fn fault_32_a_plugin_appended_to() {
    heals(BRIDGE, "content", PLACED, |path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"another build").unwrap();
    });
}

/// Fault 31: healed without a download, and without writing the file again.
#[test]
fn fault_31_other_permissions() {
    for bits in [0o644, 0o777, 0o000] {
        let reported = heals(BRIDGE, "mode", SET, mode(bits));
        assert_eq!(reported.before, format!("mode {bits:04o}"));
        assert_eq!(reported.after.as_deref(), Some("mode 0755"));
    }
}

/// Fault 31: a conflist that everybody may read.
#[test]
fn fault_31_a_conflist_that_others_may_read() {
    let reported = heals(CONFLIST, "mode", SET, mode(0o644));
    assert_eq!(reported.before, "mode 0644");
    assert_eq!(reported.after.as_deref(), Some("mode 0600"));
}

/// Fault 31.
#[test]
fn fault_31_another_owner() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::skipped("only root gives files away");
    }
    for file in [BRIDGE, CONFLIST] {
        let reported = heals(file, "owner", SET, |path| {
            chown(path, Some(1000), Some(1001)).unwrap();
        });
        assert_eq!(reported.before, "owner 1000:1001");
        assert_eq!(reported.after.as_deref(), Some("owner 0:0"));
        assert_eq!(reported.by, None, "the new owner did not do it");
    }
}

/// Fault 32: set-uid, set-gid, sticky.
#[test]
fn fault_32_a_plugin_that_runs_as_its_owner() {
    for bits in [0o4755, 0o2755, 0o1755] {
        let reported = heals(BRIDGE, "suid", SET, mode(bits));
        assert_eq!(reported.before, format!("mode {bits:04o}"));
    }
}

/// Capabilities, an ACL, a flag: removed at once.
#[test]
fn attributes_that_a_file_must_not_have() {
    let ways: [(&str, &str, &[&str]); 3] = [
        (
            "capability",
            "file capabilities",
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
            "an ACL that lets others write",
            &["setfacl", "-n", "-m", "u:1000:rwx"],
        ),
        ("flags", "immutable or append-only", &["chattr", "+i"]),
    ];
    for (kind, before, command) in ways {
        for file in [BRIDGE, CONFLIST] {
            let reported = heals(file, kind, "attributes removed", |path| {
                let mut give = Command::new(command[0]);
                let output = give.args(&command[1..]).arg(path).output();
                let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
                assert!(output.status.success(), "{output:?}");
            });
            assert_eq!(reported.before, before);
        }
    }
}

/// Fault 32: a symlink, even one to the right bytes, is replaced; its target is left alone.
#[test]
fn fault_32_a_file_replaced_by_a_symlink() {
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let target = elsewhere.path().join("target");
    executable(&target, &plugin("bridge"));
    for (file, how) in [(BRIDGE, PLACED), (CONFLIST, WRITTEN)] {
        let reported = heals(file, "type", how, |path| {
            replace(path, |new| symlink(&target, new).unwrap());
        });
        assert_eq!(reported.before, "a symbolic link");
    }
    assert_eq!(fs::read(target).unwrap(), plugin("bridge"));
    heals(BRIDGE, "type", PLACED, |path| {
        replace(path, |new| symlink("nowhere", new).unwrap());
    });
}

/// Fault 32: the agent must not wait for the other end of a pipe.
#[test]
fn fault_32_a_file_replaced_by_a_pipe() {
    for (file, how) in [(BRIDGE, PLACED), (CONFLIST, WRITTEN)] {
        heals(file, "type", how, |path| {
            replace(path, |new| mkfifo(new, Mode::S_IRWXU).unwrap());
        });
    }
}

/// Faults 18 and 32: a directory is never removed, whoever put it there; it is reported until it is gone.
#[test]
fn fault_32_a_file_replaced_by_a_directory() {
    for (file, check) in [(BRIDGE, "binaries"), (CONFLIST, "conflist")] {
        let node = node();
        let right = node.tree();
        let agent = Agent::ready(&node);
        exchange_for_directory(&node.path(file));
        let refused = agent.get(&format!("/readyz/{check}"));
        assert_eq!(refused.status, 503);
        assert!(
            refused
                .body
                .contains("a directory is never removed, move it away"),
            "{refused:?}"
        );
        let reported = drifts(&agent).remove(0);
        assert_eq!(
            (&*reported.kind, &*reported.outcome),
            ("type", "open"),
            "{reported:?}"
        );
        assert_eq!(reported.before, "a directory");
        fs::remove_dir(node.path(file)).unwrap();
        agent.becomes_ready();
        // It disappeared without the agent. The agent may have seen that nothing was there, or not.
        let reported = drifts(&agent);
        let reported = reported
            .iter()
            .find(|reported| reported.kind == "type")
            .unwrap();
        assert_ne!(reported.outcome, "open");
        assert!(right.has_same_content(&node.tree()));
        agent.stop();
    }
}

/// Fault 32: edited by an operator: in place, as `tee` does, and by renaming, as editors do.
#[test]
fn an_edited_conflist() {
    let edit = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.replace("10.88.0.0", "10.99.0.0")
    };
    heals(CONFLIST, "content", WRITTEN, |path| {
        fs::write(path, edit(path)).unwrap();
    });
    heals(CONFLIST, "content", WRITTEN, |path| {
        let text = edit(path);
        replace(path, |new| {
            fs::write(new, text).unwrap();
            mode(0o600)(new);
        });
    });
}
