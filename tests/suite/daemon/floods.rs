//! What others do as fast as they can fills no log.

use std::fs;

use crate::support::agent::Agent;
use crate::support::node::{BIN, CONF, Node};
use crate::support::without_asking::IntactNode;

/// How many lines of one class are written in a minute.
const MOST_LINES: usize = 60;

/// The messages of the log, without what differs from line to line.
fn count(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}

/// Foreign files come and go under thousands of names: a few of them are named, the rest is counted, and what happens to
/// our own files is told as ever.
#[test]
fn thousands_of_foreign_names() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    let right = IntactNode::of(&node);
    let conf = node.path(CONF);
    let text = r#"{"cniVersion":"1.0.0","name":"theirs","type":"bridge"}"#;
    for round in 0..100 {
        let names: Vec<_> = (0..50)
            .map(|number| conf.join(format!("05-{round}-{number}.conf")))
            .collect();
        for name in &names {
            fs::write(name, text).unwrap();
        }
        agent.get("/readyz");
        for name in &names {
            fs::remove_file(name).unwrap();
        }
        agent.get("/readyz");
    }
    fs::remove_file(node.path(BIN).join("bridge")).unwrap();
    agent.until_without_asking("repaired", || right.is_intact());
    agent.becomes_ready();
    let log = agent.stop();
    assert_eq!(count(&log, "drift: is missing"), 1, "{log}");
    assert_eq!(count(&log, "healed: "), 1, "{log}");
    // The flood lasts some minutes on a slow machine.
    let lines = log.lines().count();
    assert!(lines < 10 * MOST_LINES, "{lines} lines");
    let written = count(&log, "drift: sorts before ours");
    assert!(written >= MOST_LINES, "{written}");
    assert!(
        count(
            &log,
            " more like this in the last minute: drift: sorts before ours"
        ) > 0,
        "{log}"
    );
    assert!(
        count(&log, " more like this in the last minute: drift is gone") > 0,
        "{log}"
    );
}

/// A configuration that is written again and again, each time with another mistake.
#[test]
fn a_configuration_that_is_broken_in_ever_new_ways() {
    let node = Node::installed();
    let agent = Agent::ready(&node);
    let good = fs::read_to_string(node.config()).unwrap();
    for number in 0..300 {
        node.redeclare(&format!("{good}mistake{number}: {{}}\n"));
        agent.until("the mistake is found", |agent| {
            agent
                .get("/readyz")
                .body
                .contains(&format!("mistake{number}"))
        });
    }
    node.redeclare(&good);
    agent.becomes_ready();
    let log = agent.stop();
    let lines = count(&log, "the new configuration is not used");
    assert!(
        (MOST_LINES..5 * MOST_LINES).contains(&lines),
        "{lines} lines"
    );
    assert!(
        count(
            &log,
            " more like this in the last minute: the new configuration is not used"
        ) > 0,
        "{log}"
    );
}
