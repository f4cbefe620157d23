//! Configurations of the reference plugins, right and wrong. Their keys and values are those of the plugins' own
//! documentation and code, so that our table is not asked about itself.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::generator::{one_in, pick};

/// What a plugin is asked.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) program: String,
    /// Its configuration, without what libcni adds.
    pub(super) plugin: Map<String, Value>,
    pub(super) version: &'static str,
    /// It is called without the result of an earlier plugin, also where it needs one.
    pub(super) is_first: bool,
}

/// The plugins that change what an earlier one has made.
pub(super) const CHAINED: [&str; 6] = ["portmap", "bandwidth", "firewall", "sbr", "tuning", "vrf"];

/// Each plugin with what it cannot do without, and with its keys and what each may be, in JSON.
type Described = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
);

const FLAG: &[&str] = &["true", "false", "true", "\"true\"", "1"];
const MTU: &[&str] = &[
    "1400", "1500", "0", "-1", "67", "68", "1279", "1280", "1500.0", "65535", "65536", "\"1450\"",
    "1450.5",
];
const MAC: &[&str] = &[
    "\"02:00:00:00:00:01\"",
    "\"\"",
    "\"01:00:00:00:00:01\"",
    "\"00:00:00:00:00:00\"",
    "\"02-00-00-00-00-01\"",
    "\"0200.0000.0001\"",
    "\"02:00:00:00:00\"",
    "\"x\"",
];
const LINK: &[&str] = &[
    "\"br0\"",
    "\"cni0\"",
    "\"\"",
    "\"a-name-of-16-byt\"",
    "\"a-name-of-15-by\"",
    "\"a/b\"",
    "\"a b\"",
    "\".\"",
    "\"a%db\"",
    "\"à\"",
    "\"ä\"",
    "\"a:b\"",
];
const MASTER: &[&str] = &["\"up0\"", "\"up0\"", "\"nowhere\"", "\"\""];
const UINT: &[&str] = &[
    "0",
    "1",
    "7",
    "-1",
    "4294967295",
    "4294967296",
    "1.5",
    "\"1\"",
];
const RATE: &[&str] = &[
    "0",
    "1000000",
    "8000",
    "-1",
    "1.5",
    "\"1\"",
    "34359738359",
    "34359738360",
    "1e6",
];
const CONDITIONS: &[&str] = &[
    "[]",
    "[\"-s\", \"10.0.0.0/8\"]",
    "[\"!\", \"-d\", \"10.0.0.0/8\"]",
    "[\"ip\", \"saddr\", \"10.0.0.0/8\"]",
    "[\"\"]",
    "\"-s 10.0.0.0/8\"",
    "[null]",
    "[7]",
];
const MASQ: &[&str] = &["\"iptables\"", "\"iptables\"", "\"ebpf\"", "\"\""];

