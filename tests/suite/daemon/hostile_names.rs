//! One hostile name of a file and of a network on every way out of the agent.

use std::ffi::OsStr;
use std::fs;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, CONFLIST, Node};

/// Control characters of both ranges, those that change the direction of a text, and invisible ones.
const HOSTILE: &str =
    "\u{1b}[31m\n\r\t\u{7f}\u{9b}2J\u{200b}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\"\\";

/// Whether a terminal or a reader of the text could be misled. A text of several lines has line breaks.
fn is_hostile(c: char) -> bool {
    c != '\n'
        && (c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
}

#[track_caller]
fn is_harmless(way: &str, text: &str) {
    if let Some(at) = text.find(is_hostile) {
        let from = text.floor_char_boundary(at.saturating_sub(200));
        panic!("{way}: {:?}", &text[from..text.ceil_char_boundary(at + 50)]);
    }
}

#[test]
fn no_way_out_repeats_control_characters() {
    let node = Node::installed();
    node.declare_more("drift: {foreignConflists: report}\n");
    let conf = node.path(CONF);
    let network = |name: &str| {
        serde_json::json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": format!("x{HOSTILE}")}]})
            .to_string()
    };
    let agent = Agent::ready(&node);
    // One that shadows ours with a hostile name, one that does not load, one that is behind ours.
    for (file, text) in [
        (
            format!("05-{HOSTILE}.conflist"),
            network(&format!("n{HOSTILE}")),
        ),
        (
            format!("06-{HOSTILE}.conflist"),
            format!("{{\"name\": {HOSTILE}"),
        ),
        (format!("99-{HOSTILE}.conf"), network(HOSTILE)),
        ("04-plain.conflist".to_owned(), network("plain")),
    ] {
        fs::write(conf.join(OsStr::new(&file)), text).unwrap();
    }
    fs::write(node.path(BIN).join(format!("x{HOSTILE}")), "no plugin").unwrap();
    agent.becomes_unready("precedence: ");
    fs::remove_file(conf.join("04-plain.conflist")).unwrap();
    agent.until("the next one shadows ours", |agent| {
        agent.get("/drift").body.contains("05-")
    });
    fs::write(node.path(CONFLIST), network(&format!("ours{HOSTILE}"))).unwrap();
    agent.until("the change is told", |agent| {
        agent.get("/drift").body.contains("\"content\"")
    });
    for path in [
        "/",
        "/readyz",
        "/readyz?verbose",
        "/status",
        "/drift",
        "/conflist",
        "/metrics",
        "/livez?verbose",
    ] {
        let answer = agent.get(path);
        is_harmless(path, &answer.body);
        if ["/status", "/drift", "/conflist"].contains(&path) {
            let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert!(document.is_object());
        }
    }
    // The name itself is not lost.
    let documents = agent.json("/conflist");
    let candidates = documents["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(
        names.contains(&&*format!("05-{HOSTILE}.conflist")),
        "{names:?}"
    );

    let address = agent.address().to_string();
    for command in ["verify", "plan", "status", "render"] {
        for output in ["", " --output json"] {
            let mut line = format!("{command}{output}");
            if command == "render" && !output.is_empty() {
                continue;
            }
            if command == "status" {
                line += &format!(" --address {address}");
            }
            let outcome = node.run(&line);
            is_harmless(&line, &outcome.to_string());
        }
    }
    let log = agent.log();
    assert!(log.contains("05-"), "{log}");
    is_harmless("log", &log);
    agent.stop();

    // Its log is text.
    fs::remove_file(node.path(CONFLIST)).unwrap();
    let install = node.run("install");
    is_harmless("install", &install.to_string());
}
