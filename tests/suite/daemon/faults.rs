//! A disk that refuses, and a process that runs out of something.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::namespace::{in_private_mounts, mount_tmpfs, remount, unmount};
use crate::support::node::{BIN, CONF, CONFLIST, Node, STATE};
use crate::support::release::{NETWORK, NEXT_RELEASE, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::skipped;
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Fills a file system to its last byte.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [4096, 64, 1] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
}

/// The names in the directories that temps are made in.
pub(super) fn temps(node: &Node) -> Vec<String> {
    let tmp = format!("{STATE}/tmp");
    let names = [BIN, CONF, &tmp].into_iter().filter(|dir| node.has(dir));
    let names = names.flat_map(|dir| node.names(dir));
    names
        .filter(|name| name.starts_with(".cni-keeper-"))
        .collect()
}

/// Fault 9: the disk is full when the conflist is to be written. The reason is reported, nothing is left over, and the
/// conflist is written once there is room.
#[test]
fn fault_9_no_room_for_the_conflist() {
    in_private_mounts(&fault_9_no_room_for_the_conflist, |base| {
        let node = Node::within(base);
        node.declare_release();
        fs::create_dir_all(node.path("etc/cni")).unwrap();
        mount_tmpfs(&node.path("etc/cni"), "size=64k");
        let agent = Agent::ready(&node);
        let right = IntactNode::of(&node);
        let filler = node.path("etc/cni/filler");
        agent.while_stopped(|| {
            fs::remove_file(node.path(CONFLIST)).unwrap();
            fill(&filler);
        });
        agent.becomes_unready("conflist: ");
        let reported = agent.get("/readyz/conflist?verbose").body;
        assert!(
            reported.contains("No space left on device; free space or inodes"),
            "{reported}"
        );
        // Each request is another try.
        agent.until_without_asking("no temp", || temps(&node).is_empty());
        assert_eq!(agent.get("/livez").status, 200);
        assert!(agent.metric("cni_keeper_repairs_total{result=\"failed\"}") >= 1.0);
        let open = &agent.drift()[0]["outcome"];
        let waiting = open["waiting"].as_str().unwrap();
        assert!(waiting.contains("No space left on device"), "{open}");
        fs::remove_file(filler).unwrap();
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    });
}

/// Fault 9: a disk without room for copies costs the copies. A lost plugin then comes from the source, and the node is
/// not ready until then.
#[test]
fn fault_9_no_room_for_copies() {
    in_private_mounts(&fault_9_no_room_for_copies, |base| {
        let node = Node::within(base);
        fs::create_dir_all(node.path("opt/cni")).unwrap();
        let plugins: u64 = PLUGINS
            .iter()
            .map(|name| {
                fs::metadata(Path::new("/usr/lib/cni").join(name))
                    .unwrap()
                    .len()
            })
            .sum();
        // Room for the set in place and for the set that is fetched.
        let room = 2 * plugins + RELEASE.bytes.len() as u64 + (1 << 20);
        mount_tmpfs(&node.path("opt/cni"), &format!("size={}k", room / 1024));
        node.declare_release();
        Agent::ready(&node).stop();
        let right = IntactNode::of(&node);
        let remove_copies = || {
            let copies = ["store", "spare"].map(|dir| node.path(STATE).join(dir));
            for copy in copies.iter().flat_map(|dir| fs::read_dir(dir).unwrap()) {
                fs::remove_file(copy.unwrap().path()).unwrap();
            }
        };
        remove_copies();
        let fillers = ["filler", "more"].map(|name| node.path("opt/cni").join(name));
        fill(&fillers[0]);
        let agent = Agent::ready(&node);
        // One that is on its way would be a copy all the same.
        agent.until_without_asking("no more copies are tried", || {
            let log = agent.log();
            let given_up = |name: &&str| log.contains(&format!("no copy of {name}: "));
            PLUGINS.iter().all(given_up) && temps(&node).is_empty()
        });
        agent.while_stopped(|| {
            remove_copies();
            fs::remove_file(node.path(BRIDGE)).unwrap();
            fill(&fillers[1]);
        });
        agent.becomes_unready("binaries: ");
        agent.until("reported", |agent| {
            agent
                .get("/readyz?verbose")
                .body
                .contains("No space left on device")
        });
        assert!(!agent.is_ready() && agent.get("/livez").status == 200);
        fillers
            .iter()
            .for_each(|filler| fs::remove_file(filler).unwrap());
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    });
}

/// Fault 11: on a read-only disk that is right the agent is ready. On a wrong one it is not, says why, and does not
/// spin. When the disk is writable again, it repairs by itself.
#[test]
fn fault_11_a_read_only_disk() {
    in_private_mounts(&fault_11_a_read_only_disk, |base| {
        let node = Node::within(base);
        node.declare_release();
        node.run("install").exits(0);
        node.remove_mirror();
        let right = IntactNode::of(&node);
        node.listen_anywhere();
        remount(&node.root(), "ro");
        let agent = Agent::ready(&node);
        assert_eq!(agent.get("/readyz").body, "ok\n");
        agent.stop();

        unmount(&node.root());
        fs::write(node.path(CONFLIST), "{}").unwrap();
        fs::remove_file(node.path(BRIDGE)).unwrap();
        remount(&node.root(), "ro");
        let agent = Agent::start(&node);
        agent.becomes_unready("binaries: ");
        let reported = agent.get("/readyz?verbose").body;
        assert!(
            reported.contains("is read-only; mount it read-write"),
            "{reported}"
        );
        assert_eq!(agent.get("/livez").status, 200);
        // Half a second, a second, two …; each question is a look, too.
        let before = agent.passes();
        thread::sleep(Duration::from_secs(3));
        let passes = agent.passes() - before;
        assert!(passes < 10, "{passes} looks in three seconds");

        Command::new("mount")
            .args(["-o", "remount,bind,rw"])
            .arg(node.root())
            .status()
            .unwrap();
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    });
}