const DESCRIBED: &[Described] = &[
    (
        "bridge",
        "{}",
        &[
            ("bridge", LINK),
            ("isGateway", FLAG),
            ("isDefaultGateway", FLAG),
            ("forceAddress", FLAG),
            ("ipMasq", FLAG),
            ("ipMasqBackend", MASQ),
            ("mtu", MTU),
            ("hairpinMode", FLAG),
            ("promiscMode", FLAG),
            ("vlan", &["0", "5", "4094", "4095", "-1"]),
            (
                "vlanTrunk",
                &[
                    "[]",
                    "[{\"id\": 5}]",
                    "[{\"id\": 0}]",
                    "[{\"minID\": 5}]",
                    "[{\"maxID\": 5}]",
                    "[{\"minID\": 9, \"maxID\": 5}]",
                    "[{\"minID\": 5, \"maxID\": 4095}]",
                    "[{\"minID\": 5, \"maxID\": 9, \"id\": 11}]",
                    "[null]",
                    "{}",
                    "[{}]",
                ],
            ),
            ("preserveDefaultVlan", FLAG),
            ("macspoofchk", &["false", "\"yes\""]),
            ("enabledad", FLAG),
            ("disableContainerInterface", FLAG),
            ("portIsolation", FLAG),
            (
                "args",
                &[
                    "{\"cni\": {\"mac\": \"02:00:00:00:00:01\"}}",
                    "{\"cni\": {\"mac\": 7}}",
                    "{\"cni\": 7}",
                    "{\"x\": 7}",
                ],
            ),
            (
                "runtimeConfig",
                &["{\"mac\": \"02:00:00:00:00:01\"}", "{\"mac\": 7}", "{}"],
            ),
            ("isGatway", FLAG),
        ],
    ),
    (
        "ptp",
        "{}",
        &[
            ("ipMasq", FLAG),
            ("ipMasqBackend", MASQ),
            ("mtu", MTU),
            ("bridge", LINK),
        ],
    ),
    (
        "macvlan",
        r#"{"master": "up0"}"#,
        &[
            ("master", MASTER),
            (
                "mode",
                &[
                    "\"bridge\"",
                    "\"private\"",
                    "\"vepa\"",
                    "\"passthru\"",
                    "\"\"",
                    "\"Bridge\"",
                    "\"x\"",
                ],
            ),
            ("mtu", MTU),
            ("mac", MAC),
            ("linkInContainer", FLAG),
            ("bcqueuelen", UINT),
            (
                "runtimeConfig",
                &["{\"mac\": \"02:00:00:00:00:02\"}", "{\"mac\": []}"],
            ),
        ],
    ),
    (
        "ipvlan",
        r#"{"master": "up0"}"#,
        &[
            ("master", MASTER),
            (
                "mode",
                &["\"l2\"", "\"l3\"", "\"l3s\"", "\"\"", "\"l4\"", "\"L2\""],
            ),
            ("mtu", MTU),
            ("linkInContainer", FLAG),
        ],
    ),
    (
        "vlan",
        r#"{"master": "up0", "vlanId": 5}"#,
        &[
            ("master", MASTER),
            ("vlanId", &["0", "5", "4094", "4095", "-1", "\"5\"", "5.5"]),
            ("mtu", MTU),
            ("linkInContainer", FLAG),
        ],
    ),
    (
        "tap",
        "{}",
        &[
            ("multiQueue", FLAG),
            ("mtu", MTU),
            ("mac", MAC),
            ("owner", UINT),
            ("group", UINT),
            ("bridge", &["\"\"", "\"nowhere\"", "7"]),
            ("selinuxContext", &["\"\"", "7"]),
            ("args", &["{}", "{\"cni\": 7}", "7", "[]"]),
            (
                "runtimeConfig",
                &["{\"mac\": \"02:00:00:00:00:02\"}", "{\"mac\": 1}"],
            ),
        ],
    ),
    ("dummy", "{}", &[("mtu", MTU), ("x", FLAG)]),
    (
        "host-device",
        r#"{"device": "up1"}"#,
        &[
            ("device", &["\"up1\"", "\"\"", "\"nowhere\"", "7"]),
            ("hwaddr", &["\"\"", "\"x\"", "\"02:00:00:00:00:01\"", "7"]),
            ("kernelpath", &["\"\"", "7", "\"/sys/x\""]),
            ("pciBusID", &["\"\"", "7", "\"0000:00:00.0\""]),
            ("DPDKMode", &["false", "\"x\""]),
            ("dpdkmode", &["false", "7"]),
            ("useInterfaceNetwork", FLAG),
            (
                "runtimeConfig",
                &["{\"deviceID\": \"\"}", "{\"deviceID\": 7}"],
            ),
        ],
    ),
    ("loopback", "{}", &[("mtu", MTU), ("x", FLAG)]),
    (
        "flannel",
        "{}",
        &[
            ("subnetFile", &["\"/run/flannel/subnet.env\"", "\"\"", "7"]),
            ("dataDir", &["\"/run/flannel/data\"", "7"]),
            (
                "delegate",
                &[
                    "{\"hairpinMode\": true, \"isDefaultGateway\": true}",
                    "{\"mtu\": \"1450\"}",
                    "{\"type\": 7}",
                    "{\"type\": \"\"}",
                    "{\"name\": \"x\"}",
                    "{\"ipam\": {}}",
                    "{\"type\": \"ptp\"}",
                    "{\"bridge\": \"a-name-of-16-byt\"}",
                    "{\"hairpinMode\": true, \"promiscMode\": true}",
                    "[]",
                    "{\"isGatway\": true}",
                    "{\"ipMasq\": 1}",
                ],
            ),
            (
                "ipam",
                &[
                    "{\"type\": \"host-local\"}",
                    "{\"routes\": [{\"dst\": \"10.9.0.0/16\"}]}",
                    "{\"type\": \"host-local\", \"routes\": [{\"dst\": \"x\"}]}",
                    "{\"type\": \"host-local\", \"dataDir\": \"/run/leases\"}",
                ],
            ),
        ],
    ),
    (
        "portmap",
        "{}",
        &[
            (
                "backend",
                &["\"iptables\"", "\"nftables\"", "\"ebpf\"", "\"\""],
            ),
            ("snat", FLAG),
            ("conditionsV4", CONDITIONS),
            ("conditionsV6", CONDITIONS),
            ("masqAll", FLAG),
            (
                "markMasqBit",
                &["0", "13", "31", "32", "-1", "\"5\"", "5.5"],
            ),
            ("externalSetMarkChain", &["\"KUBE-MARK-MASQ\"", "\"\"", "7"]),
            (
                "capabilities",
                &["{\"portMappings\": true}", "{\"portMappings\": \"yes\"}"],
            ),
            (
                "runtimeConfig",
                &[
                    "{}",
                    "{\"portMappings\": []}",
                    "{\"portMappings\": [{\"hostPort\": 0, \"containerPort\": 80, \"protocol\": \"tcp\"}]}",
                    "{\"portMappings\": {}}",
                ],
            ),
        ],
    ),
    (
        "bandwidth",
        "{}",
        &[
            ("ingressRate", RATE),
            ("ingressBurst", RATE),
            ("egressRate", RATE),
            ("egressBurst", RATE),
            (
                "runtimeConfig",
                &[
                    "{}",
                    "{\"bandwidth\": {\"ingressRate\": \"1\"}}",
                    "{\"bandwidth\": []}",
                ],
            ),
        ],
    ),
    (
        "firewall",
        "{}",
        &[
            (
                "backend",
                &["\"iptables\"", "\"firewalld\"", "\"\"", "\"x\"", "7"],
            ),
            (
                "iptablesAdminChainName",
                &[
                    "\"ADMIN\"",
                    "\"\"",
                    "7",
                    "\"a-chain-that-is-too-long-for-it\"",
                    "\"a b\"",
                    "\"-x\"",
                ],
            ),
            ("firewalldZone", &["\"trusted\"", "7"]),
            (
                "ingressPolicy",
                &[
                    "\"open\"",
                    "\"same-bridge\"",
                    "\"isolated\"",
                    "\"\"",
                    "\"closed\"",
                    "\"Open\"",
                ],
            ),
        ],
    ),
    (
        "sbr",
        "{}",
        &[
            ("table", &["7", "100", "\"7\"", "1.5"]),
            ("addSourceHints", FLAG),
            (
                "gateways",
                &[
                    "[]",
                    "[\"10.1.0.1\"]",
                    "[\"10.1.0.1\", \"fd00::1\"]",
                    "[\"10.1.0.1\", \"10.1.0.3\"]",
                    "[\"x\"]",
                    "[\"\"]",
                    "[null]",
                    "\"10.1.0.1\"",
                    "[\"fd00::1\", \"fd00::2\"]",
                ],
            ),
        ],
    ),
    (
        "tuning",
        "{}",
        &[
            ("dataDir", &["\"/run/tuning\"", "7"]),
            ("mac", MAC),
            ("promisc", FLAG),
            ("mtu", MTU),
            ("txQLen", &["0", "1000", "-1", "\"7\""]),
            ("allmulti", FLAG),
            (
                "sysctl",
                &[
                    "{}",
                    "{\"net.ipv4.conf.IFNAME.arp_filter\": \"1\"}",
                    "{\"net.core.somaxconn\": \"500\"}",
                    "{\"net.core.somaxconn\": 500}",
                    "{\"kernel.shm_rmid_forced\": \"1\"}",
                    "{\"net/ipv4/ip_forward\": \"1\"}",
                    "{\"net\": \"1\"}",
                    "{\"net.ipv4/../../kernel.x\": \"1\"}",
                    "[]",
                    "{\"\": \"1\"}",
                ],
            ),
            (
                "args",
                &[
                    "{}",
                    "{\"cni\": {\"mtu\": 1400}}",
                    "{\"cni\": {\"mtu\": \"1400\"}}",
                    "{\"cni\": {\"sysctl\": {\"net.core.somaxconn\": \"500\"}}}",
                    "{\"cni\": []}",
                ],
            ),
        ],
    ),
    (
        "vrf",
        r#"{"vrfname": "red"}"#,
        &[
            (
                "vrfname",
                &["\"red\"", "\"\"", "7", "\"a-name-of-16-byt\"", "\"a/b\""],
            ),
            ("table", UINT),
        ],
    ),
];

