//! An upgrade of the plugins under a running pod.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::namespace::on_a_private_node;
use crate::node::{BIN_DIR, PLUGINS};

/// A pod of the old plugins keeps its network through the upgrade, and the new plugins take it down.
#[test]
fn a_running_pod_outlives_an_upgrade_of_its_plugins() {
    on_a_private_node(
        a_running_pod_outlives_an_upgrade_of_its_plugins,
        async |node| {
            node.declare("v1");
            node.run_command("install");
            node.until_network_ready(true).await;
            let old = node.run_pod("old", 18081).await;
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            assert_eq!(node.page_from_node(loopback, 18081).await, "old\n");

            node.declare("v2");
            node.run_command("install");
            for plugin in PLUGINS {
                let bytes = fs::read(Path::new(BIN_DIR).join(plugin)).unwrap();
                assert!(bytes.ends_with(b"v2"), "{plugin} is still the old one");
            }
            node.until_network_ready(true).await;
            assert_eq!(node.page_from_node(loopback, 18081).await, "old\n");

            let new = node.run_pod("new", 18082).await;
            assert_ne!(new.ip, old.ip);
            assert_eq!(node.page_between(&new, &old).await, "old\n");
            assert_eq!(node.page_between(&old, &new).await, "new\n");

            node.remove_pod(old).await;
            node.remove_pod(new).await;
            assert_eq!(node.leases(), Vec::<String>::new());
            node.run_command("uninstall");
            node.until_network_ready(false).await;
        },
    );
}
