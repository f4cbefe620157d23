//! What an IPAM plugin can expect of the plugin that calls it.

use serde_json::{Map, Value};

use super::spec_version::{precedes, select_version};
use super::wanted_value::get;

/// The plugins that hand their configuration on to their IPAM plugin as it is. Others fill in ranges of their own.
const HANDING_ON: [&str; 8] = [
    "bridge",
    "dummy",
    "host-device",
    "ipvlan",
    "macvlan",
    "ptp",
    "tap",
    "vlan",
];

/// What depends on the plugin that calls the IPAM plugin, and on the network.
#[derive(Clone, Copy, Default)]
pub(super) struct IpamCaller {
    /// It hands its configuration on as it is, so that what is not there will not come from anywhere.
    pub(super) adds_nothing: bool,
    /// A runtime uses a CNI version before 0.3.0, whose results have one address of each family.
    pub(super) one_per_family: bool,
    /// It gives each gateway address to the one bridge, which can have a single IPv4 address.
    pub(super) one_gateway: bool,
    /// It gives each gateway address to the node's end of the link, so that each address needs one of its own.
    pub(super) needs_gateways: bool,
    /// It adds a default route by the gateway of each family that has no default route with a gateway yet.
    pub(super) adds_default_route: bool,
}

/// The type that libcni or a plugin reads there.
pub(super) fn type_of(members: &Map<String, Value>) -> Option<&str> {
    get(members, "type").and_then(|(_, kind)| kind.as_str())
}

fn is_true(members: &Map<String, Value>, key: &str) -> bool {
    get(members, key).is_some_and(|(_, value)| *value == Value::Bool(true))
}

impl IpamCaller {
    /// The caller is `plugin` of this conflist, and what the capability `from_runtime` asks for is given by the runtime.
    pub(super) fn of(plugin: &Map<String, Value>, conflist: &Value, from_runtime: &str) -> Self {
        let kind = type_of(plugin).unwrap_or_default();
        // With its own network, host-device asks no IPAM plugin.
        let asks_nobody = kind == "host-device" && is_true(plugin, "useInterfaceNetwork");
        if asks_nobody || !HANDING_ON.contains(&kind) {
            return Self::default();
        }
        let capabilities = get(plugin, "capabilities").and_then(|(_, value)| value.as_object());
        let is_gateway = is_true(plugin, "isGateway") || is_true(plugin, "isDefaultGateway");
        Self {
            adds_nothing: !capabilities.is_some_and(|all| is_true(all, from_runtime)),
            one_per_family: uses_old_version(conflist),
            one_gateway: kind == "bridge" && is_gateway && !is_true(plugin, "forceAddress"),
            needs_gateways: kind == "ptp",
            adds_default_route: kind == "bridge" && is_true(plugin, "isDefaultGateway"),
        }
    }
}

/// Whether a runtime uses a version before 0.3.0.
fn uses_old_version(conflist: &Value) -> bool {
    let listed = conflist.get("cniVersions").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_str);
    let declared = conflist.get("cniVersion").and_then(Value::as_str);
    let declared = declared.unwrap_or_default();
    let selected = select_version(&listed.collect::<Vec<_>>(), declared);
    [declared, selected]
        .iter()
        .any(|version| precedes(version, "0.3.0"))
}