/// What any key may be.
const ANYTHING: &[&str] = &[
    "null",
    "true",
    "0",
    "1",
    "-1",
    "1.5",
    "1e3",
    "\"\"",
    "\"1450\"",
    "\"x\"",
    "[]",
    "{}",
    "[null]",
    "[\"x\"]",
    "{\"x\": 1}",
];

const HOST_LOCAL: &[&str] = &[
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}"#,
    r#"{"subnet": "10.1.0.0/24", "gateway": "10.1.0.9", "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.7"}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9"}], [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"}]]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}]]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "10.9.0.1/16"}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0", "gw": "192.168.7.1"}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0"}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "priority": 7}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [null]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "10.9.0.0/16", "table": 7, "scope": 253}]}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "192.168.7.1/32", "scope": 253}, {"dst": "0.0.0.0/0", "gw": "192.168.7.1"}]}"#,
    r#"{"ranges": []}"#,
    r#"{"ranges": [[{"subnet": "10.1.0.5/24"}]]}"#,
    r#"{"Ranges": [[{"subnet": "10.1.0.0/24"}]], "gatway": "10.1.0.1"}"#,
];
const STATIC: &[&str] = &[
    r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"address": "10.2.0.2/24", "gateway": "10.2.0.1"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.1.0.1"]}}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24"}], "dns": {"search": "x"}}"#,
    r#"{"addresses": []}"#,
    r#"{}"#,
    r#"{"addresses": [{"address": "10.1.0.2"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/33"}]}"#,
    r#"{"addresses": [{}]}"#,
    r#"{"addresses": [null]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "gw"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24", "gatway": "10.1.0.1"}]}"#,
    r#"{"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}], "routes": [{"dst": "0.0.0.0/0", "gw": "10.7.0.1"}]}"#,
];
const DHCP: &[&str] = &[
    "{}",
    r#"{"daemonSocketPath": "/run/cni/dhcp.sock", "priority": 7}"#,
    r#"{"provide": [{"option": "host-name", "value": "x"}], "request": [{"option": "121"}, {"skipDefault": true}]}"#,
    r#"{"provide": [{"option": "hostname", "value": "x"}]}"#,
    r#"{"provide": [{"option": "256", "value": "x"}]}"#,
    r#"{"provide": [{"option": "", "value": "x"}]}"#,
    r#"{"provide": [{"option": 12, "value": "x"}]}"#,
    r#"{"request": [{"option": "routers", "skipDefault": "true"}]}"#,
    r#"{"request": {"option": "routers"}}"#,
    r#"{"daemonSocketPath": 7}"#,
    r#"{"priority": "7"}"#,
];

