//! Real disks that are full, read-only, two instead of one, or without permission to execute.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::statvfs::statvfs;

use super::limits::through;
use super::node::{Node, Site, file, message, ours};
use super::scenario::{Scenario, in_bin};
use super::stepper::{self, Injection};
use crate::support::memory_cgroup::MemoryCgroup;
use crate::support::namespace::{in_private_mounts, mount_tmpfs, remount};

/// The block size of tmpfs.
const PAGE: u64 = 4096;

/// The space that files of these sizes take.
fn space(sizes: impl IntoIterator<Item = usize>) -> u64 {
    let pages = sizes.into_iter().map(|size| (size as u64).div_ceil(PAGE));
    pages.sum::<u64>() * PAGE
}

fn used(mount: &Path) -> u64 {
    let now = statvfs(mount).unwrap();
    (now.blocks() - now.blocks_free()) * now.fragment_size()
}

/// Gives a tmpfs another size or number of inodes.
fn limit(mount: &Path, options: &str) {
    let options = format!("remount,{options}");
    let mounted = Command::new("mount")
        .args(["-o", &options])
        .arg(mount)
        .status();
    assert!(mounted.unwrap().success(), "{options}");
}

/// A node on a tmpfs of its own, as a copy of another one.
fn on_tmpfs(site: &Site, like: &Node) -> Node {
    let root = site.path().join("mounted");
    fs::create_dir_all(&root).unwrap();
    mount_tmpfs(&root, "size=1g");
    let node = Node::at(&root);
    like.copy_to(&root);
    node
}

fn unmount(node: &Node) {
    let done = Command::new("umount").arg(node.root()).status();
    assert!(done.unwrap().success());
}

