//! The kernel reports nothing: its queue overflows, or its limits allow no watch.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::agent::Agent;
use crate::support::namespace::in_private_limits;
use crate::support::node::{BIN, CONF, CONFLIST, Node};
use crate::support::without_asking::IntactNode;

const BRIDGE: &str = "opt/cni/bin/bridge";

/// Fault 23: what was damaged while the kernel's queue ran over is repaired, although no event tells of it; and a
/// directory that was replaced meanwhile is watched.
#[test]
fn fault_23_damage_in_a_flood_that_ran_over() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u32 = limit.trim().parse().unwrap();
    let node = Node::installed();
    let flood = ["flood-1", "flood-2"].map(|name| format!("{BIN}/{name}"));
    for file in &flood {
        node.write(file, b"", 0o600);
    }
    let right = IntactNode::of(&node);
    let agent = Agent::with_spares(&node);
    assert_eq!(agent.metric("cni_keeper_watch_overflows_total"), 0.0);

    agent.while_stopped(|| {
        // The kernel merges only what repeats the event before. None of these names wakes the agent.
        for number in 0..limit + 8 {
            let path = node.path(&flood[number as usize % 2]);
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut bridge = OpenOptions::new()
            .write(true)
            .open(node.path(BRIDGE))
            .unwrap();
        bridge.write_all(b"damaged").unwrap();
        drop(bridge);
        fs::remove_dir_all(node.path(CONF)).unwrap();
        fs::create_dir(node.path(CONF)).unwrap();
    });

    agent.repairs_by_itself(&right, &node);
    assert!(agent.metric("cni_keeper_watch_overflows_total") >= 1.0);
    for file in [CONFLIST, BRIDGE] {
        fs::remove_file(node.path(file)).unwrap();
        agent.repairs_by_itself(&right, &node);
    }
    agent.stop();
}

/// Fault 25: without an inotify instance, and with too few watches, the agent is ready and says that it is degraded;
/// it repairs what it finds when it looks, and comes back to events when the limit is lifted.
#[test]
fn fault_25_inotify_limits() {
    in_private_limits(&fault_25_inotify_limits, || {
        let reported = [
            (
                "max_inotify_instances",
                0,
                "no inotify instance (Too many open files); raise fs.inotify.max_user_instances",
            ),
            (
                "max_inotify_watches",
                1,
                "the limit on inotify watches is reached; raise fs.inotify.max_user_watches",
            ),
        ];
        for (name, low, reason) in reported {
            let usual = limit(name);
            set_limit(name, low);
            let node = Node::installed();
            let right = IntactNode::of(&node);
            let agent = Agent::with_spares(&node);
            let verbose = agent.get("/readyz?verbose").body;
            let line = verbose
                .lines()
                .find(|line| line.starts_with("[+]watch ok: degraded"))
                .unwrap();
            assert!(line.contains(reason), "{line}");
            assert_eq!(agent.metric("cni_keeper_watch_mode{mode=\"polling\"}"), 1.0);
            assert_eq!(agent.metric("cni_keeper_watch_mode{mode=\"events\"}"), 0.0);
            assert_eq!(agent.json("/status")["watch"]["mode"], "polling");

            for file in [BRIDGE, CONFLIST] {
                fs::remove_file(node.path(file)).unwrap();
                agent.repairs_by_itself(&right, &node);
            }
            // The configuration is no exception.
            node.declare_more("drift: {resync: 7m}\n");
            agent.until("seen by polling", |agent| {
                agent.json("/status")["declared"]["resyncSeconds"] == 420
            });

            set_limit(name, usual);
            agent.until("watching", |agent| {
                agent.json("/status")["watch"]["mode"] == "events"
            });
            assert!(agent.get("/readyz?verbose").body.contains("[+]watch ok\n"));
            fs::remove_file(node.path(BRIDGE)).unwrap();
            agent.repairs_by_itself(&right, &node);
            agent.stop();
        }
    });
}

fn limit(name: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/sys/user/{name}")).unwrap();
    text.trim().parse().unwrap()
}

/// Sets a limit of the user namespace that this runs in.
fn set_limit(name: &str, value: u32) {
    fs::write(format!("/proc/sys/user/{name}"), value.to_string()).unwrap();
}