/// A plugin with some of its keys, rightly or wrongly written, and a value of each that is usually one of those that
/// somebody could write.
pub(super) fn question(rng: &mut Rng, with_flannel: bool) -> Question {
    let (program, base, keys) = loop {
        let described = pick(DESCRIBED, rng);
        if with_flannel || described.0 != "flannel" {
            break described;
        }
    };
    let mut plugin = parsed(base).as_object().unwrap().clone();
    plugin.insert("type".to_owned(), program.into());
    let has_ipam = !CHAINED.contains(&program) && !["flannel", "loopback"].contains(&program);
    if has_ipam && !one_in(rng, 8) {
        plugin.insert("ipam".to_owned(), ipam(rng));
    }
    for _ in 0..[0, 1, 1, 1, 2, 2, 3, 4][rng.usize(..8)] {
        let (key, values) = pick(keys, rng);
        let value = pick(if one_in(rng, 6) { ANYTHING } else { values }, rng);
        plugin.insert(respelled(key, rng), parsed(value));
    }
    if !plugin.keys().any(|key| key == "dataDir") && program == "flannel" {
        plugin.insert("dataDir".to_owned(), "/run/flannel/data".into());
    }
    if one_in(rng, 10)
        && let Some((key, _)) = parsed(base).as_object().unwrap().iter().next()
    {
        plugin.remove(key);
    }
    Question {
        program: program.to_owned(),
        plugin,
        // The last one of the reference set speaks no newer one.
        version: if program == "flannel" {
            "0.4.0"
        } else {
            "1.0.0"
        },
        is_first: one_in(rng, 15),
    }
}

fn ipam(rng: &mut Rng) -> Value {
    let (kind, choices) = match rng.u32(..8) {
        0..=4 => ("host-local", HOST_LOCAL),
        5 | 6 => ("static", STATIC),
        _ => ("dhcp", DHCP),
    };
    // The first ones are right, so that what else is there gets its turn.
    let choice = match one_in(rng, 2) {
        true => choices[rng.usize(..2)],
        false => pick(choices, rng),
    };
    let mut ipam = parsed(choice);
    ipam["type"] = kind.into();
    if kind == "host-local" {
        ipam["dataDir"] = json!("/run/leases");
    }
    ipam
}

fn respelled(key: &str, rng: &mut Rng) -> String {
    match rng.u32(..12) {
        0 => key.to_uppercase(),
        1 => key.to_lowercase(),
        2 => key[1..].to_owned(),
        _ => key.to_owned(),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
