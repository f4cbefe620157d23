//! The plugins that make an interface.

use crate::cni::plugin_rules::Condition::{
    AnyIsSet, HasLongVlanName, IsFirst, IsGiven, IsGreater, IsNoneOf, IsNotGiven, IsNotSet,
    IsRelative, IsSet, IsThere,
};
use crate::cni::plugin_rules::{BACKENDS, ReferencePlugin, Rule, refuse, warn};
use crate::cni::wanted_value::WantedValue::{
    ColonMac, Flag, LinkName, List, Mac, Mtu, Object, OneOf, Open, Text,
};
use crate::cni::wanted_value::{KnownKeys, LARGEST_MTU, MAC_CONFIG, UINT32, WantedValue, from_to};

const NEEDS_IPAM: Rule = refuse(
    &[IsNotSet("ipam.type")],
    "",
    "it has no ipam with a type, and this plugin needs one for every pod",
    "name an IPAM plugin: ipam: {type: host-local, …}",
);
const WITHOUT_ADDRESS: Rule = warn(
    &[IsFirst, IsNotSet("ipam.type")],
    "",
    "it has no ipam, so pods get no address from it, and a runtime starts no pod without one",
    "name an IPAM plugin: ipam: {type: host-local, …}",
);
const UNKNOWN_MASQ_BACKEND: Rule = refuse(
    &[
        IsSet("ipMasq"),
        IsSet("ipam.type"),
        IsNoneOf("ipMasqBackend", BACKENDS),
    ],
    "ipMasqBackend",
    "there is no such backend",
    "write iptables or nftables, or remove it",
);
/// A user or group. The kernel takes the largest number for none.
const TAP_ID: WantedValue = from_to(0, u32::MAX as i128 - 1);
/// Each of them.
pub(super) static INTERFACES: &[ReferencePlugin] = &[
    ReferencePlugin {
        name: "bridge",
        keys: &[
            ("bridge", LinkName),
            ("isGateway", Flag),
            ("isDefaultGateway", Flag),
            ("forceAddress", Flag),
            ("ipMasq", Flag),
            ("ipMasqBackend", Text),
            (
                "mtu",
                Mtu {
                    or_negative: true,
                    most: LARGEST_MTU,
                },
            ),
            ("hairpinMode", Flag),
            ("promiscMode", Flag),
            ("vlan", from_to(0, 4094)),
            ("vlanTrunk", List(&Object(VLAN_TRUNK))),
            ("preserveDefaultVlan", Flag),
            ("macspoofchk", Flag),
            ("enabledad", Flag),
            ("disableContainerInterface", Flag),
            ("portIsolation", Flag),
            ("args", Open(&[("cni", MAC_CONFIG)])),
            ("runtimeConfig", MAC_CONFIG),
        ],
        rules: &[
            refuse(
                &[IsSet("hairpinMode"), IsSet("promiscMode")],
                "promiscMode",
                "bridge refuses it together with hairpinMode",
                "set one of the two to false",
            ),
            refuse(
                &[IsSet("disableContainerInterface"), IsSet("ipam.type")],
                "disableContainerInterface",
                "bridge refuses it together with ipam",
                "remove one of the two",
            ),
            refuse(
                &[
                    HasLongVlanName,
                    IsSet("vlan"),
                    IsSet("ipam.type"),
                    AnyIsSet(&["isGateway", "isDefaultGateway"]),
                ],
                "bridge",
                "with a dot and the number of the VLAN it is longer than an interface's name can be",
                "shorten it",
            ),
            UNKNOWN_MASQ_BACKEND,
            WITHOUT_ADDRESS,
        ],
    },
    ReferencePlugin {
        name: "ptp",
        keys: &[
            ("ipMasq", Flag),
            ("ipMasqBackend", Text),
            (
                "mtu",
                Mtu {
                    or_negative: true,
                    most: LARGEST_MTU,
                },
            ),
        ],
        rules: &[NEEDS_IPAM, UNKNOWN_MASQ_BACKEND],
    },
    ReferencePlugin {
        name: "host-device",
        keys: &[
            ("device", Text),
            ("hwaddr", Text),
            ("kernelpath", Text),
            ("pciBusID", Text),
            ("DPDKMode", Flag),
            ("useInterfaceNetwork", Flag),
            ("runtimeConfig", Open(&[("deviceID", Text)])),
        ],
        rules: &[
            refuse(
                &[
                    IsNotSet("device"),
                    IsNotSet("hwaddr"),
                    IsNotSet("kernelpath"),
                    IsNotSet("pciBusID"),
                    IsNotSet("runtimeConfig.deviceID"),
                    IsNotSet("capabilities.deviceID"),
                ],
                "",
                "it names no device, which host-device refuses",
                "add one of device, hwaddr, kernelpath and pciBusID",
            ),
            refuse(
                &[IsSet("DPDKMode"), IsSet("useInterfaceNetwork")],
                "useInterfaceNetwork",
                "a device bound to DPDK has no network of its own, so host-device refuses it",
                "remove it",
            ),
        ],
    },
    ReferencePlugin {
        name: "macvlan",
        keys: &[
            ("master", Text),
            (
                "mode",
                OneOf(&["", "bridge", "private", "vepa", "passthru"]),
            ),
            (
                "mtu",
                Mtu {
                    or_negative: false,
                    most: LARGEST_MTU,
                },
            ),
            ("mac", Mac),
            ("linkInContainer", Flag),
            ("bcqueuelen", UINT32),
            ("runtimeConfig", MAC_CONFIG),
        ],
        rules: &[WITHOUT_ADDRESS],
    },
    ReferencePlugin {
        name: "ipvlan",
        keys: &[
            ("master", Text),
            ("mode", OneOf(&["", "l2", "l3", "l3s"])),
            (
                "mtu",
                Mtu {
                    or_negative: true,
                    most: LARGEST_MTU,
                },
            ),
            ("linkInContainer", Flag),
        ],
        rules: &[refuse(
            &[IsFirst, IsNotSet("ipam.type")],
            "",
            "it has no ipam with a type, and no earlier plugin assigns an address",
            "name an IPAM plugin: ipam: {type: host-local, …}",
        )],
    },
    ReferencePlugin {
        name: "vlan",
        keys: &[
            ("master", Text),
            ("vlanId", from_to(0, 4094)),
            (
                "mtu",
                Mtu {
                    or_negative: false,
                    most: LARGEST_MTU,
                },
            ),
            ("linkInContainer", Flag),
        ],
        rules: &[
            refuse(
                &[IsNotSet("master")],
                "",
                "it has no master, which vlan refuses",
                "name the interface of the node for which the VLAN is made",
            ),
            WITHOUT_ADDRESS,
        ],
    },
    ReferencePlugin {
        name: "tap",
        keys: &[
            ("multiQueue", Flag),
            // The kernel gives 65535 bytes less the Ethernet header.
            (
                "mtu",
                Mtu {
                    or_negative: false,
                    most: LARGEST_MTU - 14,
                },
            ),
            ("mac", ColonMac),
            ("owner", TAP_ID),
            ("group", TAP_ID),
            ("selinuxContext", Text),
            ("bridge", Text),
            ("args", Open(&[])),
            ("runtimeConfig", MAC_CONFIG),
        ],
        rules: &[WITHOUT_ADDRESS],
    },
    ReferencePlugin {
        name: "dummy",
        keys: &[],
        rules: &[NEEDS_IPAM],
    },
    ReferencePlugin {
        name: "loopback",
        keys: &[],
        rules: &[],
    },
    ReferencePlugin {
        name: "flannel",
        keys: &[
            ("subnetFile", Text),
            ("dataDir", Text),
            ("delegate", Open(&[("type", Text)])),
            ("runtimeConfig", Open(&[])),
        ],
        rules: &[
            refuse(
                &[IsGiven("subnetFile"), IsNotSet("subnetFile")],
                "subnetFile",
                "it is empty, and flannel reads its range there",
                "remove it, or write /run/flannel/subnet.env",
            ),
            refuse(
                &[IsRelative("subnetFile")],
                "subnetFile",
                "it does not begin with /, and a runtime looks for it in a directory of its own",
                "remove it, or write /run/flannel/subnet.env",
            ),
            refuse(
                &[IsGiven("dataDir"), IsNotSet("dataDir")],
                "dataDir",
                "it is empty, and flannel keeps a file for each pod there",
                "remove it",
            ),
            refuse(
                &[IsThere("delegate.ipam")],
                "delegate.ipam",
                "flannel sets it itself, and refuses one",
                "move it out of delegate",
            ),
            refuse(
                &[IsThere("delegate.name")],
                "delegate.name",
                "flannel sets it itself, and refuses one",
                "remove it",
            ),
            refuse(
                &[IsThere("delegate.type"), IsNotSet("delegate.type")],
                "delegate.type",
                "it is empty, so flannel finds no plugin to call",
                "write bridge, or remove it",
            ),
        ],
    },
];

const VLAN_TRUNK: KnownKeys = &[
    ("minID", from_to(1, 4094)),
    ("maxID", from_to(1, 4094)),
    ("id", from_to(1, 4094)),
];

/// The rules of each entry of `vlanTrunk`.
pub(in crate::cni) static VLAN_TRUNK_RULES: &[Rule] = &[
    refuse(
        &[IsGiven("minID"), IsNotGiven("maxID")],
        "",
        "it has minID and no maxID, which bridge refuses",
        "add maxID, or write id for a single VLAN",
    ),
    refuse(
        &[IsNotGiven("minID"), IsGiven("maxID")],
        "",
        "it has maxID and no minID, which bridge refuses",
        "add minID, or write id for a single VLAN",
    ),
    refuse(
        &[IsGreater("minID", "maxID")],
        "",
        "its minID is greater than its maxID",
        "exchange the two",
    ),
];
