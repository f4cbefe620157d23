//! What the real reference plugins refuse in their own part of a conflist, and `validate` does not know of. host-local is
//! not among them: `ipam` holds us to it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use cni_keeper::cni::{check_ranges, validate_conflist};
use serde_json::{Value, json};

use super::oracle::built;
use crate::support::skipped;

/// A plugin, its configuration, and a part of what it says when it refuses an ADD with it.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "bridge",
        r#"{"bridge": 7}"#,
        "NetConf.bridge of type string",
    ),
    (
        "bridge",
        r#"{"bridge": "a-name-that-is-too-long"}"#,
        "failed to create bridge",
    ),
    ("bridge", r#"{"mtu": "1450"}"#, "NetConf.mtu of type int"),
    ("bridge", r#"{"mtu": 1450.5}"#, "NetConf.mtu of type int"),
    (
        "bridge",
        r#"{"isGateway": "true"}"#,
        "NetConf.isGateway of type bool",
    ),
    (
        "bridge",
        r#"{"macspoofchk": "yes"}"#,
        "NetConf.macspoofchk of type bool",
    ),
    (
        "bridge",
        r#"{"hairpinMode": true, "promiscMode": true}"#,
        "cannot set hairpin mode and promiscuous mode",
    ),
    ("bridge", r#"{"vlan": 5000}"#, "invalid VLAN ID 5000"),
    ("bridge", r#"{"vlan": -1}"#, "invalid VLAN ID -1"),
    (
        "bridge",
        r#"{"vlanTrunk": [{"id": 5000}]}"#,
        "incorrect trunk id",
    ),
    (
        "bridge",
        r#"{"vlanTrunk": [{"minID": 10}]}"#,
        "maxID is missing",
    ),
    (
        "bridge",
        r#"{"vlanTrunk": [{"minID": 10, "maxID": 5}]}"#,
        "minID is greater than maxID",
    ),
    ("ptp", r#"{"mtu": "1450"}"#, "NetConf.mtu of type int"),
    (
        "macvlan",
        r#"{"master": 7}"#,
        "NetConf.master of type string",
    ),
    (
        "macvlan",
        r#"{"bcqueuelen": "1"}"#,
        "NetConf.bcqueuelen of type uint32",
    ),
    (
        "ipvlan",
        r#"{"master": "lo", "mode": "l4"}"#,
        "unknown ipvlan mode",
    ),
    (
        "vlan",
        r#"{"master": "lo", "vlanId": 5000}"#,
        "invalid VLAN ID 5000",
    ),
    (
        "vlan",
        r#"{"master": "lo", "vlanId": "5"}"#,
        "NetConf.vlanId of type int",
    ),
    ("dummy", "{}", "requires an IPAM configuration"),
    ("host-device", "{}", "specify either"),
    (
        "host-device",
        r#"{"device": 7}"#,
        "NetConf.device of type string",
    ),
    (
        "portmap",
        r#"{"snat": "true"}"#,
        "PortMapConf.snat of type bool",
    ),
    ("portmap", r#"{"backend": "ebpf"}"#, "unrecognized backend"),
    (
        "portmap",
        r#"{"conditionsV4": "-s 10.0.0.0/8"}"#,
        "PortMapConf.conditionsV4 of type []string",
    ),
    (
        "portmap",
        r#"{"markMasqBit": 32}"#,
        "MasqMarkBit must be between 0 and 31",
    ),
    (
        "portmap",
        r#"{"markMasqBit": 5, "externalSetMarkChain": "KUBE-MARK"}"#,
        "Cannot specify externalSetMarkChain and markMasqBit",
    ),
    (
        "bandwidth",
        r#"{"ingressRate": 1000}"#,
        "if rate is set, burst must also be set",
    ),
    (
        "bandwidth",
        r#"{"egressBurst": 1000}"#,
        "if burst is set, rate must also be set",
    ),
    (
        "bandwidth",
        r#"{"ingressRate": "1000", "ingressBurst": 1}"#,
        "ingressRate of type uint64",
    ),
    (
        "bandwidth",
        r#"{"ingressRate": -1, "ingressBurst": 1}"#,
        "ingressRate of type uint64",
    ),
    (
        "bandwidth",
        r#"{"ingressRate": 1000, "ingressBurst": 100000000000}"#,
        "burst cannot be more than 4GB",
    ),
    (
        "firewall",
        r#"{"backend": 7}"#,
        "FirewallNetConf.backend of type string",
    ),
    (
        "firewall",
        r#"{"ingressPolicy": "closed"}"#,
        "unknown ingress policy",
    ),
    ("tuning", r#"{"mtu": "1450"}"#, "TuningConf.mtu of type int"),
    (
        "tuning",
        r#"{"promisc": 1}"#,
        "TuningConf.promisc of type bool",
    ),
    (
        "tuning",
        r#"{"sysctl": {"net.core.somaxconn": 500}}"#,
        "sysctl of type string",
    ),
    (
        "tuning",
        r#"{"sysctl": {"kernel.shm_rmid_forced": "1"}}"#,
        "invalid net sysctl key",
    ),
    ("sbr", r#"{"table": "7"}"#, "PluginConf.table of type int"),
    ("vrf", "{}", "expected to have a valid vrf name"),
    (
        "vrf",
        r#"{"vrfname": "red", "table": "7"}"#,
        "VRFNetConf.table of type uint32",
    ),
    (
        "static",
        r#"{"addresses": [{"address": "10.1.0.2"}]}"#,
        "expected to be in CIDR notation",
    ),
    (
        "static",
        r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "gw"}]}"#,
        "invalid IP address: gw",
    ),
    (
        "static",
        r#"{"addresses": {"address": "10.1.0.2/24"}}"#,
        "IPAMConfig.ipam.addresses",
    ),
    (
        "static",
        r#"{"addresses": [], "routes": [{"dst": "default"}]}"#,
        "invalid CIDR address: default",
    ),
];

/// The configuration of the plugin in the chain that calls it, without what libcni adds.
fn plugin_of(program: &str, part: &Value) -> Value {
    let mut plugin = json!({"type": program});
    let subnet = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    match program {
        "static" => {
            plugin = json!({"type": "bridge", "ipam": part});
            plugin["ipam"]["type"] = program.into();
            return plugin;
        }
        "bridge" | "ptp" | "macvlan" | "ipvlan" | "vlan" => plugin["ipam"] = subnet,
        _ => {}
    }
    for (key, value) in part.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    plugin
}

/// What the plugin says to ADD in a network namespace of its own, which ends with it.
fn ask(directory: &Path, program: &str, mut plugin: Value, leases: &Path) -> String {
    plugin["name"] = "net".into();
    plugin["cniVersion"] = "1.0.0".into();
    if plugin.pointer("/ipam/subnet").is_some() {
        plugin["ipam"]["dataDir"] = leases.to_str().into();
    } else if plugin.get("ipam").is_none() {
        plugin["prevResult"] = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "sandbox": "/pod"}],
            "ips": [{"address": "10.1.0.2/24", "interface": 0}],
        });
    }
    let mut child = Command::new("unshare")
        .arg("--net")
        .arg(directory.join(program))
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "pod")
        .env("CNI_NETNS", "/proc/self/ns/net")
        // The pod's namespace is the plugin's own one, because nothing is to be left.
        .env("CNI_NETNS_OVERRIDE", "1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(plugin.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn the_real_plugins_refuse_what_the_table_says() {
    let Some(directory) = built("plugins") else {
        return skipped("the reference plugins are not there to be asked: scripts/peers plugins");
    };
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can make a network namespace");
    }
    let leases = tempfile::tempdir().unwrap();
    for (program, part, message) in REFUSED {
        let plugin = plugin_of(program, &serde_json::from_str(part).unwrap());
        let said = ask(&directory, program, plugin, leases.path());
        assert!(said.contains(message), "{program} with {part} says {said}");
    }
}

/// The table is what `validate` still lets pass. What it learns to refuse leaves the table.
#[test]
fn validate_does_not_know_of_them_yet() {
    for (program, part, _) in REFUSED {
        let plugin = plugin_of(program, &serde_json::from_str(part).unwrap());
        let conflist =
            json!({"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "x"}, plugin]});
        let report = validate_conflist(conflist.to_string().as_bytes());
        let ours: Vec<_> = report
            .errors()
            .cloned()
            .chain(check_ranges(&conflist, &[], &[]))
            .collect();
        assert_eq!(ours, [], "{program} with {part}");
    }
}
