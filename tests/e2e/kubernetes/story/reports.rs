//! An agent that reads its node from the API server and reports to it, with exactly the rights for that.

use std::fs;

use serde_json::Value;

use super::{Story, conflist};
use crate::kubernetes::cluster::NODE;
use crate::kubernetes::kubectl::{NAMESPACE, condition};
use crate::kubernetes::pod_traffic::PodTraffic;
use crate::node::CONFLIST;
use crate::poll::until;

/// Has the agent ask for the node's pod range, as an item of `network.facts`.
const ASKED: &str = "kubernetes: node";
/// The condition of the node that is the agent's.
const CONDITION: &str = "cni-keeper.dev/Ready";
/// The taint that a node may join with.
const TAINT: &str = "cni-keeper.dev/not-ready";
/// All that an agent can tell the API server.
const REPORTING: &str =
    "kubernetes: {condition: true, events: true, removeTaint: cni-keeper.dev/not-ready}";
/// What the agent's account may be allowed, and by which component.
const RIGHTS: [(&str, &[&str]); 4] = [
    ("kubernetes-api", &["get nodes"]),
    (
        "kubernetes-reports",
        &[
            "patch nodes --subresource=status",
            "create events",
            "patch events",
        ],
    ),
    ("kubernetes-taint", &["patch nodes"]),
    // By none.
    (
        "",
        &[
            "list nodes",
            "watch nodes",
            "delete nodes",
            "get pods",
            "get secrets",
            "get configmaps",
        ],
    ),
];

impl Story {
    /// The range from the API server, and the node's condition, Events and startup taint; with the rights for the first
    /// alone, and then for all.
    pub(crate) async fn check_reports(&mut self, talk: &PodTraffic) {
        let taint = format!("{TAINT}:NoSchedule");
        self.cluster.kubectl.run(&["taint", "node", NODE, &taint]);
        self.declared.facts = ASKED;
        self.declared.more = REPORTING;
        self.declared.components = &["kubernetes-api"];
        self.apply();
        self.roll_out();
        self.assert_rights();
        let log = ["--namespace", NAMESPACE, "daemonset/cni-keeper"];
        until("the agent to be refused", async || {
            let log = self.cluster.kubectl.run(&[&["logs"], &log[..]].concat());
            log.contains("403").then_some(()).ok_or(log)
        })
        .await;
        let node = self.cluster.kubectl.get(&["node", NODE]).unwrap();
        assert!(condition(&node, CONDITION).is_none(), "{node:#}");
        assert!(is_tainted(&node), "{node:#}");
        self.tell(
            "ready with the range from the API server; it tells nothing without the right to",
        );

        self.declared.components = &["kubernetes-api", "kubernetes-reports", "kubernetes-taint"];
        self.apply();
        self.assert_rights();
        let kubectl = &self.cluster.kubectl;
        kubectl
            .until("the node's condition and taint", &["node", NODE], |node| {
                let condition = condition(node, CONDITION).ok_or("no condition")?;
                let is_right = condition["status"] == "True" && !is_tainted(node);
                is_right.then_some(()).ok_or(condition.to_string())
            })
            .await;
        fs::remove_file(conflist()).unwrap();
        let events = ["events", "--field-selector", "reason=DriftHealed"];
        let message = kubectl
            .until("an Event", &events, |events| {
                let message = events["items"][0]["message"].as_str();
                message.map(str::to_owned).ok_or(events.to_string())
            })
            .await;
        assert!(message.contains(CONFLIST), "{message}");
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.tell(&format!("condition, Event ({message}) and taint: {talked}"));
    }

    /// The agent may do what the components in use allow, and nothing else.
    fn assert_rights(&self) {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{NAMESPACE}");
        for (component, rights) in RIGHTS {
            let wanted = self.declared.components.contains(&component);
            for right in rights {
                let question: Vec<&str> = right.split(' ').collect();
                let ask = [&["auth", "can-i", &account], &question[..]].concat();
                let answer = self.cluster.kubectl.try_run(&ask);
                assert_eq!(answer.is_ok(), wanted, "{right}: {answer:?}");
            }
        }
    }
}

/// Whether it still has the startup taint.
fn is_tainted(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array();
    taints.is_some_and(|taints| taints.iter().any(|taint| taint["key"] == TAINT))
}
