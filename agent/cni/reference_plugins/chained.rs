//! The plugins that change what an earlier plugin has made.

use crate::cni::plugin_rules::Condition::{
    Begins, Equals, HasNoAddress, HasTwoOfAFamily, IsFirst, IsGiven, IsNotGiven, IsNotSet, IsSet,
    IsShortBurst,
};
use crate::cni::plugin_rules::{BACKENDS, ReferencePlugin, Rule, refuse, warn};
use crate::cni::wanted_value::WantedValue::{
    ChainName, Flag, LinkName, List, Mac, Mtu, Object, OneOf, Open, Sysctls, Text,
};
use crate::cni::wanted_value::{
    BURST, INT, KnownKeys, LARGEST_MTU, MAC_CONFIG, UINT32, UINT64, from_to,
};

const NEEDS_EARLIER: Rule = refuse(
    &[IsFirst],
    "type",
    "it changes an interface that an earlier plugin made, and there is no earlier plugin",
    "put it after the main plugin",
);
const RATE_AND_BURST: &str = "bandwidth refuses a rate without a burst, and a burst without a rate";
const SHORT_BURST: &str =
    "it is sent in less than a microsecond at this rate, and the kernel refuses such a bucket";
const MORE_BURST: &str = "make it larger: at least a millionth of the rate, and at least 8 bits";
const CONDITIONS_OF_IPTABLES: &str = "they are for iptables, and the backend is nftables";
const CONDITIONS_OF_NFTABLES: &str = "they are for nftables, and the backend is iptables";
const OTHER_BACKEND: &str = "change one of the two";
/// Each of them.
pub(super) static CHAINED: &[ReferencePlugin] = &[
    ReferencePlugin {
        name: "portmap",
        keys: &[
            ("backend", OneOf(BACKENDS)),
            ("snat", Flag),
            ("conditionsV4", List(&Text)),
            ("conditionsV6", List(&Text)),
            ("masqAll", Flag),
            ("markMasqBit", from_to(0, 31)),
            ("externalSetMarkChain", Text),
            (
                "runtimeConfig",
                Open(&[("portMappings", List(&Object(PORT_MAPPING)))]),
            ),
        ],
        rules: &[
            NEEDS_EARLIER,
            refuse(
                &[IsGiven("markMasqBit"), IsGiven("externalSetMarkChain")],
                "externalSetMarkChain",
                "portmap refuses it together with markMasqBit",
                "remove one of the two",
            ),
            refuse(
                &[
                    Equals("backend", "nftables"),
                    IsGiven("externalSetMarkChain"),
                ],
                "externalSetMarkChain",
                "it is for the backend iptables, and the backend is nftables",
                "remove it, or change the backend",
            ),
            refuse(
                &[
                    Equals("backend", "nftables"),
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: true,
                    },
                ],
                "conditionsV4",
                CONDITIONS_OF_IPTABLES,
                OTHER_BACKEND,
            ),
            refuse(
                &[
                    Equals("backend", "nftables"),
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: true,
                    },
                ],
                "conditionsV6",
                CONDITIONS_OF_IPTABLES,
                OTHER_BACKEND,
            ),
            refuse(
                &[
                    Equals("backend", "iptables"),
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV4",
                CONDITIONS_OF_NFTABLES,
                OTHER_BACKEND,
            ),
            refuse(
                &[
                    Equals("backend", "iptables"),
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV6",
                CONDITIONS_OF_NFTABLES,
                OTHER_BACKEND,
            ),
            refuse(
                &[
                    IsNotGiven("backend"),
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: true,
                    },
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV6",
                "they are for nftables, and the others are for iptables",
                "write both for one backend",
            ),
            refuse(
                &[
                    IsNotGiven("backend"),
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: true,
                    },
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV4",
                "they are for nftables, and the others are for iptables",
                "write both for one backend",
            ),
            refuse(
                &[
                    IsNotGiven("backend"),
                    IsGiven("externalSetMarkChain"),
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: false,
                    },
                ],
                "externalSetMarkChain",
                "it is for iptables, and the conditions are for nftables",
                "remove one of them",
            ),
            refuse(
                &[
                    IsNotGiven("backend"),
                    IsGiven("externalSetMarkChain"),
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: false,
                    },
                ],
                "externalSetMarkChain",
                "it is for iptables, and the conditions are for nftables",
                "remove one of them",
            ),
            warn(
                &[
                    IsNotGiven("backend"),
                    Begins {
                        key: "conditionsV4",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV4",
                "they are for nftables, and portmap takes iptables where the node has it, and then refuses them",
                "add backend: nftables",
            ),
            warn(
                &[
                    IsNotGiven("backend"),
                    Begins {
                        key: "conditionsV6",
                        with: "-!",
                        really: false,
                    },
                ],
                "conditionsV6",
                "they are for nftables, and portmap takes iptables where the node has it, and then refuses them",
                "add backend: nftables",
            ),
        ],
    },
    ReferencePlugin {
        name: "bandwidth",
        keys: &[
            ("ingressRate", UINT64),
            ("ingressBurst", BURST),
            ("egressRate", UINT64),
            ("egressBurst", BURST),
            ("runtimeConfig", Open(&[("bandwidth", Object(BANDWIDTH))])),
        ],
        rules: &[
            NEEDS_EARLIER,
            refuse(
                &[IsSet("ingressRate"), IsNotSet("ingressBurst")],
                "ingressRate",
                RATE_AND_BURST,
                "add ingressBurst",
            ),
            refuse(
                &[IsSet("ingressBurst"), IsNotSet("ingressRate")],
                "ingressBurst",
                RATE_AND_BURST,
                "add ingressRate",
            ),
            refuse(
                &[IsSet("egressRate"), IsNotSet("egressBurst")],
                "egressRate",
                RATE_AND_BURST,
                "add egressBurst",
            ),
            refuse(
                &[IsShortBurst {
                    rate: "ingressRate",
                    burst: "ingressBurst",
                }],
                "ingressBurst",
                SHORT_BURST,
                MORE_BURST,
            ),
            refuse(
                &[IsShortBurst {
                    rate: "egressRate",
                    burst: "egressBurst",
                }],
                "egressBurst",
                SHORT_BURST,
                MORE_BURST,
            ),
            refuse(
                &[IsSet("egressBurst"), IsNotSet("egressRate")],
                "egressBurst",
                RATE_AND_BURST,
                "add egressRate",
            ),
        ],
    },
    ReferencePlugin {
        name: "firewall",
        keys: &[
            ("backend", Text),
            ("iptablesAdminChainName", ChainName),
            ("firewalldZone", Text),
            (
                "ingressPolicy",
                OneOf(&["", "open", "same-bridge", "isolated"]),
            ),
        ],
        rules: &[NEEDS_EARLIER],
    },
    ReferencePlugin {
        name: "sbr",
        keys: &[
            ("table", INT),
            ("gateways", List(&Text)),
            ("addSourceHints", Flag),
        ],
        rules: &[
            NEEDS_EARLIER,
            refuse(
                &[IsNotGiven("table"), HasNoAddress("gateways")],
                "gateways",
                "one of them is no address, which sbr refuses",
                "write addresses such as 10.244.1.10",
            ),
            refuse(
                &[IsNotGiven("table"), HasTwoOfAFamily("gateways")],
                "gateways",
                "sbr takes one address of each family",
                "keep one of each",
            ),
        ],
    },
    ReferencePlugin {
        name: "tuning",
        keys: &[
            ("dataDir", Text),
            ("sysctl", Sysctls),
            ("mac", Mac),
            ("promisc", Flag),
            (
                "mtu",
                Mtu {
                    or_negative: false,
                    most: LARGEST_MTU,
                },
            ),
            ("txQLen", INT),
            ("allmulti", Flag),
            ("args", Open(&[("cni", Open(TUNING_ARGS))])),
            ("runtimeConfig", MAC_CONFIG),
        ],
        rules: &[
            NEEDS_EARLIER,
            refuse(
                &[IsNotGiven("sysctl"), IsSet("args.cni.sysctl")],
                "args.cni.sysctl",
                "tuning crashes where it is given without sysctl",
                "add sysctl: {}",
            ),
        ],
    },
    ReferencePlugin {
        name: "vrf",
        keys: &[("vrfname", LinkName), ("table", UINT32)],
        rules: &[
            NEEDS_EARLIER,
            refuse(
                &[IsNotSet("vrfname")],
                "",
                "it has no vrfname, which vrf refuses",
                "name the VRF",
            ),
        ],
    },
];

const PORT_MAPPING: KnownKeys = &[
    ("hostPort", from_to(1, i64::MAX as i128)),
    ("containerPort", from_to(1, i64::MAX as i128)),
    ("protocol", Text),
    ("hostIP", Text),
];

const BANDWIDTH: KnownKeys = &[
    ("ingressRate", UINT64),
    ("ingressBurst", BURST),
    ("egressRate", UINT64),
    ("egressBurst", BURST),
];

const TUNING_ARGS: KnownKeys = &[
    ("sysctl", Sysctls),
    ("mac", Mac),
    ("promisc", Flag),
    (
        "mtu",
        Mtu {
            or_negative: false,
            most: LARGEST_MTU,
        },
    ),
    ("allmulti", Flag),
    ("txQLen", INT),
];
