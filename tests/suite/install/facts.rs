//! A fact has the type that is wanted where it is used, and an empty one is none.

use serde_json::{Value, json};

use crate::support::node::{Node, Outcome, start};

/// The conflist of a bridge with these keys and facts, rendered with these variables of the environment.
fn rendered(facts: &str, keys: &str, environment: &[(&str, &str)]) -> Outcome {
    let node = Node::empty();
    node.declare_text(&format!(
        "network:\n  facts: [{facts}]\n  conflist:\n    cniVersion: \"1.0.0\"\n    name: net\n    plugins:\n      - {{type: bridge, {keys}}}\n"
    ));
    node.write(
        "run/facts.env",
        b"MTU=1450\nNAME=7\nEMPTY=\nMASQ=true\n",
        0o644,
    );
    start(node.command("render").envs(environment.iter().copied())).end()
}

#[test]
fn a_fact_has_the_type_of_its_place() {
    const FILE: &str = "{envFile: /run/facts.env}";
    let ipam = |ranges: Value| json!({"type": "host-local", "ranges": ranges});
    let both = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]);
    const IPAM: &str = "ipam: {type: host-local, ranges: \"${node.podCIDRs}\"}";
    for (facts, keys, environment, key, want) in [
        (
            "",
            "mtu: \"${env.POD_MTU}\"",
            &[("POD_MTU", "1450")][..],
            "mtu",
            json!(1450),
        ),
        (
            "{values: {mtu: \"1450\"}}",
            "mtu: \"${mtu}\"",
            &[],
            "mtu",
            json!(1450),
        ),
        (FILE, "mtu: \"${MTU}\"", &[], "mtu", json!(1450)),
        (FILE, "bridge: \"${NAME}\"", &[], "bridge", json!("7")),
        (FILE, "ipMasq: \"${MASQ}\"", &[], "ipMasq", json!(true)),
        (
            "",
            "ipMasq: \"${env.MASQ}\"",
            &[("MASQ", "false")],
            "ipMasq",
            json!(false),
        ),
        // An empty value does not hide the one before.
        (
            "{values: {EMPTY: 7}}, {envFile: /run/facts.env}",
            "vlan: \"${EMPTY}\"",
            &[],
            "vlan",
            json!(7),
        ),
        (
            "{values: {node.podCIDRs: [10.1.0.0/24, \"fd00:1::/64\"]}}",
            IPAM,
            &[],
            "ipam",
            ipam(both.clone()),
        ),
        (
            "{values: {node.podCIDR: 10.1.0.0/24}}",
            IPAM,
            &[],
            "ipam",
            ipam(json!([[{"subnet": "10.1.0.0/24"}]])),
        ),
        (
            "",
            "ipam: {type: host-local, ranges: \"${env.RANGES}\"}",
            &[("RANGES", "10.1.0.0/24,fd00:1::/64")],
            "ipam",
            ipam(both),
        ),
    ] {
        let outcome = rendered(facts, keys, environment);
        assert_eq!(
            outcome.exits(0).json()["plugins"][0][key],
            want,
            "{facts} {keys}"
        );
    }
}

#[test]
fn a_fact_that_does_not_fit_is_refused_with_one_line() {
    for (facts, keys, environment, message) in [
        (
            "",
            "mtu: \"${env.POD_MTU}\"",
            &[("POD_MTU", "large")][..],
            "plugins[0].mtu: the fact 'env.POD_MTU' is not what is wanted here; it must be an integer from 68 to 65535, or 0; correct it where it is given",
        ),
        (
            "",
            "mtu: \"${env.POD_MTU}\"",
            &[("POD_MTU", "")],
            "plugins[0].mtu: the fact 'env.POD_MTU' is empty, which is as good as none; give it a value",
        ),
        (
            "{envFile: /run/facts.env}",
            "mtu: \"${EMPTY}\"",
            &[],
            "facts.env does not set EMPTY yet",
        ),
        (
            "{values: {masq: \"yes\"}}",
            "ipMasq: \"${masq}\"",
            &[],
            "plugins[0].ipMasq: the fact 'masq' is not what is wanted here; it must be true or false",
        ),
    ] {
        let outcome = rendered(facts, keys, environment);
        let errors = outcome.errors();
        assert!(
            errors.len() == 1 && errors[0].contains(message),
            "{facts} {keys}: {errors:?}"
        );
    }
    let node = Node::empty();
    let network = "network:\n  facts: [{values: {mtu: \"\"}}]\n  conflist: {cniVersion: \"1.0.0\", name: net, plugins: [{type: bridge}]}\n";
    node.declare_text(network);
    node.run("validate")
        .exits(64)
        .says("network.facts[0].values.mtu: a fact needs a value");
}
