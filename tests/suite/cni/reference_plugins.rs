//! The real reference plugins and our table of their keys, types and rules: of what they refuse at ADD nothing passes,
//! and of what they accept nothing is refused, on a table and on generated configurations.
//!
//! Each is asked in namespaces of its own, with an interface that can be a master, and for a chained plugin with the
//! interface of a pod.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cni_keeper::cni::{check_plugins, validate_conflist};
use serde_json::{Map, Value, json};

use super::differential::{Counts, Run};
use super::minimise::minimise;
use super::oracle::built;
use super::plugin_generator::{CHAINED, Question, question};
use crate::support::node::Node;
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
    (
        "bridge",
        r#"{"isDefaultGateway": true, "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": "/run/leases", "routes": [{"dst": "0.0.0.0/0"}]}}"#,
        "file exists",
    ),
    ("tap", r#"{"owner": 7, "group": 4294967295}"#, "TUNSETGROUP"),
    (
        "tap",
        r#"{"mtu": 65522}"#,
        "mtu greater than device maximum",
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

/// What a plugin needs, and what is started beside it. `$0` is the plugin, `$1` says whether it is chained.
const SCENE: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
cd /run
mkdir -p /run/cni /run/flannel
printf '%s\n' FLANNEL_NETWORK=10.244.0.0/16 FLANNEL_SUBNET=10.244.1.1/24 FLANNEL_MTU=1450 FLANNEL_IPMASQ=false \
  >/run/flannel/subnet.env
ip link set lo up
if [ "$1" = chained ]; then
  ip link add host0 type veth peer name eth0
  ip link set host0 up
  ip link set eth0 up
  ip addr add 10.1.0.2/24 dev eth0
fi
ip link add up0 type veth peer name up1
ip link set up0 up
ip link set up1 up
if [ "$1" = dhcp ]; then
  "${CNI_PATH%%:*}/dhcp" daemon -timeout 1ms -resendmax 1ms -resendtimeout 1ms 2>/dev/null &
  until [ -S /run/cni/dhcp.sock ]; do sleep 0.01; done
fi
exec "$0"
"#;

/// What depends on the node or on this kernel, so that it is no verdict about the configuration: a part of the message, and
/// why.
const NODE: &[(&str, &str)] = &[
    ("operation not supported", "this kernel has no such device"),
    ("Link not found", "the interface that is named is not here"),
    ("link not found", "the same"),
    ("no such network interface", "the same"),
    ("failed to find host device", "the same"),
    ("failed to get bridge", "the same"),
    (
        "no default route interface found",
        "nothing leads out of here",
    ),
    (
        "/proc/sys/net",
        "this kernel has no such parameter, or another value of it",
    ),
    ("system bus not found", "firewalld does not run here"),
    ("exec: \"nft\"", "there is no nft here"),
    ("keep_addr_on_down", "/proc/sys is not of this namespace"),
    ("no more tries", "no DHCP server answers"),
    ("must be [0, master MTU", "the master has a smaller one"),
    ("error with host device", "there is no such PCI device here"),
    ("set socket label", "SELinux is not on here"),
    ("unable to find host device", "there is no such device here"),
    (
        "iptables backend was requested but",
        "with a node without iptables it works, so it is a warning",
    ),
];

/// Where we are stricter than the plugins on purpose.
const STRICTER: &[(&str, &str)] = &[
    (
        "ignores case",
        "of two spellings the plugin takes the one that sorts last",
    ),
    ("libcni ignores case", "the same"),
    ("beyond 2^53", "libcni passes numbers on as 64-bit floats"),
    (
        "no address that a network card can have",
        "tap gives it to `ip`, and tuning takes eight bytes for six",
    ),
    (
        "is out of range",
        "tap ignores the MTU where it has an owner and a group",
    ),
];

/// Where the plugins are that scripts/peers built.
struct Plugins {
    reference: PathBuf,
    flannel: Option<PathBuf>,
}

enum Verdict {
    Accepted,
    Refused(String),
    /// It got past its configuration, and failed at something of this node.
    FailedHere,
}

impl Plugins {
    /// None, and it is said why, where they cannot be asked.
    fn find() -> Option<Self> {
        let Some(reference) = built("plugins") else {
            skipped("the reference plugins are not there to be asked: scripts/peers plugins");
            return None;
        };
        if !nix::unistd::geteuid().is_root() {
            skipped("only root can make a network namespace");
            return None;
        }
        Some(Self {
            reference,
            flannel: built("flannel"),
        })
    }

    fn path_of(&self, program: &str) -> PathBuf {
        match (&self.flannel, program) {
            (Some(directory), "flannel") => directory.join(program),
            _ => self.reference.join(program),
        }
    }

    /// The result of an ADD in namespaces of its own, which end with it, or what the plugin says.
    fn ask(&self, question: &Question) -> Result<String, String> {
        let program = &question.program;
        let mut plugin = question.plugin.clone();
        plugin.values_mut().for_each(as_libcni_writes);
        plugin.insert("name".to_owned(), "net".into());
        plugin.insert("cniVersion".to_owned(), question.version.into());
        let is_chained = CHAINED.contains(&program.as_str());
        if is_chained && !question.is_first {
            let result = json!({
                "cniVersion": question.version,
                "interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": "/proc/self/ns/net"}],
                "ips": [{"address": "10.1.0.2/24", "interface": 1}],
            });
            plugin.insert("prevResult".to_owned(), result);
        }
        let asks_dhcp =
            plugin.get("ipam").and_then(|ipam| ipam.get("type")) == Some(&json!("dhcp"));
        let scene = match (is_chained, asks_dhcp) {
            (true, _) => "chained",
            (false, true) => "dhcp",
            (false, false) => "alone",
        };
        let path = self.path_of(program);
        let mut directories = self.reference.clone().into_os_string();
        directories.push(":");
        directories.push(path.parent().unwrap());
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--mount-proc",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", SCENE])
            .arg(&path)
            .arg(scene)
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "pod")
            .env("CNI_NETNS", "/proc/self/ns/net")
            // The pod's namespace is the plugin's own one, because nothing is to be left.
            .env("CNI_NETNS_OVERRIDE", "1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A plugin that fails early may not read it.
        let _ = stdin.write_all(Value::Object(plugin).to_string().as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&[output.stdout, output.stderr].concat())),
        }
    }

    fn judge(&self, question: &Question) -> Verdict {
        match self.ask(question) {
            Ok(_) => Verdict::Accepted,
            Err(said) if NODE.iter().any(|(part, _)| said.contains(part)) => Verdict::FailedHere,
            Err(said) => Verdict::Refused(said),
        }
    }
}

