//! `cni-keeper status`: what it prints for people and for scripts.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use cni_keeper::model::{DriftRecord, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::node::{Node, Outcome, start};
use crate::support::rerun::has_program;
use crate::support::server::{Reply, Server};
use crate::support::status::{blocked, drifting, healed, hostile, ready};

/// The longest wait for a change to be shown.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the agent answers, made of the same value.
fn documents(status: &Status) -> (Value, Value) {
    let mut document = serde_json::to_value(status).unwrap();
    document["ready"] = json!(status.is_ready());
    let entries: Vec<&DriftRecord> = status.drift.iter().map(Arc::as_ref).collect();
    let drift = json!({ "open": 0, "entries": entries });
    (document, drift)
}

fn reply(document: &Value) -> Reply {
    Reply::ok(document.to_string().as_bytes()).with("Content-Type", "application/json")
}

/// An agent that answers these one after the other, and then repeats the last.
fn agent(states: &[Status]) -> Server {
    let server = Server::http();
    let documents: Vec<(Value, Value)> = states.iter().map(documents).collect();
    server.on("/status", documents.iter().map(|(status, _)| reply(status)));
    server.on("/drift", documents.iter().map(|(_, drift)| reply(drift)));
    server
}

fn address(server: &Server) -> String {
    let url = server.url("");
    url.strip_prefix("http://").unwrap().to_owned()
}

fn asked(server: &Server, arguments: &str) -> Outcome {
    let address = address(server);
    Node::empty().run(&format!("status --address {address} {arguments}"))
}

/// Fails unless such a line is there, whatever the blanks between its fields and the ages in it.
#[track_caller]
fn line(reported: &Outcome, start: &str) {
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = reported
        .stdout
        .lines()
        .any(|line| squeezed(line).contains(start));
    assert!(found, "no line: {start}\n{reported}");
}

#[test]
fn a_ready_node_is_described_in_few_lines() {
    let reported = asked(&agent(&[ready()]), "");
    reported.exits(0);
    assert!(
        reported
            .stdout
            .starts_with("Ready  worker-7.example  checked "),
        "{reported}"
    );
    line(
        &reported,
        "ok config, binaries, conflist, precedence, plugins, gates, watch, conflict",
    );
    line(
        &reported,
        "ok /opt/cni/bin/bridge cni-plugins v1.9.1 1912ac7fe9e6",
    );
    line(
        &reported,
        "bridge → portmap → bandwidth → firewall (pod-network in 10-cni-keeper.conflist, CNI 1.0.0)",
    );
    line(&reported, "CRI-O takes 10-cni-keeper.conflist");
    reported
        .does_not_say("LAST DRIFTS")
        .does_not_say("FAILURES");
    assert_eq!(reported.stderr, "");
}

/// Wrong files are all listed, right files only if there are few.
#[test]
fn many_files_take_few_lines() {
    let mut status = drifting();
    for number in 0..12 {
        let mut file = status.snapshot.files[0].clone();
        file.path.set_file_name(format!("plugin-{number}"));
        status.snapshot.files.insert(0, file);
    }
    let reported = asked(&agent(&[status]), "");
    line(
        &reported,
        "missing /opt/cni/bin/bridge cni-plugins v1.9.1 expected 1912ac7fe9e6",
    );
    line(&reported, "ok /opt/cni/bin: plugin-11 plugin-10 ");
}

#[test]
fn drift_is_reported_with_its_end() {
    let reported = asked(&agent(&[drifting()]), "");
    reported.exits(1);
    assert!(
        reported.stdout.starts_with("Not ready  worker-7.example  "),
        "{reported}"
    );
    line(&reported, "failed binaries /opt/cni/bin/bridge is missing");
    line(
        &reported,
        "failed conflict /opt/cni/bin/bridge was undone 7 times in 40 s",
    );
    line(&reported, "odd watch degraded: ");
    line(
        &reported,
        "content /etc/cni/net.d/10-cni-keeper.conflist configuration expected 9466b1c27c0b, found 1fb9f4097256",
    );
    line(
        &reported,
        "open bridge is missing; backing off, tried again in 12 s, 7 times in a row, by a program that deletes it",
    );
    line(
        &reported,
        "healed in 1.3 ms bridge is missing; placed from the store",
    );
    line(&reported, "gone by itself after 1 min bridge has sha256");
    line(
        &reported,
        "cannot reach mirror.example: no such host; check the DNS of the node (4 times in a row)",
    );
}

#[test]
fn what_stops_the_runtimes_is_reported() {
    let reported = asked(&agent(&[blocked()]), "");
    reported.exits(1);
    line(
        &reported,
        "containerd takes nothing 05-broken.conf does not load: line 1 column 2",
    );
    line(
        &reported,
        "waiting /etc/cni/net.d/10-cni-keeper.conflist configuration 9466b1c27c0b",
    );
    line(
        &reported,
        "failed gates file /run/flannel/subnet.env does not exist yet",
    );
}

/// One document with both answers, whole.
#[test]
fn a_script_gets_all_of_it() {
    let (status, drift) = documents(&drifting());
    let reported = asked(&agent(&[drifting()]), "--output json");
    assert_eq!(
        reported.exits(1).json(),
        json!({ "status": status, "drift": drift })
    );
    assert_eq!(
        asked(&agent(&[healed()]), "-o json").exits(0).json()["status"]["ready"],
        true
    );
}

