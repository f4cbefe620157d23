//! What the plugins that call an IPAM plugin refuse in the addresses and routes that it gives them.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::ipam_caller::IpamCaller;
use super::json_tree::{element_path, member_path};
use super::validate::Finding;
use super::wanted_value::get;
use crate::model::Cidr;

/// The scope of a route that leads to the other end of a link (`RT_SCOPE_LINK`).
const SCOPE_OF_LINK: f64 = 253.0;
/// The table of routes that the kernel looks in first (`RT_TABLE_MAIN`).
const MAIN_TABLE: f64 = 254.0;

/// The ranges in which an `ipam` object gives addresses: those of host-local and of static.
fn list_subnets(ipam: &Map<String, Value>) -> Vec<Cidr> {
    let mut texts: Vec<&Value> = Vec::new();
    texts.extend(get(ipam, "subnet").map(|(_, value)| value));
    let listed = |key: &str| {
        let list = get(ipam, key).and_then(|(_, value)| value.as_array());
        list.into_iter().flatten()
    };
    let ranges = listed("ranges").filter_map(Value::as_array).flatten();
    texts.extend(
        ranges
            .filter_map(Value::as_object)
            .filter_map(|range| get(range, "subnet"))
            .map(|(_, value)| value),
    );
    texts.extend(
        listed("addresses")
            .filter_map(Value::as_object)
            .filter_map(|address| get(address, "address"))
            .map(|(_, value)| value),
    );
    let texts = texts.into_iter().filter_map(Value::as_str);
    texts.filter_map(Cidr::parse_lenient).collect()
}

/// Whether a pod gets an IPv6 address.
pub(super) fn has_ipv6_address(ipam: &Map<String, Value>) -> bool {
    list_subnets(ipam).iter().any(|subnet| !subnet.is_ipv4())
}

/// Whether the plugin is given addresses that replace those of its `ipam` object.
fn has_other_addresses(plugin: &Map<String, Value>) -> bool {
    let member = |key: &str| get(plugin, key).map(|(_, value)| value);
    let of_args = member("args").and_then(|args| args.pointer("/cni/ips"));
    let of_runtime = member("runtimeConfig").and_then(|config| config.get("ips"));
    [of_args, of_runtime].iter().any(Option::is_some)
}

/// The mistakes in the addresses of the IPAM plugin static.
pub(super) fn check_addresses(
    ipam: &Map<String, Value>,
    at: &str,
    plugin: &Map<String, Value>,
    caller: IpamCaller,
) -> Vec<Finding> {
    let listed = get(ipam, "addresses");
    let addresses = listed.and_then(|(_, value)| value.as_array());
    let addresses: Vec<_> = addresses
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    if !caller.adds_nothing || has_other_addresses(plugin) {
        return Vec::new();
    }
    if addresses.is_empty() {
        let fix = "list one under addresses, or ask the runtime for it with the capability ips";
        return vec![Finding::error(at, "static has no address to give", fix)];
    }
    let mut findings = Vec::new();
    let subnets = list_subnets(ipam);
    let of_ipv4 = subnets.iter().filter(|subnet| subnet.is_ipv4()).count();
    let most = of_ipv4.max(subnets.len() - of_ipv4);
    if caller.one_per_family && most > 1 {
        findings.push(Finding::error(
            at,
            "a pod would get two addresses of one family, which CNI versions before 0.3.0 do not know",
            "declare cniVersion \"1.0.0\"",
        ));
    }
    let place = listed.map_or(at.to_owned(), |(key, _)| member_path(at, key));
    for (index, address) in addresses.iter().enumerate() {
        let gateway = get(address, "gateway").and_then(|(_, value)| value.as_str());
        if caller.needs_gateways && gateway.is_none_or(str::is_empty) {
            findings.push(Finding::error(
                element_path(&place, index),
                "it has no gateway, which ptp needs for each address",
                "add one",
            ));
        }
    }
    findings
}

