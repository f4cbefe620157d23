//! On Kubernetes: a real cluster of three nodes, which gets its network from the manifests.
//!
//! `scripts/e2e-kubernetes` provides what this needs, and runs it. Otherwise the tests are ignored.
// The test takes minutes, so it prints what it does. A machine tells on standard output that it is up.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod cluster;
mod companions;
mod declared;
mod flannel;
mod image;
mod keys;
mod kubectl;
mod machine;
mod pod;
mod pod_traffic;
mod program;
mod service;
mod story;
mod worker;

use std::path::Path;

use self::flannel::Flannel;
use self::machine::be_machine;
use self::story::Story;
use crate::namespace::{Needs, in_namespaces};
use crate::node::until_nothing_runs;

/// Programs of others that a cluster is made of, and what `scripts/peers` calls each.
const PEERS: [(&str, &str); 12] = [
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("crictl", "crictl"),
    ("etcd", "etcd"),
    ("host-local", "plugins"),
    ("kube-apiserver", "kubernetes"),
    ("kube-controller-manager", "kubernetes"),
    ("kube-proxy", "kubernetes"),
    ("kube-scheduler", "kubernetes"),
    ("kubectl", "kubernetes"),
    ("kubelet", "kubernetes"),
    ("runc", "runc"),
];

/// Runs `scenario` where a cluster can be made, with `more` programs of others.
fn on_machines<T: Fn()>(test: T, more: &[(&str, &str)], scenario: impl AsyncFnOnce(&Path, String)) {
    be_machine();
    let peers = [&PEERS, more].concat();
    let to_its_end = async |dir: &Path, cgroup_parent| {
        scenario(dir, cgroup_parent).await;
        until_nothing_runs().await;
    };
    let needs = Needs {
        peers: &peers,
        first: None,
        is_long: true,
    };
    in_namespaces(test, &needs, to_its_end);
}

/// A cluster gets a network and grows, everything happens to it that can happen to a network, and the network is removed.
#[test]
#[ignore = "scripts/e2e-kubernetes builds the cluster that it needs"]
fn nodes_get_their_network_and_keep_it() {
    on_machines(
        nodes_get_their_network_and_keep_it,
        &[],
        async |dir, cgroup_parent| {
            let mut story = Story::begin(dir, cgroup_parent).await;
            story.bring_up_network().await;
            let talk = story.add_nodes().await;
            story.cluster.reach_service().await;
            story.upgrade_agent(&talk).await;
            story.upgrade_plugins(&talk).await;
            story.wipe_directories(&talk).await;
            story.apply_mistake(&talk).await;
            story.check_reports(&talk).await;
            story.lose_api_server(&talk).await;
            story.install_from_image(&talk).await;
            story.reboot(&talk).await;
            story.report_cost();
            story.end(talk).await;
        },
    );
}

/// The overlay aks-byocni-flannel: nodes get ranges from its node-ranges, of which a second one takes over, and flanneld
/// is late, dies, and comes back with another range.
#[test]
#[ignore = "scripts/e2e-kubernetes builds the cluster that it needs"]
fn nodes_follow_their_flanneld() {
    let daemon_and_plugin = [("flanneld", "flanneld"), ("flannel", "flannel")];
    on_machines(
        nodes_follow_their_flanneld,
        &daemon_and_plugin,
        async |dir, cgroup_parent| {
            let mut flannel = Flannel::begin(dir, cgroup_parent).await;
            let talk = flannel.start_daemons().await;
            flannel.cluster.reach_service().await;
            flannel.lose_daemon(&talk).await;
            flannel.reboot(&talk).await;
            flannel.change_range(&talk).await;
            flannel.end(talk).await;
        },
    );
}
