//! On Kubernetes: a real cluster of one node, which gets its network from the manifests.
//!
//! `scripts/e2e-kubernetes` provides what this needs, and runs it. Otherwise the tests are ignored.
// The test takes minutes, so it prints what it does.
#![allow(clippy::print_stderr)]

mod cluster;
mod declared;
mod image;
mod kubectl;
mod pod;
mod pod_traffic;
mod program;
mod story;

use self::story::Story;
use crate::namespace::on_a_private_node_for_long;

/// A node gets a network, everything happens to it that can happen to a network, and the network is removed.
#[test]
#[ignore = "scripts/e2e-kubernetes builds the cluster that it needs"]
fn a_node_gets_its_network_and_keeps_it() {
    on_a_private_node_for_long(a_node_gets_its_network_and_keeps_it, async |node| {
        let mut story = Story::begin(node).await;
        let talk = story.bring_up_network().await;
        story.upgrade_agent(&talk).await;
        story.upgrade_plugins(&talk).await;
        story.wipe_directories(&talk).await;
        story.apply_mistake(&talk).await;
        story.check_reports(&talk).await;
        story.lose_api_server(&talk).await;
        story.install_from_image(&talk).await;
        story.report_cost();
        story.end(node, talk).await;
    });
}
