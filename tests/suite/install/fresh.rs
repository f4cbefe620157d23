//! A node without a network gets one, and does not change afterwards.

use serde_json::Value;

use crate::support::node::{BIN, CONF, CONFLIST, Node, STATE};
use crate::support::release::{PLUGINS, RELEASE, plugin};
use crate::support::tree::What;

/// The owner that is enforced: root, or whoever runs the tests.
fn owner() -> (u32, u32) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    (uid.as_raw(), if uid.is_root() { 0 } else { gid.as_raw() })
}

#[test]
fn an_empty_node_gets_its_plugins_and_then_its_conflist() {
    let node = Node::declared();
    let before = node.whole_tree();
    let plan = node.run("plan");
    plan.exits(1).row("fetch", "cni-plugins", "");
    for name in PLUGINS {
        plan.row("place", &node.shown(&format!("{BIN}/{name}")), "is missing");
    }
    plan.row("write", &node.shown(CONFLIST), "is missing")
        .says("--- /dev/null\n")
        .says("+  \"name\": \"pod-network\",\n");
    node.run("verify")
        .exits(1)
        .says("drift: binaries, conflist\n");
    assert_eq!(before, node.whole_tree(), "plan and verify change nothing");

    let install = node.run("install");
    install
        .exits(0)
        .row("fetched", "cni-plugins v1.1.1", "")
        .row("write", &node.shown(CONFLIST), "is missing")
        .says("done: 4 files are as declared\n");
    let after = node.tree();
    for name in PLUGINS {
        let path = format!("{BIN}/{name}");
        install.row("place", &node.shown(&path), "missing → ");
        let placed = after.get(&path);
        assert_eq!((placed.mode, placed.owner), (0o755, owner()), "{name}");
        assert!(node.read(&path) == plugin(name), "{name}");
    }
    let conflist = after.get(CONFLIST);
    assert_eq!((conflist.mode, conflist.owner), (0o600, owner()));
    assert_eq!(node.names(CONF), ["10-pods.conflist"]);
    assert_eq!(node.names(BIN), PLUGINS);
    assert_eq!(
        node.names(STATE),
        ["ledger.json", "lock", "spare", "store", "tmp"]
    );
    assert_eq!(node.names(&format!("{STATE}/tmp")), [""; 0]);
}

/// Everybody may read the plugins' directories; only the state directory is private.
#[test]
fn directories_that_were_missing_are_open_but_for_the_state() {
    let node = Node::installed();
    let tree = node.whole_tree();
    for path in ["opt", "opt/cni", BIN, "etc", "etc/cni", CONF] {
        assert_eq!(tree.get(path).mode, 0o755, "{path}");
    }
    for path in [
        STATE,
        "opt/cni/.cni-keeper/store",
        "opt/cni/.cni-keeper/tmp",
    ] {
        assert_eq!(tree.get(path).mode, 0o700, "{path}");
    }
}

/// Faults 28, 35 and 49: a right disk is not written to, and no source is asked.
#[test]
fn a_second_install_touches_nothing() {
    let node = Node::installed();
    node.write("etc/cni/net.d/notes.txt", b"not a configuration", 0o644);
    let before = node.whole_tree();
    for command in ["install", "install --offline"] {
        let again = node.run(command);
        assert_eq!(
            again.exits(0).stdout,
            "nothing to do: 4 files are as declared\n"
        );
        assert_eq!(before, node.whole_tree(), "{command}");
    }
    let plan = node.run("plan");
    assert_eq!(
        plan.exits(0).stdout,
        "nothing to do: no file would change\n"
    );
    let verify = node.run("verify");
    verify.exits(0).says("clean: 4 files are as declared\n");
    for name in PLUGINS {
        verify.row("ok", &node.shown(&format!("{BIN}/{name}")), "");
    }
    assert_eq!(before, node.whole_tree(), "plan and verify");
}

#[test]
fn rendered_is_what_is_written() {
    let node = Node::declared();
    let before = node.run("render");
    assert!(!node.has("etc"), "render writes nothing");
    node.run("install").exits(0);
    let after = node.run("render");
    assert_eq!(before.exits(0).stdout.as_bytes(), node.read(CONFLIST));
    assert_eq!(after.exits(0).stdout.as_bytes(), node.read(CONFLIST));
    let conflist: Value = before.json();
    assert_eq!(conflist["plugins"][0]["type"], "bridge");
}

#[test]
fn json_says_what_text_says() {
    let node = Node::declared();
    let plan = node.run("plan --output json");
    let plan = plan.exits(1).json();
    assert_eq!(plan["clean"], false);
    assert_eq!(plan["steps"][0]["step"], "fetch");
    assert_eq!(plan["steps"][0]["pending"][0]["plugin"], "bridge");
    assert_eq!(plan["steps"][1]["step"], "write-conflist");
    assert!(
        plan["conflistDiff"]
            .as_str()
            .unwrap()
            .contains("+  \"name\"")
    );

    let verify = node.run("verify -o json");
    let verify = verify.exits(1).json();
    assert_eq!(verify["clean"], false);
    assert_eq!(
        verify["snapshot"]["files"][0]["drifts"][0]["kind"],
        "missing"
    );

    let install = node.run("install --output json");
    let install = install.exits(0).json();
    assert_eq!(install["converged"], true);
    assert_eq!(install["failures"], Value::Array(Vec::new()));
    assert_eq!(install["fetched"][0]["artifact"], "cni-plugins");
    let steps = install["steps"].as_array().unwrap();
    let reported: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(reported, ["place", "place", "place", "write-conflist"]);
    let effective = &install["snapshot"]["effective"];
    assert_eq!(effective["containerd"], "10-pods.conflist");
    assert_eq!(effective["crio"], "10-pods.conflist");

    let verify = node.run("verify -o json").exits(0).json();
    assert_eq!(verify["clean"], true);
    let tree = node.tree();
    for file in verify["snapshot"]["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let inside = path.strip_prefix(&node.shown("")).unwrap();
        let What::File(digest) = &tree.get(inside).what else {
            panic!("{path} is no file");
        };
        assert_eq!(file["actual"], digest.to_string(), "{path}");
        assert_eq!(file["expected"], file["actual"], "{path}");
    }
    assert_eq!(node.run("plan -o json").exits(0).json()["clean"], true);
}

#[test]
fn the_catalog_lists_profiles_and_pins() {
    let node = Node::empty();
    let text = node.run("catalog");
    text.exits(0).says("reference-bridge").says("flannel");
    let json = node.run("catalog -o json").exits(0).json();
    let profiles = json["profiles"].as_array().unwrap();
    assert!(!profiles.is_empty());
    for profile in profiles {
        text.says(profile["name"].as_str().unwrap());
    }
    for project in json["projects"].as_array().unwrap() {
        for release in project["releases"].as_array().unwrap() {
            for asset in release["assets"].as_array().unwrap() {
                text.says(asset["sha256"].as_str().unwrap());
                assert!(asset["url"].as_str().unwrap().starts_with("https://"));
            }
        }
    }
    assert_eq!(node.whole_tree().paths(), [""; 0]);
}

/// A configuration without a network installs binaries and reads no conflist.
#[test]
fn binaries_alone() {
    let node = Node::empty();
    let source = node.mirror("plugins.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), "");
    node.run("install")
        .exits(0)
        .says("done: 3 files are as declared");
    assert!(!node.has("etc"));
    node.run("render")
        .exits(64)
        .says("there is no network.conflist to render; add one, or start from a profile");
}
