//! The cluster's address ranges, and values that only the operator knows.

use crate::support::node::{CONFLIST, Node};

/// A declared node with more below `network`.
fn node(more: &str) -> Node {
    let node = Node::declared();
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replacen("network:\n", &format!("network:\n{more}"), 1);
    std::fs::write(node.config(), text).unwrap();
    node
}

#[test]
fn a_subnet_outside_of_the_clusters_ranges_is_refused_by_every_command() {
    let node = node("  podRanges: [10.88.0.0/17]\n  reserved: [10.88.200.0/24]\n");
    let before = node.whole_tree();
    for command in ["validate", "render", "plan", "install", "verify"] {
        node.run(command)
            .exits(64)
            .says(
                "network.conflist.plugins[0].ipam.ranges[0][0].subnet: 10.88.0.0/16 overlaps 10.88.200.0/24, which \
                 network.reserved keeps free; give pods other addresses",
            )
            .says("10.88.0.0/16 does not lie inside network.podRanges (10.88.0.0/17); correct one of the two");
    }
    assert_eq!(before, node.whole_tree());
}

/// A value is checked where it is known: one of the configuration at once, one of the node there.
#[test]
fn a_fact_is_held_against_the_ranges_as_soon_as_it_is_known() {
    let node = node("  podRanges: [10.88.0.0/16]\n  facts: [{values: {here: 10.89.0.0/24}}]\n");
    let text = std::fs::read_to_string(node.config()).unwrap();
    let with = |fact: &str| {
        let text = text.replace(
            "{subnet: 10.88.0.0/16}",
            &format!("{{subnet: \"${{{fact}}}\"}}"),
        );
        std::fs::write(node.config(), text).unwrap();
    };
    with("here");
    node.run("validate")
        .exits(64)
        .says("10.89.0.0/24 does not lie inside");
    with("env.THERE");
    let note = "only known on a node: env.THERE; `cni-keeper render` there";
    node.run("validate").exits(0).says(note);
    let json = node.run("validate --output json").json();
    assert!(
        json["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("only known on a node")
    );
    let mut command = node.command("render");
    let rendered = crate::support::node::start(command.env("THERE", "10.89.0.0/24")).end();
    rendered.exits(64).says("10.89.0.0/24 does not lie inside");
}

/// Nothing is touched, and nothing else is reported, before the operator has filled in what only they know.
#[test]
fn what_is_to_be_filled_in_is_named_by_every_command() {
    let node = node("  podRanges: [\"FILL-IN: the pod range of the cluster\"]\n");
    for command in [
        "validate",
        "render",
        "plan",
        "install",
        "verify",
        "uninstall",
        "run",
    ] {
        let reported = node.run(command);
        let errors = reported.exits(64).errors();
        let [error] = errors[..] else {
            panic!("{reported}")
        };
        assert!(
            error.ends_with(": network.podRanges[0]: FILL-IN: the pod range of the cluster"),
            "{reported}"
        );
    }
    assert!(!node.has(CONFLIST));
}
