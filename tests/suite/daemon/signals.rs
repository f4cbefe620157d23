//! Signals that are not meant to end the agent, and what it owes to other processes as process 1.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::Signal;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node, behind};
use crate::support::release::{NETWORK, PLUGINS, Release};
use crate::support::skipped;
use crate::support::without_asking::IntactNode;

/// Writes to a file in a way that no watch sees, and keeps it open until it may end.
const WRITE_BY_MAPPING: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapping:
    at = mapping.find(b'resync: 600s')
    mapping[at + 8] = ord('7')
    print('written', flush=True)
    sys.stdin.read()
";

/// Every signal that ends a program by default and does not tell of a fault in it, but SIGTERM, SIGINT and SIGKILL.
const HARMLESS: [Signal; 13] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
];

#[test]
fn signals_that_do_not_end_it() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    let right = IntactNode::of(&node);
    for signal in HARMLESS {
        agent.signal(signal);
        fs::remove_file(node.path(CONFLIST)).unwrap();
        agent.until_without_asking(signal.as_str(), || right.is_intact());
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        let mut kill = Command::new("kill");
        let kill = kill
            .arg(format!("-{number}"))
            .arg(agent.id().to_string())
            .status();
        assert!(kill.unwrap().success(), "{number}");
        assert_eq!(agent.get("/livez").status, 200, "{number}");
    }
    agent.stop();
}

#[test]
fn sighup_reads_the_configuration_anew() {
    let node = Node::installed();
    node.declare_more("drift: {resync: 600s}\n");
    let agent = Agent::ready(&node);
    let python = Command::new("python3")
        .args(["-c", WRITE_BY_MAPPING])
        .arg(node.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        return skipped("there is no python3 to write by a mapping");
    };
    let mut told = [0; 7];
    let mut output = python.stdout.take().unwrap();
    output.read_exact(&mut told).expect("it has written");
    let is_new = |agent: &Agent| agent.log().contains("the configuration has changed");
    let before = agent.passes();
    agent.until("some passes", |agent| agent.passes() > before + 3);
    assert!(!is_new(&agent), "something else has told it");
    agent.signal(Signal::SIGHUP);
    agent.until("the new configuration", is_new);
    drop(python.stdin.take());
    python.wait().unwrap();
    // A mistake is reported as ever, and nothing ends.
    fs::write(node.config(), "nonsense").unwrap();
    agent.signal(Signal::SIGHUP);
    agent.becomes_unready("config: ");
    agent.stop();
}

/// The processes with this parent.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name may contain anything; after it come the state and the parent.
        let parent_of = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        parent_of == Some(&parent.to_string())
    })
    .collect()
}

/// As process 1 it waits for whatever plugins leave behind, and still gets the answers of its own children.
#[test]
fn as_process_1_it_leaves_no_zombie() {
    let node = Node::empty();
    let end = node.path("end");
    let release = Release::new(&PLUGINS, |name| {
        let end = end.display();
        format!(
            "#!/bin/sh\n# {name}\n\
             for i in 1 2 3 4 5; do sh -c 'until [ -e {end} ]; do sleep 0.05; done' <&- >&- 2>&- & done\n\
             echo '{{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"1.0.0\"]}}'\n"
        )
        .into_bytes()
    });
    node.declare(
        &release.artifact(&node.mirror("p.tgz", &release.bytes)),
        NETWORK,
    );
    node.listen_anywhere();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]);
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root makes a pid namespace");
    }
    let agent = Agent::spawn(&mut behind(unshare, &node.command("run")));
    agent.becomes_ready();
    let verbose = agent.get("/readyz?verbose").body;
    assert!(verbose.contains("[+]plugins ok\n"), "{verbose}");
    let [process_1] = children_of(agent.id())[..] else {
        panic!("unshare(1) has one child");
    };
    assert_eq!(children_of(process_1).len(), 5 * PLUGINS.len());
    fs::write(&end, "").unwrap();
    agent.until_without_asking("no zombie", || children_of(process_1).is_empty());
    assert!(agent.is_ready());
    agent.kill();
}
