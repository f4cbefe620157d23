//! Documents go to stdout, the log to stderr, a progress bar to a terminal, and secrets nowhere.

use std::process::Command;

use serde_json::Value;

use crate::support::node::{Node, STATE, start};
use crate::support::release::{NETWORK, RELEASE, pin, unreachable_url};
use crate::support::rerun;
use crate::support::server::{Reply, Server};

/// Every line of the log is an object, the error of a failed run included, and stdout holds the document alone.
#[test]
fn json_lines_and_one_document() {
    let node = Node::declared();
    let install = node.run("install --log-format json --log-level debug -o json");
    assert_eq!(install.exits(0).json()["converged"], true);
    let messages = |stderr: &str| -> Vec<(String, String)> {
        let lines = stderr.lines();
        lines
            .map(|line| {
                let line: Value = serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error}: {line}\n{install}"));
                let text = |key: &str| line[key].as_str().unwrap().to_owned();
                (text("level"), text("message"))
            })
            .collect()
    };
    let log = messages(&install.stderr);
    let has = |level: &str, text: &str| {
        log.iter()
            .any(|(its, message)| its == level && message == text)
    };
    assert!(has("INFO", "downloaded and verified"), "{install}");
    assert!(has("DEBUG", "conflist written"), "{install}");

    node.declare(&RELEASE.artifact(&unreachable_url()), NETWORK);
    std::fs::remove_dir_all(node.path(STATE)).unwrap();
    let failed = node.run("install --offline --log-format json -o json");
    assert_eq!(failed.exits(2).json()["converged"], false);
    let log = messages(&failed.stderr);
    assert!(log.iter().all(|(level, _)| level == "ERROR"), "{failed}");
    assert!(log[0].1.contains("--offline leaves no source"), "{failed}");

    node.declare_text("profile: flannel\nnonsense: 1\n");
    let refused = node.run("install --log-format json");
    assert!(
        messages(&refused.exits(64).stderr)[0]
            .1
            .contains(":4: nonsense: ")
    );
}

#[test]
fn the_log_level_is_obeyed() {
    let node = Node::declared();
    assert_eq!(node.run("install --log-level warn").exits(0).stderr, "");
    let node = Node::declared();
    node.run("install")
        .exits(0)
        .says(" INFO downloaded and verified ");
}

/// Tokens in URLs are in no output and in no file of the node.
#[test]
fn secrets_are_shown_nowhere() {
    let server = Server::http();
    let path = "/p.tgz?token=SECRET";
    server.on(path, [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    let mut artifact = RELEASE.artifact(&server.url("/none.tgz?token=SECRET"));
    artifact
        .sources
        .push(format!("{}?token=SECRET", unreachable_url()));
    artifact.sources.push(server.url(path));
    let rest = format!("fetch: {{attempts: 1}}\n{NETWORK}");
    node.declare(&artifact, &rest);
    for command in ["plan", "verify -o json", "install --log-level trace"] {
        node.run(command).does_not_say("SECRET");
    }
    node.run("verify").exits(0);
    node.run("install -o json").does_not_say("SECRET");
    let ledger = String::from_utf8(node.read(&format!("{STATE}/ledger.json"))).unwrap();
    assert!(!ledger.contains("SECRET"), "{ledger}");

    // And where every source fails.
    let node = Node::empty();
    artifact.pin = pin(b"other");
    node.declare(&artifact, &rest);
    node.run("install --log-level trace -o json")
        .exits(2)
        .says("/p.tgz?…: its ")
        .does_not_say("SECRET");

    // A password is refused, and not quoted either.
    artifact.sources = vec!["https://robot:SECRET@mirror.example/p.tgz".to_owned()];
    node.declare(&artifact, &rest);
    node.run("install")
        .exits(64)
        .says("the URL contains a user name or password")
        .does_not_say("SECRET");
}

/// The bar: bytes, rate and time left on a terminal, and not a byte of it anywhere else.
#[test]
fn a_bar_on_a_terminal_only() {
    assert!(rerun::has_program("script"), "install bsdutils");
    let server = Server::http();
    // Half of it, then silence for as long as fetch.readTimeout: time for the bar to be drawn.
    server.on(
        "/slow.tgz",
        [Reply::silent_after(&RELEASE.bytes, RELEASE.bytes.len() / 2)],
    );
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let declared = || {
        let node = Node::empty();
        let mut artifact = RELEASE.artifact(&server.url("/slow.tgz"));
        artifact.sources.push(server.url("/p.tgz"));
        node.declare(
            &artifact,
            &format!("fetch: {{readTimeout: 500ms, minRate: 0}}\n{NETWORK}"),
        );
        node
    };
    let node = declared();
    let keeper = node.command("install");
    let line = format!("{} install", keeper.get_program().to_string_lossy());
    let mut terminal = Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .envs(
            keeper
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh");
    let shown = start(&mut terminal).end();
    shown
        .exits(0)
        .says("cni-plugins v1.1.1  ")
        .says("MiB/s")
        .says(" left");
    let half = indicatif_bytes(RELEASE.bytes.len() / 2);
    let whole = indicatif_bytes(RELEASE.bytes.len());
    shown.says(&format!("{half}/{whole}"));
    shown.says("done: 4 files are as declared");

    let piped = declared().run("install");
    piped
        .exits(0)
        .does_not_say("\r")
        .does_not_say("\x1b")
        .does_not_say(" left");
}

/// As the bar writes bytes.
fn indicatif_bytes(bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.2} MiB")
}

/// Output for which the disk has no room is not exit 0; a reader that has gone away is no failure.
#[test]
fn a_truncated_answer_is_not_taken_for_a_whole_one() {
    let node = Node::installed();
    for command in ["render", "verify -o json", "install"] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = node.command(command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("error: cannot write to stdout: No space left"),
            "{message}"
        );
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = node.command("render").stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

/// Names and values from outside can neither break a line in two nor control the terminal.
#[test]
fn control_characters_from_outside_are_shown_and_not_obeyed() {
    let node = Node::declared();
    node.write("etc/cni/net.d/01-\x1b[2J\nok.conf", b"{", 0o644);
    for (command, code) in [("install", 2), ("verify", 1)] {
        let reported = node.run(command);
        reported
            .exits(code)
            .says("01-\\u{1b}[2J\\nok.conf sorts before");
        assert!(!reported.to_string().contains('\x1b'), "{reported:?}");
    }
    node.declare_text("profile: \"a\\nb\\e[2J\"\n");
    let refused = node.run("validate").exits(64).to_string();
    assert!(refused.contains("'a\\nb\\u{1b}[2J'"), "{refused}");
}