/// libcni reads numbers as 64-bit floats and writes them again, so that `1500.0` becomes `1500`.
fn as_libcni_writes(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().unwrap();
            if float.fract() == 0.0 && float.abs() < 1e18 {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(as_libcni_writes),
        Value::Object(members) => members.values_mut().for_each(as_libcni_writes),
        _ => {}
    }
}

/// Our errors about the plugin in a conflist, with what libcni refuses itself.
fn our_errors(question: &Question) -> Vec<String> {
    let plugin = Value::Object(question.plugin.clone());
    let mut chain = vec![plugin];
    if CHAINED.contains(&question.program.as_str()) && !question.is_first {
        chain.insert(0, json!({"type": "x"}));
    }
    let conflist = json!({"name": "net", "cniVersion": question.version, "plugins": chain});
    let report = validate_conflist(conflist.to_string().as_bytes());
    let of_plugins = check_plugins(&conflist);
    let findings = report.findings.iter().chain(&of_plugins);
    findings
        .filter(|finding| finding.is_error())
        .map(ToString::to_string)
        .collect()
}

fn difference(plugins: &Plugins, question: &Question, counts: &mut Counts) -> Option<String> {
    let ours = our_errors(question);
    // Of two spellings it is enough to say that there are two.
    let is_twofold = ours.iter().any(|error| error.contains("ignores case"));
    let unexplained = || {
        if is_twofold {
            return None;
        }
        let mut ours = ours.iter();
        ours.find(|error| !STRICTER.iter().any(|(part, _)| error.contains(part)))
    };
    match plugins.judge(question) {
        Verdict::Refused(said) => {
            counts.count("refused");
            ours.is_empty()
                .then(|| format!("{} says '{said}', we accept it", question.program))
        }
        Verdict::Accepted => {
            counts.count("accepted");
            unexplained().map(|error| format!("{} accepts it, we say '{error}'", question.program))
        }
        Verdict::FailedHere => {
            counts.count("failed here");
            // It has read its configuration, so the types are right.
            let wrong_type = format!("which {} refuses; write", question.program);
            let ours = unexplained().filter(|error| error.contains(&wrong_type));
            ours.map(|error| format!("{} can read it, we say '{error}'", question.program))
        }
    }
}

