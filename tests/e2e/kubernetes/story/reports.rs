//! An agent that reads its node from the API server and reports to it, with exactly the rights for that.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{ASKED, DAMAGED, Story, conflist};
use crate::kubernetes::kubectl::{NAMESPACE, condition};
use crate::kubernetes::pod_traffic::PodTraffic;
use crate::node::CONFLIST;
use crate::poll::until;

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
    /// The node's condition, Events and startup taint: without the rights for them, and then with all.
    pub(crate) async fn check_reports(&mut self, talk: &PodTraffic) {
        let name = self.cluster.machine(DAMAGED).name();
        let taint = format!("{TAINT}:NoSchedule");
        self.cluster.kubectl.run(&["taint", "node", &name, &taint]);
        assert_eq!(self.declared.facts, ASKED);
        assert_eq!(self.declared.components, ["kubernetes-api"]);
        self.declared.more = REPORTING;
        self.apply();
        self.assert_rights();
        let log = [
            "--namespace",
            NAMESPACE,
            "--selector",
            "app.kubernetes.io/name=cni-keeper",
        ];
        until("each agent to be refused", async || {
            let log = self
                .cluster
                .kubectl
                .run(&[&["logs", "--prefix"], &log[..]].concat());
            let refused = log.lines().filter(|line| line.contains("403"));
            let agents: BTreeSet<_> = refused.filter_map(|line| line.split(' ').next()).collect();
            (agents.len() == self.cluster.workers.len())
                .then_some(())
                .ok_or(log)
        })
        .await;
        let node = self.cluster.kubectl.get(&["node", &name]).unwrap();
        assert!(condition(&node, CONDITION).is_none(), "{node:#}");
        assert!(is_tainted(&node), "{node:#}");
        self.cluster
            .tell("the agents tell nothing without the right to");

        self.declared.components = &["kubernetes-api", "kubernetes-reports", "kubernetes-taint"];
        self.apply();
        self.assert_rights();
        let kubectl = &self.cluster.kubectl;
        kubectl
            .until("the node's condition and taint", &["node", &name], |node| {
                let condition = condition(node, CONDITION).ok_or("no condition")?;
                let is_right = condition["status"] == "True" && !is_tainted(node);
                is_right.then_some(()).ok_or(condition.to_string())
            })
            .await;
        fs::remove_file(conflist(self.cluster.machine(DAMAGED))).unwrap();
        let events = ["events", "--field-selector", "reason=DriftHealed"];
        let message = kubectl
            .until("an Event", &events, |events| {
                let message = events["items"][0]["message"].as_str();
                message.map(str::to_owned).ok_or(events.to_string())
            })
            .await;
        assert!(message.contains(CONFLIST), "{message}");
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster
            .tell(&format!("condition, Event ({message}) and taint: {talked}"));
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
