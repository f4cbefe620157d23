//! Files that are in use, other owners, and limits of the kernel.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use super::node::{Node, Site, file, message};
use super::scenario::Scenario;
use crate::support::strace;

/// A program that runs the command, with its options: `prlimit`, `setpriv` or `strace`.
pub(super) fn through(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped
        .args(&wrapper[1..])
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}

/// Fault 15: with any number of descriptors that is too small, it says so, and visible files are old or new.
#[test]
fn fault_15_too_few_descriptors() {
    let site = Site::new();
    let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
    let scenario = Scenario::plain(&site, site.installed(&old), &new);
    let mut refusals = 0;
    // With fewer the C library or the async runtime cannot even start.
    for limit in 9.. {
        let node = site.copy(&scenario.before);
        let limit = format!("--nofile={limit}:{limit}");
        let output = through(&["prlimit", &limit], &node.command(&new, "install")).output();
        let output = output.expect("prlimit(1) runs");
        let all = message(&output);
        scenario.is_whole(&node, &limit);
        assert!(node.temps().is_empty(), "{limit}: {:?}", node.temps());
        if output.status.success() {
            scenario.is_done(&node, &limit);
            break;
        }
        assert_eq!(output.status.code(), Some(2), "{limit}: {all}");
        assert!(
            all.contains("error: ") && !all.contains("panicked"),
            "{limit}: {all}"
        );
        assert!(all.contains("Too many open files"), "{limit}: {all}");
        refusals += 1;
        node.must(&new, "install");
        scenario.is_done(&node, &limit);
    }
    assert!(refusals > 5, "only {refusals} refusals");
}

/// Fault 16: a running plugin is replaced by another file, and runs on undisturbed.
#[test]
fn fault_16_a_running_plugin_is_replaced() {
    let site = Site::new();
    let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
    let node = site.installed(&old);
    let path = node.bin().join("ptp");
    // It waits for its configuration, as with a slow runtime.
    let mut running = Command::new(&path)
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "pod")
        .env("CNI_NETNS", "/var/run/netns/pod")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", node.bin())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let in_place = OpenOptions::new().write(true).open(&path).unwrap_err();
    assert_eq!(in_place.kind(), ErrorKind::ExecutableFileBusy);

    node.must(&new, "install");
    node.is_as(&new, "upgraded");
    let image = fs::read(format!("/proc/{}/exe", running.id())).unwrap();
    assert!(
        image == old.plugins["ptp"],
        "the running plugin was changed"
    );
    assert_eq!(running.try_wait().unwrap(), None);

    // It goes on, finds its configuration empty, and answers with an error of CNI.
    drop(running.stdin.take());
    let mut answer = String::new();
    running
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(1));
    assert!(answer.contains("\"code\": 6"), "{answer}");
}

/// Fault 16: a plugin that somebody holds open for writing cannot be run. This has a reason of its own.
#[test]
fn fault_16_a_plugin_held_open_for_writing() {
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let node = site.installed(&declared);
    let writer = OpenOptions::new()
        .append(true)
        .open(node.bin().join("ptp"))
        .unwrap();
    let output = node.run(&declared, "install");
    let all = message(&output);
    assert_eq!(output.status.code(), Some(2), "{all}");
    let reason = "ptp: it cannot be run: Text file busy; another process holds it open for writing";
    assert!(all.contains(reason), "{all}");
    node.is_as(&declared, "held");
    drop(writer);
    node.must(&declared, "install");
}

/// Fault 16: it is asked again, and answers once the writer has closed it.
#[test]
fn fault_16_a_plugin_let_go_is_asked_again() {
    if !strace::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let node = site.installed(&declared);
    let mut writer = OpenOptions::new()
        .append(true)
        .open(node.bin().join("ptp"))
        .ok();
    // The delay gives this test all the time it needs to let go after the first refusal.
    let wrapper = [
        "strace",
        "-f",
        "-e",
        "trace=execve",
        "-e",
        "inject=execve:delay_exit=200000",
    ];
    let mut traced = through(&wrapper, &node.command(&declared, "verify"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut refusals = 0;
    for line in BufReader::new(traced.stderr.take().unwrap()).lines() {
        if line.unwrap().contains("ETXTBSY") {
            refusals += 1;
            drop(writer.take());
        }
    }
    assert!(traced.wait().unwrap().success());
    assert!(refusals > 0, "nothing stood in the way");
}

/// Fault 22: directories of another user are used, and keep their owner. Without the capability the reason is reported.
#[test]
fn fault_22_directories_of_another_owner() {
    if !nix::unistd::geteuid().is_root() {
        crate::support::skipped("needs root");
        return;
    }
    let site = Site::new();
    let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
    let node = site.installed(&old);
    let give_away = |node: &Node| {
        for dir in [node.bin(), node.conf()] {
            chown(dir, Some(1001), Some(1002)).unwrap();
        }
    };
    give_away(&node);
    let before = node.visible();
    let without = [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
    ];
    let output = through(&without, &node.command(&new, "install")).output();
    let output = output.expect("setpriv(1) runs");
    let all = message(&output);
    assert_eq!(output.status.code(), Some(2), "{all}");
    let lines: Vec<&str> = all
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line: {all}")
    };
    let bin = node.bin();
    for part in [
        bin.to_str().unwrap(),
        "Permission denied",
        "CAP_DAC_OVERRIDE",
    ] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    assert_eq!(node.visible(), before);
    assert!(node.temps().is_empty(), "{:?}", node.temps());

    node.must(&new, "install");
    node.is_as(&new, "with the capability");
    assert_eq!(file(&node.conflist()).owner, (0, 0));
    for dir in [node.bin(), node.conf()] {
        let metadata = fs::metadata(dir).unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
        assert_eq!(owner, 1001, "and it stays theirs");
    }
}
