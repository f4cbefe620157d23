//! The running agent: the real program watches and repairs a node's disk.

mod clock;
mod company;
mod config;
mod directories;
mod drift;
mod env_files;
mod events;
mod fast;
mod faults;
mod fight;
mod floods;
mod foreign;
mod foreign_size;
mod gates;
mod hostile_names;
mod limits;
mod network;
mod obstacles;
mod oversized;
mod questions;
mod quiet;
mod report;
mod side_inputs;
mod signals;
mod spread;
mod stop;
mod store;
mod storm;
mod unseen;
mod written;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::node::Node;

const BRIDGE: &str = "opt/cni/bin/bridge";
const FOREIGN: [&str; 3] = [
    "opt/cni/bin/cilium-cni",
    "etc/cni/net.d/99-other.conf",
    "etc/cni/net.d/README",
];

/// A node with everything in place, no mirror, and files that are not ours in both directories.
fn node() -> Node {
    let node = Node::installed();
    for file in FOREIGN {
        node.write(file, b"not ours", 0o640);
    }
    node
}

/// An entry of the drift log.
#[derive(Debug)]
struct ReportedDrift {
    path: String,
    kind: String,
    what: String,
    before: String,
    after: Option<String>,
    outcome: String,
    how: Option<String>,
    waiting: Option<String>,
    times: u64,
    by: Option<String>,
}

impl From<&Value> for ReportedDrift {
    fn from(entry: &Value) -> Self {
        let outcome = &entry["outcome"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            path: text(&entry["path"]).unwrap(),
            kind: text(&entry["kind"]).unwrap(),
            what: text(&entry["what"]).unwrap(),
            before: text(&entry["before"]).unwrap(),
            after: text(&entry["after"]),
            outcome: text(&outcome["state"]).unwrap(),
            how: text(&outcome["how"]),
            waiting: text(&outcome["waiting"]),
            times: entry["times"].as_u64().unwrap(),
            by: text(&entry["by"]),
        }
    }
}

/// The drift log, newest first.
fn drifts(agent: &Agent) -> Vec<ReportedDrift> {
    agent.drift().iter().map(ReportedDrift::from).collect()
}

/// The only drift in the log.
#[track_caller]
fn only_drift(agent: &Agent) -> ReportedDrift {
    let mut reported = drifts(agent);
    assert_eq!(reported.len(), 1, "{reported:#?}\n{}", agent.log());
    reported.remove(0)
}