/// Fails unless it ended with 2 and its first error line names a path of the node and has all these parts.
fn refused(node: &Node, output: &Output, parts: &[&str]) {
    let all = message(output);
    assert_eq!(output.status.code(), Some(2), "{all}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find(|line| line.starts_with("error: "));
    let line = line.unwrap_or_else(|| panic!("no error line: {all}"));
    for part in parts.iter().copied().chain(node.root().to_str()) {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
}

/// Fault 9 on a fresh node: the disk is too small for the download, too small for its content, and just large enough.
#[test]
fn fault_9_a_fresh_install_that_does_not_fit() {
    in_private_mounts(&fault_9_a_fresh_install_that_does_not_fit, |scratch| {
        let site = Site::below(scratch);
        let declared = site.declare("a", 1, "");
        let node = on_tmpfs(&site, &site.bare());
        let archive = space([declared.archive_size]);
        let plugins = space(declared.plugins.values().map(Vec::len));
        // The lock file takes one page, for our process id.
        let just = archive + plugins + PAGE;
        for (size, fits) in [(archive, false), (plugins, false), (just, true)] {
            limit(node.root(), &format!("size={size}"));
            let output = node.run(&declared, "install");
            if fits {
                // There was no room for the spares. That costs only a download when they are needed.
                assert!(output.status.success(), "{}", message(&output));
                node.is_as(&declared, "fits");
            } else {
                refused(&node, &output, &["No space left on device; free space"]);
                assert!(node.visible().is_empty(), "{:?}", node.visible());
                assert!(node.temps().is_empty(), "{:?}", node.temps());
                let spares = fs::read_dir(node.state().join("store")).unwrap();
                assert_eq!(spares.count(), 0, "half a set is no use to anybody");
            }
        }
    });
}

/// A disk that is kept in memory counts against the memory limit: what does not fit is told before it is written, with
/// the limit that would be enough, and nobody is killed.
#[test]
fn what_does_not_fit_into_memory_is_told_and_nobody_is_killed() {
    in_private_mounts(
        &what_does_not_fit_into_memory_is_told_and_nobody_is_killed,
        |scratch| {
            let site = Site::below(scratch);
            let declared = site.declare("a", 1, "");
            let (mut refused, mut enough) = (0, 96);
            for limit in [16, 20, 24, 28, 32, 96] {
                let Some(group) = MemoryCgroup::new(limit << 20) else {
                    return;
                };
                let node = on_tmpfs(&site, &site.bare());
                let install = node.command(&declared, "install");
                let output = group.contain(&install).output().unwrap();
                assert_eq!(group.kills(), 0, "{limit} MiB: {}", message(&output));
                if output.status.success() {
                    node.is_as(&declared, "fits");
                } else {
                    let parts = ["is kept in memory (tmpfs)", "resources.limits.memory"];
                    assert!(limit < enough, "{limit} MiB: {}", message(&output));
                    self::refused(&node, &output, &parts);
                    assert!(node.visible().is_empty(), "{:?}", node.visible());
                    assert!(node.temps().is_empty(), "{:?}", node.temps());
                    refused += 1;
                    if let Some(named) = named_limit(&message(&output)) {
                        enough = named;
                    }
                }
                unmount(&node);
            }
            assert!(refused >= 2, "only {refused} limits were too small");
            assert!(enough < 96, "no message named a limit that is enough");
            let group = MemoryCgroup::new((enough + 1) << 20).unwrap();
            let node = on_tmpfs(&site, &site.bare());
            let install = node.command(&declared, "install");
            let output = group.contain(&install).output().unwrap();
            assert!(
                output.status.success(),
                "{enough} MiB: {}",
                message(&output)
            );
        },
    );
}

/// The limit in MiB that a message calls enough.
fn named_limit(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("(resources.limits.memory) to ")?;
    rest.split_once(" MiB or more")?.0.parse().ok()
}

/// Fault 9 on a working node: the old set and its conflist stay as they are, and are replaced once there is room.
#[test]
fn fault_9_an_upgrade_that_does_not_fit() {
    in_private_mounts(&fault_9_an_upgrade_that_does_not_fit, |scratch| {
        let site = Site::below(scratch);
        let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
        let node = on_tmpfs(&site, &site.installed(&old));
        let before = node.visible();
        let now = used(node.root());
        for more in [0, PAGE, space([new.archive_size]) + PAGE] {
            limit(node.root(), &format!("size={}", now + more));
            let output = node.run(&new, "install");
            refused(&node, &output, &["No space left on device; free space"]);
            assert_eq!(node.visible(), before, "{more} more bytes");
            assert!(node.temps().is_empty(), "{:?}", node.temps());
        }
        // The old declaration still holds, to be verified and healed without its source.
        fs::remove_file(site.path().join("a.tgz")).unwrap();
        node.must(&old, "verify");
        fs::remove_file(node.bin().join("ptp")).unwrap();
        node.must(&old, "install");
        node.is_as(&old, "rolled back");

        limit(node.root(), "size=1g");
        node.must(&new, "install");
        node.is_as(&new, "upgraded");
    });
}

/// Fault 9, exactly: the plugins' disk has room for everything except the last block of the last plugin.
#[test]
fn fault_9_the_last_block() {
    in_private_mounts(&fault_9_the_last_block, |scratch| {
        let site = Site::below(scratch);
        let declared = site.declare("a", 1, "");
        let whole = space(declared.plugins.values().map(Vec::len));
        let node = site.bare();
        fs::create_dir_all(node.bin()).unwrap();
        mount_tmpfs(&node.bin(), &format!("size={}", whole - PAGE));
        let output = node.run(&declared, "install");
        refused(
            &node,
            &output,
            &["No space left on device; free space", "/opt/cni/bin/"],
        );
        // The whole set is there before the first of it becomes visible.
        assert!(node.visible().is_empty(), "{:?}", node.visible());
        assert!(node.temps().is_empty(), "{:?}", node.temps());
        limit(&node.bin(), &format!("size={whole}"));
        node.must(&declared, "install");
        node.is_as(&declared, "the last block");
    });
}

/// Fault 10: with every number of inodes that is too small, what is visible is old or new, and the reason is shown.
#[test]
fn fault_10_too_few_inodes() {
    in_private_mounts(&fault_10_too_few_inodes, |scratch| {
        let site = Site::below(scratch);
        let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
        for before in [site.bare(), site.installed(&old)] {
            let fresh = !before.bin().exists();
            let scenario = Scenario::plain(&site, before, &new);
            let mut too_few = 0;
            for more in 0.. {
                let node = on_tmpfs(&site, &scenario.before);
                let now = statvfs(node.root()).unwrap();
                let inodes = now.files() - now.files_free() + more;
                limit(node.root(), &format!("nr_inodes={inodes}"));
                let output = node.run(&new, "install");
                let at = format!("{more} inodes left");
                scenario.is_whole(&node, &at);
                assert!(node.temps().is_empty(), "{at}: {:?}", node.temps());
                let done = output.status.success();
                if done {
                    scenario.is_done(&node, &at);
                } else {
                    refused(&node, &output, &["free space or inodes"]);
                    too_few += 1;
                }
                unmount(&node);
                if done {
                    break;
                }
            }
            // Eight directories, lock, ledger, conflist, three plugins and a temp; an upgrade adds files only.
            let least = if fresh { 10 } else { 2 };
            assert!(too_few >= least, "{too_few} refusals");
        }
    });
}

/// Fault 11: a right node is right on a read-only disk, too.
#[test]
fn fault_11_a_right_node_is_ready_on_a_read_only_disk() {
    in_private_mounts(
        &fault_11_a_right_node_is_ready_on_a_read_only_disk,
        |scratch| {
            let site = Site::below(scratch);
            let declared = site.declare("a", 1, "");
            // There is no source either: a right node needs none.
            let node = site.installed(&declared);
            fs::remove_file(site.path().join("a.tgz")).unwrap();
            for read_only in [node.bin(), node.root().to_owned()] {
                remount(&read_only, "ro");
                for command in ["install", "verify", "plan"] {
                    let output = node.run(&declared, command);
                    assert!(output.status.success(), "{command}: {}", message(&output));
                }
                assert!(
                    fs::write(node.bin().join("x"), "").is_err(),
                    "not read-only"
                );
                node.is_as(&declared, "read-only");
            }
        },
    );
}

/// Fault 11: a wrong file on a read-only disk stays wrong, and one line says why.
#[test]
fn fault_11_a_wrong_node_is_reported_on_a_read_only_disk() {
    in_private_mounts(
        &fault_11_a_wrong_node_is_reported_on_a_read_only_disk,
        |scratch| {
            let site = Site::below(scratch);
            let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
            let node = site.installed(&old);
            for read_only in [node.bin(), node.conf(), node.root().to_owned()] {
                remount(&read_only, "ro");
                for command in ["install", "uninstall"] {
                    if command == "uninstall" && read_only == node.bin() {
                        // The conflist goes first, and would.
                        continue;
                    }
                    let output = node.run(&new, command);
                    refused(&node, &output, &["is read-only; mount it read-write"]);
                    assert!(node.temps().is_empty(), "{:?}", node.temps());
                }
                let output = node.run(&new, "verify");
                assert_eq!(output.status.code(), Some(1), "{}", message(&output));
                let undone = Command::new("umount").arg(&read_only).status();
                assert!(undone.unwrap().success());
                // A read-only confDir lets the new plugins in; back to the old ones for the next round.
                node.must(&old, "install");
                node.is_as(&old, "back");
            }
        },
    );
}

/// Fault 17: killed at any change of a heal, with state and plugins on two file systems.
#[test]
fn fault_17_two_file_systems_survive_a_kill_at_every_change() {
    let test = &fault_17_two_file_systems_survive_a_kill_at_every_change;
    if !stepper::available() {
        return;
    }
    in_private_mounts(test, |scratch| {
        let site = Site::below(scratch);
        let declared = site.declare("a", 1, "");
        let before = site.installed(&declared);
        fs::write(before.bin().join("ptp"), "not a plugin").unwrap();
        fs::write(before.conflist(), "{}").unwrap();
        let mut scenario = Scenario::plain(&site, before, &declared);
        scenario.tampered = [in_bin("ptp")].into();
        let root = site.path().join("split");
        let node = Node::at(&root);
        for dir in [node.bin(), node.state()] {
            fs::create_dir_all(&dir).unwrap();
            mount_tmpfs(&dir, "size=1g");
        }
        for nth in 1.. {
            for dir in [node.bin(), node.state()] {
                Command::new("find")
                    .arg(dir)
                    .args(["-mindepth", "1", "-delete"])
                    .status()
                    .unwrap();
            }
            scenario.before.copy_to(&root);
            let program = node.command(&declared, "install");
            let ended =
                stepper::run(&program, &root, None, nth, Injection::Kill).expect("may trace");
            let Some(change) = ended.hit else {
                assert_eq!(ended.status, Some(0), "{}", ended.message);
                scenario.is_done(&node, "untouched");
                println!("{} kills", nth - 1);
                assert!(nth > 20, "only {nth}: are the changes still seen?");
                return;
            };
            let at = format!("change {nth}, {change}");
            scenario.is_whole(&node, &at);
            node.must(&declared, "install");
            scenario.is_done(&node, &at);
        }
    });
}

/// Fault 20: plugins that may not be executed have a reason of their own, and no conflist names them.
#[test]
fn fault_20_a_bin_directory_without_permission_to_execute() {
    let test = &fault_20_a_bin_directory_without_permission_to_execute;
    in_private_mounts(test, |scratch| {
        let site = Site::below(scratch);
        let declared = site.declare("a", 1, "");
        let (fresh, right) = (site.bare(), site.installed(&declared));
        fs::create_dir_all(fresh.bin()).unwrap();
        for node in [&fresh, &right] {
            let before = node.conflist().exists();
            remount(&node.bin(), "noexec");
            let output = node.run(&declared, "install");
            let all = message(&output);
            assert_eq!(output.status.code(), Some(2), "{all}");
            assert!(all.contains("is its directory mounted noexec?"), "{all}");
            assert_eq!(node.conflist().exists(), before, "{all}");
        }
        let place = fresh.bin().join("ptp");
        assert_eq!(file(&place), ours(declared.plugins["ptp"].clone(), 0o755));
    });
}

/// Fault 21: an immutable plugin and the others stay as they are where the agent may not remove the flag, and the reason
/// is reported.
#[test]
fn fault_21_an_immutable_plugin() {
    in_private_mounts(&fault_21_an_immutable_plugin, |scratch| {
        let site = Site::below(scratch);
        let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
        let scenario = Scenario::plain(&site, site.installed(&old), &new);
        let node = on_tmpfs(&site, &scenario.before);
        let flag = |flag| {
            Command::new("chattr")
                .arg(flag)
                .arg(node.bin().join("ptp"))
                .output()
        };
        if !flag("+i").is_ok_and(|output| output.status.success()) {
            println!("skipped: tmpfs takes no flags on this kernel (since 6.6)");
            return;
        }
        let without = ["setpriv", "--bounding-set", "-linux_immutable"];
        let run = |declared, command| {
            let command = node.command(declared, command);
            through(&without, &command)
                .output()
                .expect("setpriv(1) runs")
        };
        let parts = ["bin/ptp", "run chattr -i -a on it"];
        refused(&node, &run(&new, "install"), &parts);
        scenario.is_whole(&node, "immutable");
        assert_eq!(file(&node.bin().join("ptp")).content, old.plugins["ptp"]);
        assert!(node.temps().is_empty(), "{:?}", node.temps());
        refused(&node, &run(&old, "uninstall"), &parts);
        assert!(!node.conflist().exists(), "the conflist goes first");

        // With the capability, the agent removes the flag itself.
        node.must(&new, "install");
        node.is_as(&new, "without the flag");
    });
}
