//! The configuration of the reference plugins, as a table: the keys that each reads, what their values have to be, and
//! the rules about several of them. The plugins read their configuration at every ADD, so that no pod starts with a
//! mistake in it. `tests/suite/cni` holds the table to the verdicts of the real plugins.

mod chained;
mod interfaces;
mod ipam;

pub(super) use interfaces::VLAN_TRUNK_RULES;
pub(super) use ipam::BESIDE_IPAM;

use super::plugin_rules::ReferencePlugin;
use super::wanted_value::KnownKeys;
use super::wanted_value::WantedValue::Any;
use chained::CHAINED;
use interfaces::INTERFACES;
use ipam::IPAM;

/// The IPAM plugin that most conflists use.
pub(super) const HOST_LOCAL: &str = "host-local";

/// The keys that libcni reads or writes itself in the configuration of every plugin of the chain. `plugin_conf` checks
/// them.
pub(super) const COMMON: KnownKeys = &[
    ("type", Any),
    ("name", Any),
    ("cniVersion", Any),
    ("capabilities", Any),
    ("ipam", Any),
    ("dns", Any),
    ("prevResult", Any),
    ("args", Any),
    ("runtimeConfig", Any),
    ("cni.dev/valid-attachments", Any),
    ("cni.dev/attachments", Any),
];

/// The plugin of the chain with this name.
pub(super) fn find_plugin(name: &str) -> Option<&'static ReferencePlugin> {
    let mut known = INTERFACES.iter().chain(CHAINED);
    known.find(|plugin| plugin.name == name)
}

/// The IPAM plugin with this name.
pub(super) fn find_ipam_plugin(name: &str) -> Option<&'static ReferencePlugin> {
    IPAM.iter().find(|plugin| plugin.name == name)
}