/// Fault 15: without descriptors the agent says so, is never ready while something is wrong, answers, and recovers.
#[test]
fn fault_15_no_descriptors() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let right = IntactNode::of(&node);
    // None except the one that the server keeps for probes.
    limit_files(&agent, files(&agent));
    agent.becomes_unready("Too many open files; raise the limit on open files (ulimit -n)");
    assert_eq!(agent.get("/livez").status, 200);
    fs::remove_file(node.path(BRIDGE)).unwrap();
    node.declare_more("drift: {resync: 7m}\n");
    for _ in 0..20 {
        assert!(!agent.is_ready());
        assert!(!node.has(BRIDGE));
    }
    limit_files(&agent, 1024);
    agent.repairs_by_itself(&right, &node);
    // The configuration could not be read either.
    agent.until("in force", |agent| {
        agent.json("/status")["declared"]["resyncSeconds"] == 420
    });
    agent.stop();
}

/// The least number of descriptors that it needs: some are used for moments only.
fn files(agent: &Agent) -> usize {
    let count = || {
        fs::read_dir(format!("/proc/{}/fd", agent.id()))
            .unwrap()
            .count()
    };
    (0..1000).map(|_| count()).min().unwrap()
}

fn limit_files(agent: &Agent, most: usize) {
    let limit = format!("--nofile={most}:4096");
    let pid = agent.id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(status.unwrap().success());
}

/// Fault 20: a directory from which nothing may be run has a reason of its own.
#[test]
fn fault_20_plugins_that_may_not_be_run() {
    in_private_mounts(&fault_20_plugins_that_may_not_be_run, |base| {
        let node = Node::within(base);
        node.declare_release();
        node.run("install").exits(0);
        let right = IntactNode::of(&node);
        remount(&node.path(BIN), "noexec");
        let agent = Agent::start(&node);
        agent.becomes_unready(
            "plugins: bridge: it cannot be run: Permission denied; look at its mode, or is its directory mounted noexec?",
        );
        // No event reports the end of it.
        unmount(&node.path(BIN));
        agent.repairs_by_itself(&right, &node);
        agent.stop();
    });
}

/// An immutable file; it is an ordinary one again when dropped.
pub(super) struct Immutable(PathBuf);

impl Immutable {
    pub(super) fn new(path: &Path) -> Option<Self> {
        chattr("+i", path).then(|| Self(path.to_owned()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

pub(super) fn chattr(change: &str, path: &Path) -> bool {
    let output = Command::new("chattr").arg(change).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

/// The name of the capability to change such files, in setpriv(1).
pub(super) const TO_UNLOCK: &str = "linux_immutable";

/// Fault 21: a wrong immutable file is reported with the reason where the agent may not change that, and repaired once it
/// can be changed.
#[test]
fn fault_21_immutable_files() {
    let node = Node::installed();
    let agent = Agent::without_capability(&node, TO_UNLOCK);
    agent.becomes_ready();
    let right = IntactNode::of(&node);
    for (file, check) in [(BRIDGE, "binaries"), (CONFLIST, "conflist")] {
        let path = node.path(file);
        let mut held = None;
        agent.while_stopped(|| {
            fs::write(&path, "theirs").unwrap();
            held = Immutable::new(&path);
        });
        let Some(held) = held else {
            return skipped("this file system knows no immutable files");
        };
        agent.becomes_unready(&format!("{check}: "));
        let reported = agent.get(&format!("/readyz/{check}?verbose")).body;
        assert!(
            reported.contains("run chattr -i -a on it, or give the agent CAP_LINUX_IMMUTABLE"),
            "{reported}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        // Each request is another try.
        agent.until_without_asking("no temp", || temps(&node).is_empty());
        drop(held);
        agent.repairs_by_itself(&right, &node);
    }
    agent.stop();
}

/// Fault 21: the ledger cannot be written, so nothing of a download is placed. The source is asked again only after
/// pauses. Once the ledger can be written, everything is installed.
#[test]
fn fault_21_an_immutable_ledger() {
    let node = Node::installed();
    let agent = Agent::without_capability(&node, TO_UNLOCK);
    agent.becomes_ready();
    let Some(held) = Immutable::new(&node.path(STATE).join("ledger.json")) else {
        return skipped("this file system knows no immutable files");
    };
    let server = Server::http();
    server.on("/next.tgz", [Reply::ok(&NEXT_RELEASE.bytes)]);
    let next = NEXT_RELEASE.artifact(&server.url("/next.tgz"));
    node.redeclare(&format!("apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\n{next}{NETWORK}http: {{listen: \"127.0.0.1:0\"}}\n"));
    agent.until("reported", |agent| {
        agent.get("/readyz?verbose").body.contains("lsattr")
    });
    for _ in 0..100 {
        assert!(!agent.is_ready());
    }
    let count = server.count("/next.tgz");
    assert!(count < 3, "{count} requests");
    drop(held);
    agent.becomes_ready();
    agent.stop();
}
