//! On Kubernetes: a real cluster of one node, whose network is what the manifests make of it.
//!
//! `scripts/e2e-kubernetes` brings along what this needs, and runs it; the tests are ignored otherwise.
// A story of minutes is told while it happens.
#![allow(clippy::print_stderr)]

mod cluster;
mod declared;
mod image;
mod kubectl;
mod pod;
mod program;
mod story;
mod talk;

use self::story::Story;
use crate::namespace::on_a_private_node_for_long;

/// From nothing to a network, through everything that happens to one, to nothing.
#[test]
#[ignore = "scripts/e2e-kubernetes builds the cluster that it needs"]
fn a_node_gets_its_network_and_keeps_it() {
    on_a_private_node_for_long(a_node_gets_its_network_and_keeps_it, async |node| {
        let mut story = Story::begin(node).await;
        let talk = story.network_comes().await;
        story.new_agent(&talk).await;
        story.new_plugins(&talk).await;
        story.wiped(&talk).await;
        story.mistaken(&talk).await;
        story.told(&talk).await;
        story.without_api(&talk).await;
        story.air_gapped(&talk).await;
        story.measured();
        story.end(node, talk).await;
    });
}
