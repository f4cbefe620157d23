//! An agent ends, and the next one starts.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node, behind};
use crate::support::release::{NETWORK, PLUGINS, RELEASE, plugin};
use crate::support::server::{Reply, Server};
use crate::support::strace;
use crate::support::without_asking::{IntactNode, has_spares};

const BRIDGE: &str = "opt/cni/bin/bridge";

/// The names of temporary files that are left.
fn temps(node: &Node) -> Vec<String> {
    let tree = node.whole_tree();
    let paths = tree
        .paths()
        .into_iter()
        .filter(|path| path.contains(".cni-keeper-"));
    paths.map(str::to_owned).collect()
}

/// Fault 7: SIGTERM and SIGINT in the middle of a download end it at once, and nothing is left of it.
#[test]
fn fault_7_a_signal_in_the_middle_of_a_download() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::http();
        server.on(
            "/p.tgz",
            [Reply::silent_after(&RELEASE.bytes, RELEASE.bytes.len() / 2)],
        );
        let node = Node::empty();
        node.declare(&RELEASE.artifact(&server.url("/p.tgz")), NETWORK);
        let agent = Agent::start(&node);
        server.wait_for("/p.tgz");
        assert!(!agent.is_ready());
        agent.signal(signal);
        // A second signal changes nothing.
        agent.stop();
        assert_eq!(temps(&node), [""; 0]);
        assert!(!node.has(BIN) && !node.has(CONF));
        server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
        let agent = Agent::ready(&node);
        agent.stop();
    }
}

/// An agent that stops leaves everything as it is, and the next one finds nothing to do.
#[test]
fn what_is_in_place_stays() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let before = node.tree();
    let log = agent.stop();
    assert!(
        log.contains("stopping; everything in place stays as it is"),
        "{log}"
    );
    assert_eq!(before, node.tree());
    let agent = Agent::ready(&node);
    assert_eq!(before, node.tree());
    assert_eq!(
        agent.metric("cni_keeper_repairs_total{result=\"healed\"}"),
        0.0
    );
    assert_eq!(agent.drift().len(), 0);
    agent.stop();
    assert_eq!(temps(&node), [""; 0]);
}

/// A client that does not finish its request does not delay the end; with a second signal not even for a moment.
#[test]
fn a_client_that_stays() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    let mut clients: Vec<TcpStream> = (0..4)
        .map(|_| TcpStream::connect(agent.address()).unwrap())
        .collect();
    for client in &mut clients {
        client.write_all(b"GET /readyz HTTP/1.1\r\nHost: ").unwrap();
    }
    agent.signal(Signal::SIGTERM);
    agent.until_without_asking("reported", || agent.log().contains("stopping;"));
    agent.stop();
    drop(clients);
}

/// Faults 1 to 4: an agent that is killed while it changes the disk for a repair leaves the old file or the new one.
/// The next agent completes the repair, and nothing is left over.
#[test]
fn killed_in_the_middle_of_a_repair() {
    if !strace::available() {
        return;
    }
    let node = Node::installed();
    Agent::with_spares(&node).stop();
    let right = IntactNode::of(&node);
    let mut kills = 0;
    for (call, step) in [("renameat", 1), ("fsync", 3)] {
        for nth in (1..).step_by(step) {
            for name in PLUGINS {
                fs::remove_file(node.path(BIN).join(name)).unwrap();
            }
            fs::write(node.path(CONFLIST), "{").unwrap();
            let was_killed =
                is_killed_at(&node, call, nth, || right.is_intact() && has_spares(&node));
            if node.has(BRIDGE) {
                assert!(node.read(BRIDGE) == plugin("bridge"), "{call} #{nth}");
            }
            let conflist = node.read(CONFLIST);
            assert!(
                conflist == b"{" || right.is_intact(),
                "{call} #{nth}: the conflist comes last, whole"
            );
            let agent = Agent::with_spares(&node);
            agent.repairs_by_itself(&right, &node);
            agent.stop();
            assert_eq!(temps(&node), [""; 0], "{call} #{nth}");
            kills += u32::from(was_killed);
            if !was_killed {
                break;
            }
        }
    }
    assert!(kills >= 5, "{kills} kills");
}

/// Runs an agent that is killed at the `nth` call of a kind; `false` if it makes fewer.
fn is_killed_at(node: &Node, call: &str, nth: usize, through: impl Fn() -> bool) -> bool {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", &format!("--trace={call}")])
        .arg(format!("--inject={call}:signal=SIGKILL:when={nth}"));
    let mut tracer = behind(strace, &node.command("run"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    loop {
        if tracer.try_wait().unwrap().is_some() {
            return true;
        }
        if through() {
            let id = tracer.id();
            let traced =
                fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            if let Ok(traced) = traced.trim().parse() {
                let _ = kill(Pid::from_raw(traced), Signal::SIGKILL);
            }
            tracer.wait().unwrap();
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
