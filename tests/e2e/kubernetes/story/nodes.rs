//! Nodes that join, talk to each other, and are started anew.

use std::fs;

use super::{ASKED, CONFLIST, Story};
use crate::kubernetes::pod::until_ready;
use crate::kubernetes::pod_traffic::{PINGED, PodTraffic, run_pod_on};
use crate::node::CONF_DIR;

/// A pod that is on the node that is switched off.
const SETTLED: &str = "settled";
/// The number of that node.
const REBOOTED: u8 = 3;

impl Story {
    /// More nodes join. Each gets its own range from the API server, which a value in the ConfigMap cannot be.
    pub(crate) async fn add_nodes(&mut self) -> PodTraffic {
        self.declared.facts = ASKED;
        self.declared.components = &["kubernetes-api"];
        self.apply();
        self.cluster.kubectl.roll_out();
        self.cluster.tell("the range comes from the API server");
        for number in [2, REBOOTED] {
            let range = self.cluster.join(number).await;
            self.cluster.until_node(number, "True", "").await;
            let conflist =
                fs::read_to_string(self.cluster.machine(number).path(CONF_DIR).join(CONFLIST));
            assert!(conflist.unwrap().contains(&range), "{range}");
            self.cluster
                .tell(&format!("node {number} has joined and is Ready: {range}"));
        }
        self.cluster.kubectl.roll_out();
        self.cluster.route_ranges();
        let [from, to] = [1, 2].map(|number| self.cluster.machine(number).name());
        let talk = PodTraffic::start(&self.cluster.kubectl, &from, &to).await;
        self.cluster.tell("pods of two nodes talk, by routes");
        talk
    }

    /// A node is switched off and on again. Its disks are as they were, with the addresses of pods that no longer run;
    /// `/run`, the bridge and all rules are gone.
    pub(crate) async fn reboot(&mut self, talk: &PodTraffic) {
        let name = self.cluster.machine(REBOOTED).name();
        let pod = run_pod_on(&self.cluster.kubectl, SETTLED, &name).await;
        let address = pod["status"]["podIP"].as_str().unwrap();
        let leases = self.cluster.worker(REBOOTED).leases();
        assert!(leases.contains(address), "{leases:?}");
        self.cluster.power_off(REBOOTED).await;
        self.cluster.join(REBOOTED).await;
        let kubectl = &self.cluster.kubectl;
        let pod = kubectl.until_pod_restarted(SETTLED).await;
        until_ready(self.cluster.machine(REBOOTED)).await;
        self.cluster.until_node(REBOOTED, "True", "").await;
        let address = pod["status"]["podIP"].as_str().unwrap();
        self.cluster.until_leases_are_of_pods(REBOOTED).await;
        assert_eq!(kubectl.page(PINGED, address), Ok(format!("{SETTLED}\n")));
        kubectl.delete(&["--grace-period=1", "pod", SETTLED]);
        let talked = talk.assert_uninterrupted(kubectl).await;
        self.cluster.tell(&format!(
            "node {REBOOTED} was switched off and on: {talked}"
        ));
    }
}
