//! Collects the facts: the values for `${…}` in the conflist.
//!
//! - `env.NAME`, `node.name`, `host.arch` and `host.mtu` come from this process and this machine, in this file.
//! - Names that the operator chose come from `values` of the configuration, or from the lines of an `envFile`.
//! - `node.podCIDR`, `node.podCIDRs`, `node.defaultRoutes`, `node.labels.KEY` and `node.annotations.KEY` come from the Node object of the
//!   Kubernetes API: `model/node_facts.rs` takes them from it and names them. The agent asks for the object beside
//!   passes (`daemon/node_query.rs`), `known_node.rs` holds the last answer, and the state directory remembers it.

use std::path::Path;

use serde_json::Value;

use super::env_files::{EnvFileContent, EnvFiles};
use crate::cni::Facts;
use crate::config::{FactSource, Settings};
use crate::host::{self, Host};
use crate::model::{NodeFacts, with_related_facts};

/// The largest routing table that is read for `host.mtu`, in bytes.
const LARGEST_ROUTES: u64 = 4 * 1024 * 1024;

/// The facts that are known now, and why more of them may be known later.
pub(super) struct Collected {
    /// Every value that is known now.
    pub(super) facts: Facts,
    /// Why the first envFile that is not ready cannot be used yet.
    pub(super) unready: Option<String>,
    /// Why declared envFiles that are there cannot be used, and how to fix that.
    pub(super) broken: Vec<String>,
    /// Whether nothing was ever taken from one of the broken files. The facts without it may be others than those of the
    /// conflist that is in place.
    pub(super) lacks_a_file: bool,
}

/// Collects the facts of the environment, of the node and of the declared sources. A later source overrides an earlier
/// one.
///
/// A fact that this machine does not have (`host.mtu` without a default route) is left out. Only a conflist that needs
/// it is then refused. Of an envFile that cannot be used now, what was last taken counts.
pub(super) fn collect_facts(
    settings: &Settings,
    host: &Host,
    node_name: Option<&str>,
    node: Option<&NodeFacts>,
    env_files: &EnvFiles,
) -> Collected {
    let mut facts = Facts::new();
    let mut unready = None;
    let mut broken = Vec::new();
    let mut lacks_a_file = false;
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
            facts.insert(format!("env.{name}"), Value::from(value));
        }
    }
    if let Some(name) = node_name.map(str::to_owned).or_else(default_node_name) {
        facts.insert("node.name".to_owned(), Value::from(name));
    }
    facts.insert("host.arch".to_owned(), Value::from(settings.arch.as_str()));
    if let Some(mtu) = default_route_mtu() {
        facts.insert("host.mtu".to_owned(), Value::from(mtu));
    }
    for source in settings.network.iter().flat_map(|network| &network.facts) {
        match source {
            FactSource::Values(values) => {
                add_facts(&mut facts, with_related_facts(values.clone()));
            }
            FactSource::KubernetesNode => {
                let named = node.iter().flat_map(|node| node.named_facts()).collect();
                add_facts(&mut facts, with_related_facts(named));
            }
            FactSource::EnvFile(path) => match env_files.read(host, path) {
                EnvFileContent::Values(values) => add_facts(&mut facts, values),
                EnvFileContent::NotReady(reason) => {
                    unready.get_or_insert(reason);
                }
                EnvFileContent::Broken { reason, last } => {
                    broken.push(reason);
                    lacks_a_file |= last.is_none();
                    add_facts(&mut facts, last.unwrap_or_default());
                }
            },
        }
    }
    Collected {
        facts,
        unready,
        broken,
        lacks_a_file,
    }
}

/// A later source overrides an earlier one, but with no empty value.
fn add_facts(facts: &mut Facts, added: impl IntoIterator<Item = (String, Value)>) {
    for (name, value) in added {
        if value.as_str() != Some("") || !facts.contains_key(&name) {
            facts.insert(name, value);
        }
    }
}

/// The name under which kubelet registers a node unless it is configured otherwise: the host name, trimmed and in lower
/// case (kubelet `nodeutil.GetHostname`).
pub(super) fn default_node_name() -> Option<String> {
    Some(host::machine_name()?.trim().to_lowercase())
}

/// The MTU of the interface of the default route, from the kernel's tables.
///
/// The tables are read at the machine's root, not below `--host-root`, because a pod in the host's network namespace
/// sees the host's tables there.
fn default_route_mtu() -> Option<u64> {
    let machine = Host::open(Path::new("/")).ok()?;
    let text = |path: &str| {
        let bytes = machine.read_file(Path::new(path), LARGEST_ROUTES).ok()?;
        String::from_utf8(bytes).ok()
    };
    let interface = text("/proc/net/route")
        .as_deref()
        .and_then(default_interface)
        .or_else(|| {
            text("/proc/net/ipv6_route")
                .as_deref()
                .and_then(default_interface_v6)
        })?;
    text(&format!("/sys/class/net/{interface}/mtu"))?
        .trim()
        .parse()
        .ok()
}

/// The interface of the default route with the lowest metric in `/proc/net/route`.
fn default_interface(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            match columns.as_slice() {
                [interface, "00000000", _, _, _, _, metric, "00000000", ..] => {
                    Some((metric.parse::<u64>().ok()?, (*interface).to_owned()))
                }
                _ => None,
            }
        })
        .min()
        .map(|(_, interface)| interface)
}

/// The interface of the default route with the lowest metric in `/proc/net/ipv6_route`. Unreachable default routes are
/// listed there with the interface `lo`.
fn default_interface_v6(table: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            match columns.as_slice() {
                [destination, "00", _, _, _, metric, .., interface]
                    if *interface != "lo" && destination.bytes().all(|b| b == b'0') =>
                {
                    Some((
                        u64::from_str_radix(metric, 16).ok()?,
                        (*interface).to_owned(),
                    ))
                }
                _ => None,
            }
        })
        .min()
        .map(|(_, interface)| interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(default_interface(table).as_deref(), Some("eth0"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
    }

    #[test]
    fn an_unreachable_default_is_no_route() {
        let zero = "0".repeat(32);
        let line = |prefix: &str, metric: &str, interface: &str| {
            format!(
                "{zero} {prefix} {zero} 00 {zero} {metric} 00000001 00000000 00000003 {interface}\n"
            )
        };
        let table = line("00", "ffffffff", "lo")
            + &line("40", "00000001", "eth9")
            + &line("00", "00000400", "eth0");
        assert_eq!(default_interface_v6(&table).as_deref(), Some("eth0"));
        assert_eq!(default_interface_v6(&line("00", "ffffffff", "lo")), None);
    }
}