#[test]
fn a_missing_agent_is_reported_in_one_line() {
    let node = Node::empty();
    // Nothing listens on port 1.
    let reported = node.run("status --address 127.0.0.1:1");
    reported.exits(2);
    assert_eq!(reported.stdout, "");
    assert_eq!(
        reported.stderr,
        "error: no agent answers at http://127.0.0.1:1 (Connection refused (os error 111)); is it running? --address \
         asks elsewhere, and `cni-keeper verify` checks the disk without it\n"
    );
    let reported = node.run("status --address 127.0.0.1:1 -o json");
    let errors = reported.exits(2).json();
    assert!(
        errors["errors"][0]
            .as_str()
            .unwrap()
            .starts_with("no agent answers at ")
    );
}

/// Another program on the port is not mistaken for the agent.
#[test]
fn an_answer_that_is_none_is_not_believed() {
    let server = Server::http();
    let (status, _) = documents(&ready());
    for (first, second, reported) in [
        (Reply::status(404), None, "/status answers 404 Not Found; "),
        (
            Reply::ok(b"<html>"),
            None,
            "/status answers no JSON (expected value at line 1 column 1); ",
        ),
        (
            Reply::ok(b"{}"),
            Some(Reply::ok(b"{}")),
            "/status answers a document of an unknown form (missing field `ready`",
        ),
        (
            reply(&status),
            Some(Reply::ok(b"[]")),
            "/drift answers a document of an unknown form",
        ),
        (
            Reply::ok(&vec![b' '; 5 << 20]),
            None,
            "/status answers more than 4 MiB; ",
        ),
        (
            Reply::cut_after(b"{\"ready\": true}", 5),
            None,
            "no agent answers at ",
        ),
    ] {
        server.on("/status", [first]);
        server.on("/drift", second);
        asked(&server, "").exits(2).says(reported);
    }
}

/// The flag goes before the environment, that before the configuration.
#[test]
fn the_address_is_found_where_it_is_configured() {
    let server = agent(&[ready()]);
    let node = Node::empty();
    node.declare_text(&format!(
        "profile: reference-bridge\nhttp: {{listen: '{}'}}\n",
        address(&server)
    ));
    node.run("status").exits(0);
    let from_environment = |arguments: &str, at: &str| {
        let mut command = node.command(arguments);
        command.env("CNI_KEEPER_STATUS_ADDRESS", at);
        start(&mut command).end()
    };
    from_environment("status", "127.0.0.1:1").exits(2);
    let flag = format!("status --address {}", address(&server));
    from_environment(&flag, "127.0.0.1:1").exits(0);
    // No proxy stands between the agent and its own node.
    let mut command = node.command("status");
    command.env("http_proxy", "http://127.0.0.1:1");
    start(&mut command).end().exits(0);
    node.run("status --address here").exits(64);
    // A bad configuration does not prevent the request.
    node.declare_text("nonsense");
    node.run(&flag).exits(0);
}

/// Names and reasons from outside can neither break a line in two nor control the terminal.
#[test]
fn control_characters_are_shown_and_not_obeyed() {
    for arguments in ["", "-o json"] {
        let reported = asked(&agent(&[hostile("a\x1b[2J\nb")]), arguments);
        reported.exits(1);
        assert!(!reported.to_string().contains('\x1b'), "{reported:?}");
    }
    asked(&agent(&[hostile("a\x1b[2J\nb")]), "").says("a\\u{1b}[2J\\nb");
}

/// `--watch` without a terminal: a block for each change, and none when only ages change.
#[test]
fn a_watch_tells_changes_and_outlives_the_agent() {
    let later = Status {
        passes: 1_204,
        looked: ready().agent.started,
        ..ready()
    };
    let server = agent(&[ready(), later, drifting()]);
    let (again, _) = documents(&ready());
    let mut watch = Watch::start(&server, "");
    watch.until("Ready  ");
    assert!(!watch.until("Not ready  ").contains("Ready  worker-7"));
    server.on("/status", [Reply::status(503), reply(&again)]);
    watch.until("/status answers 503 Service Unavailable");
    watch.until("Ready  ");
    assert_eq!(watch.interrupted(), Some(0));
}

#[test]
fn a_watch_ends_as_the_node_was() {
    let server = agent(&[blocked()]);
    let mut watch = Watch::start(&server, "-o json");
    watch.until("\"ready\": false");
    assert_eq!(watch.interrupted(), Some(1));
    let nobody = Server::http();
    let mut watch = Watch::start(&nobody, "");
    watch.until("answers 404");
    assert_eq!(watch.interrupted(), Some(2));
}

struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(server: &Server, arguments: &str) -> Self {
        let node = Node::empty();
        let arguments = format!("status --watch --address {} {arguments}", address(server));
        let mut child = node
            .command(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stdout
                .lines()
                .try_for_each(|line| sender.send(line.unwrap()))
        });
        Self { child, lines }
    }

    /// Reads on to a line with this; what stood before it.
    fn until(&mut self, text: &str) -> String {
        let mut before = String::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            if line.contains(text) {
                return before;
            }
            before += &line;
            before.push('\n');
        }
        panic!("not in the output: {text}\n{before}");
    }

    fn interrupted(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Colours on a terminal, and only if they are wanted.
#[test]
fn colours_on_a_terminal_only() {
    assert!(has_program("script"), "install bsdutils");
    let server = agent(&[drifting()]);
    let on_terminal = |no_color: &str| {
        let keeper = Node::empty().command("status");
        let program = keeper.get_program().to_string_lossy().into_owned();
        let line = format!("{program} status --address {}", address(&server));
        let mut terminal = Command::new("script");
        terminal
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env("NO_COLOR", no_color);
        start(&mut terminal).end()
    };
    let coloured = on_terminal("");
    coloured
        .exits(1)
        .says("\x1b[1;31mNot ready\x1b[0m")
        .says("\x1b[32mok\x1b[0m");
    let bare = on_terminal("1");
    bare.exits(1).says("Not ready  ").does_not_say("\x1b[");
    asked(&server, "").does_not_say("\x1b[");
}
