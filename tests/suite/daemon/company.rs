//! Other programs beside a running agent: a second agent, the commands, a program on its port.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::agent::{Agent, get};
use crate::support::node::{CONFLIST, Node, STATE};
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Fault 6: of two agents the second one touches nothing, is not ready and says who holds the node; when the first
/// one ends, however it ends, the second one takes over by itself.
#[test]
fn fault_6_two_agents() {
    let node = Node::installed();
    let right = IntactNode::of(&node);
    for is_killed in [true, false] {
        let first = Agent::with_spares(&node);
        let second = Agent::start(&node);
        let reported = format!(
            "conflict: cannot lock {}/lock: process {} holds it; two must not work there at once, wait for it or \
             stop it\n",
            node.shown(STATE),
            first.id()
        );
        second.becomes_unready(&reported);
        assert_eq!(
            second.get("/readyz").body,
            reported,
            "nothing else is wrong"
        );
        assert_eq!(second.get("/livez").status, 200);
        assert!(first.is_ready());
        // It observes as well, and leaves repairs to the first.
        fs::remove_file(node.path(CONFLIST)).unwrap();
        first.until_without_asking("repaired", || right.is_intact());
        assert!(!second.is_ready() && first.is_ready());
        assert_eq!(
            second.metric("cni_keeper_repairs_total{result=\"healed\"}"),
            0.0
        );
        match is_killed {
            true => first.kill(),
            false => drop(first.stop()),
        }
        fs::remove_file(node.path(BRIDGE)).unwrap();
        second.repairs_by_itself(&right, &node);
        second.stop();
    }
}

/// Fault 6: commands that write are refused beside an agent, and name it; commands that read work.
#[test]
fn fault_6_commands_beside_an_agent() {
    let node = Node::installed();
    let agent = Agent::with_spares(&node);
    let before = node.tree();
    let reported = format!("process {} holds it", agent.id());
    for command in ["install", "uninstall"] {
        node.run(command).exits(2).says(&reported);
    }
    for command in ["verify", "plan", "render", "validate"] {
        node.run(command).exits(0);
    }
    let status = format!("status --address {}", agent.address());
    node.run(&status).exits(0).says("Ready");
    assert_eq!(before, node.tree());
    agent.stop();
    node.run(&status).exits(2);
    node.run("install").exits(0);
}

/// Fault 59: an agent that cannot listen ends at once, names the address, and has touched nothing.
#[test]
fn fault_59_the_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (setting, http) in [
        ("http.listen", format!("{{listen: \"{address}\"}}")),
        (
            "http.metricsListen",
            format!("{{listen: \"127.0.0.1:0\", metricsListen: \"{address}\"}}"),
        ),
    ] {
        let node = Node::declared();
        let required = http.replace('}', ", required: true}");
        node.declare_more(&format!("http: {required}\n"));
        let before = node.whole_tree();
        node.run("run").exits(2).says(&format!(
            "error: {setting} {address}: Address already in use; another process listens there (ss -ltnp): stop it, or \
             choose another port\n"
        ));
        assert_eq!(before, node.whole_tree());
    }
}

/// What listens on the agent's port, and what it answers, is of no consequence to the node. The agent begins to listen
/// once the port is free.
#[test]
fn fault_59_the_port_is_taken_and_the_node_is_kept() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let node = Node::declared();
    node.declare_more(&format!("http: {{listen: \"{address}\"}}\n"));
    let mut command = node.command("run");
    let mut agent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let wait_for = |what: &str, holds: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for("installed", &|| node.has(CONFLIST));
    for file in ["opt/cni/bin/bridge", CONFLIST] {
        fs::remove_file(node.path(file)).unwrap();
        wait_for(file, &|| node.has(file));
    }
    drop(taken);
    let is_ready = || get(address, "/readyz").is_ok_and(|answer| answer.status == 200);
    wait_for("it listens", &is_ready);
    let checks = get(address, "/readyz?verbose").unwrap().body;
    assert!(!checks.contains("endpoint"), "{checks}");
    kill(
        Pid::from_raw(agent.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    let mut log = String::new();
    agent
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(agent.wait().unwrap().success());
    let told = format!("http.listen {address}: Address already in use");
    assert_eq!(log.matches(&told).count(), 1, "{log}");
}

/// Where the agent listens on one of its addresses, its checks say what it lacks on the other, and it is ready.
#[test]
fn fault_59_a_taken_port_is_told_where_the_agent_can_be_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let node = Node::declared();
    node.declare_more(&format!(
        "http: {{listen: \"127.0.0.1:0\", metricsListen: \"{address}\"}}\n"
    ));
    let agent = Agent::ready(&node);
    agent.until("told", |agent| {
        agent
            .get("/readyz?verbose")
            .body
            .contains("Address already in use")
    });
    let body = agent.get("/readyz?verbose").body;
    assert!(body.contains("endpoint"), "{body}");
    assert!(
        body.contains(&format!("http.metricsListen {address}")),
        "{body}"
    );
    drop(taken);
    agent.until("it listens", |_| get(address, "/metrics").is_ok());
    agent.until("told", |agent| {
        !agent.get("/readyz?verbose").body.contains("endpoint")
    });
    agent.stop();
}
