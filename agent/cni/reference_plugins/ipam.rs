//! The IPAM plugins. Their keys are those of the object `ipam`.

use crate::cni::plugin_rules::ReferencePlugin;
use crate::cni::wanted_value::WantedValue::{
    Address, Any, DhcpOption, Flag, List, Object, Open, Prefixed, Subnet, Text,
};
use crate::cni::wanted_value::{INT, KnownKeys};

/// Each of them.
pub(super) static IPAM: &[ReferencePlugin] = &[
    ReferencePlugin {
        name: "host-local",
        keys: &[
            ("type", Any),
            ("name", Text),
            ("dataDir", Text),
            ("resolvConf", Text),
            ("routes", List(&Object(ROUTE))),
            ("ranges", List(&List(&Object(RANGE)))),
            ("subnet", Subnet),
            ("rangeStart", Address),
            ("rangeEnd", Address),
            ("gateway", Address),
        ],
        rules: &[],
    },
    ReferencePlugin {
        name: "static",
        keys: &[
            ("type", Any),
            ("name", Text),
            ("routes", List(&Object(ROUTE))),
            ("addresses", List(&Object(STATIC_ADDRESS))),
            ("dns", Object(DNS)),
        ],
        rules: &[],
    },
    ReferencePlugin {
        name: "dhcp",
        keys: &[
            ("type", Any),
            ("daemonSocketPath", Text),
            ("provide", List(&Object(PROVIDED_OPTION))),
            ("request", List(&Object(REQUESTED_OPTION))),
            ("priority", INT),
        ],
        rules: &[],
    },
];

const RANGE: KnownKeys = &[
    ("subnet", Subnet),
    ("rangeStart", Address),
    ("rangeEnd", Address),
    ("gateway", Address),
];

const ROUTE: KnownKeys = &[
    ("dst", Subnet),
    ("gw", Address),
    ("mtu", INT),
    ("advmss", INT),
    ("priority", INT),
    ("table", INT),
    ("scope", INT),
];

const STATIC_ADDRESS: KnownKeys = &[
    ("address", Prefixed),
    ("gateway", Address),
    ("version", Text),
];

const DNS: KnownKeys = &[
    ("nameservers", List(&Text)),
    ("domain", Text),
    ("search", List(&Text)),
    ("options", List(&Text)),
];

const PROVIDED_OPTION: KnownKeys = &[
    ("option", DhcpOption { or_empty: false }),
    ("value", Text),
    ("fromArg", Text),
];

const REQUESTED_OPTION: KnownKeys = &[
    ("option", DhcpOption { or_empty: true }),
    ("skipDefault", Flag),
];

/// What host-local and static read beside the object `ipam`, in the configuration of the plugin that calls them.
pub(in crate::cni) const BESIDE_IPAM: KnownKeys = &[
    ("args", Open(&[("cni", Open(&[("ips", List(&Text))]))])),
    (
        "runtimeConfig",
        Open(&[
            ("ips", List(&Text)),
            ("ipRanges", List(&List(&Object(RANGE)))),
        ]),
    ),
];