#[test]
fn what_the_real_plugins_refuse_we_refuse_and_nothing_else() {
    let Some(plugins) = Plugins::find() else {
        return;
    };
    let has_flannel = plugins.flannel.is_some();
    if !has_flannel {
        skipped("the flannel plugin is not asked: scripts/peers flannel");
    }
    // Each takes a hundred times as long as asking a library.
    let run = Run::asked(30);
    let counts = run.judge(
        || (),
        |(), rng, counts| {
            let asked = question(rng, has_flannel);
            difference(&plugins, &asked, counts)?;
            let mut ignored = Counts::default();
            let with = |members: &[(String, Value)]| Question {
                plugin: members.iter().cloned().collect(),
                ..asked.clone()
            };
            let members: Vec<_> = asked.plugin.clone().into_iter().collect();
            let members = minimise(members, |members| {
                members.iter().any(|(key, _)| key == "type")
                    && difference(&plugins, &with(members), &mut ignored).is_some()
            });
            let asked = with(&members);
            let said = difference(&plugins, &asked, &mut ignored).unwrap_or_default();
            let plugin = Value::Object(asked.plugin);
            Some(format!("{said}: {plugin}"))
        },
    );
    if run.is_long() {
        for kind in ["refused", "accepted"] {
            assert!(
                counts.share_of(kind, run) > 10,
                "few configurations are {kind}"
            );
        }
    }
}

/// The configuration of the plugin in the chain that calls it, without what libcni adds.
fn from_table(program: &str, part: &Value) -> Question {
    let mut plugin = Map::new();
    plugin.insert("type".to_owned(), program.into());
    let mut asked = program;
    if program == "static" {
        plugin.insert("ipam".to_owned(), part.clone());
        plugin["ipam"]["type"] = program.into();
        plugin["type"] = "bridge".into();
        asked = "bridge";
    } else {
        if ["bridge", "ptp", "macvlan", "ipvlan", "vlan"].contains(&program) {
            let subnet =
                json!({"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": "/run/leases"});
            plugin.insert("ipam".to_owned(), subnet);
        }
        plugin.extend(part.as_object().unwrap().clone());
    }
    Question {
        program: asked.to_owned(),
        plugin,
        version: "1.0.0",
        is_first: false,
    }
}

#[test]
fn the_real_plugins_refuse_what_the_table_says() {
    let Some(plugins) = Plugins::find() else {
        return;
    };
    for (program, part, message) in REFUSED {
        let question = from_table(program, &serde_json::from_str(part).unwrap());
        let said = plugins.ask(&question).err().unwrap_or_default();
        assert!(said.contains(message), "{program} with {part} says {said}");
    }
}

#[test]
fn validate_refuses_what_the_table_says() {
    for (program, part, _) in REFUSED {
        let question = from_table(program, &serde_json::from_str(part).unwrap());
        assert_eq!(our_errors(&question).len(), 1, "{program} with {part}");
    }
}

/// The reference profiles with the ranges of both families, as they are rendered, given to the real plugins.
#[test]
fn the_reference_profiles_give_a_pod_an_address_of_each_family() {
    let Some(plugins) = Plugins::find() else {
        return;
    };
    for profile in ["reference-bridge", "reference-ptp"] {
        let node = Node::empty();
        node.declare_text(&format!(
            "profile: {profile}\nnetwork: {{facts: [{{values: {{node.podCIDRs: [10.1.0.0/24, \"fd00:1::/64\"]}}}}]}}\n"
        ));
        let conflist = node.run("render").exits(0).json();
        let mut plugin = conflist["plugins"][0].as_object().unwrap().clone();
        plugin["ipam"]["dataDir"] = "/run/leases".into();
        let asked = Question {
            program: plugin["type"].as_str().unwrap().to_owned(),
            plugin,
            version: "1.0.0",
            is_first: true,
        };
        let result: Value = serde_json::from_str(&plugins.ask(&asked).unwrap()).unwrap();
        let given = |list: &str, key: &str| -> Vec<String> {
            let list = result[list].as_array().unwrap().iter();
            list.map(|one| one[key].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            given("ips", "address"),
            ["10.1.0.2/24", "fd00:1::2/64"],
            "{profile}"
        );
        assert_eq!(given("routes", "dst"), ["0.0.0.0/0", "::/0"], "{profile}");
    }
}