/// The routes that the kernel refuses. With `has_gateways`, a route without a gateway gets that of the pod's range.
pub(super) fn check_routes(
    ipam: &Map<String, Value>,
    at: &str,
    has_gateways: bool,
) -> Vec<Finding> {
    let Some((key, Value::Array(routes))) = get(ipam, "routes") else {
        return Vec::new();
    };
    let at = member_path(at, key);
    let subnets = list_subnets(ipam);
    let mut findings = Vec::new();
    let mut earlier: Vec<(Cidr, [Option<&Value>; 4])> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let at = element_path(&at, index);
        let value = |key: &str| route.as_object().and_then(|route| get(route, key));
        let value = |key: &str| value(key).map(|(_, value)| value);
        let Some(text) = value("dst").and_then(Value::as_str) else {
            continue;
        };
        let Some(range) = Cidr::parse_lenient(text) else {
            continue;
        };
        if text.parse::<Cidr>().is_err() {
            findings.push(Finding::error(
                member_path(&at, "dst"),
                format!("'{text}' has bits set behind its prefix, which the kernel refuses"),
                format!("write {range}"),
            ));
        }
        let rest = ["gw", "priority", "table", "scope"].map(value);
        if earlier.contains(&(range, rest)) {
            findings.push(Finding::error(
                &at,
                format!("the route to {range} is there twice, which the kernel refuses"),
                "remove one",
            ));
        }
        let scope = value("scope").and_then(Value::as_f64).unwrap_or_default();
        let has_gateway = gateway_of(route).is_some() || has_gateways;
        if scope >= SCOPE_OF_LINK && range.is_ipv4() && has_gateway {
            findings.push(Finding::error(
                member_path(&at, "scope"),
                "the route has a gateway, and the kernel refuses this scope for such a one",
                "remove it",
            ));
        }
        if let Some(gateway) = gateway_of(route)
            && let Some(problem) = check_gateway(gateway, &subnets, &earlier)
        {
            findings.push(Finding::error(
                member_path(&at, "gw"),
                problem,
                "write an address of the pod's own range, or add a route to it before this one",
            ));
        }
        earlier.push((range, rest));
    }
    findings
}

/// The default routes that a bridge with `isDefaultGateway` adds once more. It looks only at those with a gateway
/// (`calcGateways` of the reference plugin).
pub(super) fn check_default_routes(ipam: &Map<String, Value>, at: &str) -> Vec<Finding> {
    let Some((key, Value::Array(routes))) = get(ipam, "routes") else {
        return Vec::new();
    };
    let at = member_path(at, key);
    let subnets = list_subnets(ipam);
    let family_of = |route: &Value| {
        let (_, range) = get(route.as_object()?, "dst")?;
        let range = Cidr::parse_lenient(range.as_str()?)?;
        range.is_default_route().then(|| range.is_ipv4())
    };
    let number = |route: &Value, key: &str| {
        let (_, number) = get(route.as_object()?, key)?;
        number.as_f64().filter(|number| *number != 0.0)
    };
    let mut findings = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let Some(is_ipv4) = family_of(route) else {
            continue;
        };
        let mut others = routes.iter().filter(|it| family_of(it) == Some(is_ipv4));
        let is_added = subnets.iter().any(|subnet| subnet.is_ipv4() == is_ipv4)
            && !others.any(|other| gateway_of(other).is_some());
        let is_in_main_table = number(route, "table").is_none_or(|table| table == MAIN_TABLE);
        if is_added && is_in_main_table && number(route, "priority").is_none() {
            findings.push(Finding::error(
                element_path(&at, index),
                "bridge adds this route itself where isDefaultGateway is set, and the kernel refuses it twice",
                "remove it, or give it a gw",
            ));
        }
    }
    findings
}

fn gateway_of(route: &Value) -> Option<IpAddr> {
    let (_, gateway) = get(route.as_object()?, "gw")?;
    gateway.as_str()?.parse().ok()
}

fn check_gateway(
    gateway: IpAddr,
    subnets: &[Cidr],
    earlier: &[(Cidr, [Option<&Value>; 4])],
) -> Option<String> {
    let address = Cidr::from(gateway);
    let holds = |range: &Cidr| range.contains(&address);
    let is_reachable = subnets.iter().any(holds) || earlier.iter().any(|(range, _)| holds(range));
    (!is_reachable && !subnets.is_empty()).then(|| {
        format!("a pod does not reach {gateway} directly, and the kernel refuses such a route")
    })
}
