//! A node from no network to two pods that talk to each other, and back.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::inotify::AddWatchFlags;

use crate::inotify::Watch;
use crate::namespace::on_a_private_node;
use crate::node::{BIN_DIR, CONF_DIR, CONFLIST, Node, PLUGINS, names_in};

/// With a real runtime: `install` alone makes the node ready, a second one touches nothing, and `uninstall` spares
/// foreign files.
#[test]
fn a_node_goes_from_no_network_to_two_talking_pods_and_back() {
    on_a_private_node(
        a_node_goes_from_no_network_to_two_talking_pods_and_back,
        async |node| {
            let foreign = Foreign::place();
            let condition = node.network().await;
            assert!(!condition.status);
            assert!(
                condition.message.contains("cni plugin not initialized"),
                "{condition:?}"
            );

            let watch = Watch::on(Path::new(CONF_DIR));
            node.declare("v1");
            node.run_command("install");
            node.until_network_ready(true).await;
            assert_published_by_one_rename(&watch);

            two_pods_talk(node).await;

            let before = (State::of_node(), node.reloads().await);
            // Of a rename it logs the old name, the temporary one.
            assert!(
                before.1.iter().any(|event| event.contains("RENAME")),
                "the runtime's log does not tell when it loads: {before:?}"
            );
            watch.events();
            node.run_command("install");
            assert_eq!(watch.events(), [], "a second install touched {CONF_DIR}");
            assert_eq!((State::of_node(), node.reloads().await), before);

            node.run_command("uninstall");
            let condition = node.until_network_ready(false).await;
            assert!(
                condition.message.contains("cni plugin not initialized"),
                "{condition:?}"
            );
            foreign.assert_spared();
        },
    );
}

/// containerd ignores a conflist that is created or moved in from elsewhere, so the only event of that name
/// must be the end of a rename within the directory.
fn assert_published_by_one_rename(watch: &Watch) {
    let events = watch.events();
    let published: Vec<_> = events
        .iter()
        .filter(|event| event.name == CONFLIST)
        .collect();
    let [published] = published[..] else {
        panic!("not one event of {CONFLIST}: {events:#?}");
    };
    assert_eq!(published.what, AddWatchFlags::IN_MOVED_TO);
    assert!(
        events
            .iter()
            .any(|event| event.cookie == published.cookie
                && event.what == AddWatchFlags::IN_MOVED_FROM),
        "not renamed within {CONF_DIR}: {events:#?}"
    );
}

/// bridge and host-local between the pods, portmap from the node; all addresses are given back.
async fn two_pods_talk(node: &Node) {
    let first = node.run_pod("first", 18081).await;
    let second = node.run_pod("second", 18082).await;
    assert_eq!(node.leases().len(), 2);
    assert_eq!(node.page_between(&first, &second).await, "second\n");
    assert_eq!(node.page_between(&second, &first).await, "first\n");
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bridge = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1));
    for own in [loopback, bridge] {
        assert_eq!(node.page_from_node(own, 18081).await, "first\n");
        assert_eq!(node.page_from_node(own, 18082).await, "second\n");
    }
    node.remove_pod(first).await;
    node.remove_pod(second).await;
    assert_eq!(node.leases(), Vec::<String>::new());
}

/// What changes when a file is written again, of every file that was placed.
#[derive(Debug, PartialEq, Eq)]
struct State(Vec<(PathBuf, u64, i64, i64, i64, i64)>);

impl State {
    fn of_node() -> Self {
        let binaries = PLUGINS.iter().map(|name| Path::new(BIN_DIR).join(name));
        let files = binaries.chain([Path::new(CONF_DIR).join(CONFLIST)]);
        Self(
            files
                .map(|file| {
                    let seen = fs::metadata(&file).unwrap();
                    let (changed, modified) = (seen.ctime(), seen.mtime());
                    let (changed_ns, modified_ns) = (seen.ctime_nsec(), seen.mtime_nsec());
                    (file, seen.ino(), changed, changed_ns, modified, modified_ns)
                })
                .collect(),
        )
    }
}

/// Files that are not ours, one in each directory: a plugin of somebody else, and a note.
struct Foreign;

impl Foreign {
    const FILES: [(&str, &str, u32); 2] = [
        ("/opt/cni/bin/somebody-elses", "#!/bin/sh\nexit 1\n", 0o700),
        ("/etc/cni/net.d/README", "the platform team's note\n", 0o640),
    ];

    fn place() -> Self {
        for (path, content, mode) in Self::FILES {
            fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self
    }

    fn assert_spared(&self) {
        for (path, content, mode) in Self::FILES {
            assert_eq!(fs::read_to_string(path).unwrap(), content, "{path}");
            let seen = fs::metadata(path).unwrap();
            assert_eq!(seen.mode() & 0o7777, mode, "{path}");
        }
        assert_eq!(names_in(Path::new(BIN_DIR)), ["somebody-elses"]);
        assert_eq!(names_in(Path::new(CONF_DIR)), ["README", "flag"]);
    }
}
