use serde_json::{Value, json};

use crate::cni::{Finding, check_plugins};

/// What is wrong with it as the `ipam` of this plugin, with its place counted from there.
fn lines_for(ipam: &Value, plugin: &Value, version: &str) -> Vec<String> {
    let mut ipam = ipam.clone();
    ipam["type"] = "host-local".into();
    let mut plugin = plugin.clone();
    plugin["ipam"] = ipam;
    let conflist = json!({"cniVersion": version, "plugins": [plugin]});
    let errors = check_plugins(&conflist)
        .into_iter()
        .filter(Finding::is_error);
    errors
        .map(|error| error.to_string().replace("plugins[0].ipam", "ipam"))
        .collect()
}

fn lines(ipam: &Value) -> Vec<String> {
    lines_for(ipam, &json!({"type": "bridge"}), "1.0.0")
}

/// Expects exactly one finding, which begins so.
#[track_caller]
fn only(ipam: &Value, beginning: &str) {
    let found = lines(ipam);
    assert!(
        found.len() == 1 && found[0].starts_with(beginning),
        "wanted only '{beginning}', found {found:#?}"
    );
}

#[test]
fn good_configurations_pass() {
    for good in [
        json!({"subnet": "10.1.0.0/24"}),
        json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.5", "gateway": "10.1.0.1"}),
        json!({"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.127"},
                           {"Subnet": "10.1.0.0/24", "rangeStart": "10.1.0.128", "gateway": ""}],
                          [{"subnet": "fd00::/64"}]],
               "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.9", "mtu": 1e3}, {"dst": "10.0.0.0/8"}]}),
        json!({"ranges": "${node.podRanges}"}),
        json!({"ranges": [[{"subnet": "${node.podCIDR}", "gateway": "10.1.0.1"}]]}),
    ] {
        assert_eq!(lines(&good), [""; 0], "{good}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    only(&json!({"subnet": 7}), "error: ipam.subnet: it is a number");
    only(
        &json!({"ranges": [{"subnet": "10.1.0.0/24"}]}),
        "error: ipam.ranges[0]: it is an object, which host-local refuses; write a list",
    );
    only(
        &json!({"ranges": {"subnet": "10.1.0.0/24"}}),
        "error: ipam.ranges: it is an object, which host-local refuses; write a list of lists",
    );
    let with_route = |route: Value| json!({"subnet": "10.1.0.0/24", "routes": [route]});
    only(
        &with_route(json!("0.0.0.0/0")),
        "error: ipam.routes[0]: it is a string",
    );
    only(
        &with_route(json!({"dst": "default"})),
        "error: ipam.routes[0].dst: 'default' is not a range",
    );
    only(
        &with_route(json!({"dst": "0.0.0.0/0", "mtu": "1400"})),
        "error: ipam.routes[0].mtu: it is a string",
    );
    only(
        &with_route(json!({"gw": "10.1.0.1"})),
        "error: ipam.routes[0]: it has no dst",
    );
}

#[test]
fn a_range_is_where_its_subnet_is() {
    let with = |key: &str, address: &str| json!({"subnet": "10.1.0.0/24", key: address});
    for key in ["rangeStart", "rangeEnd", "gateway"] {
        let at = format!("error: ipam.{key}: ");
        only(&with(key, "10.1.1.1"), &format!("{at}10.1.1.1 is not in"));
        only(&with(key, "fd00::1"), &format!("{at}fd00::1 is not in"));
        only(
            &with(key, "10.1.0"),
            &format!("{at}'10.1.0' is not an address"),
        );
    }
    only(
        &json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}),
        "error: ipam: its first address 10.1.0.9 comes after its last one 10.1.0.8",
    );
    only(
        &json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.255"}),
        "error: ipam: its first address 10.1.0.255 comes after its last one 10.1.0.254",
    );
    only(
        &json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.1"}),
        "error: ipam: its only address is the gateway's",
    );
    only(
        &json!({"subnet": "::ffff:10.1.0.0/120"}),
        "error: ipam.subnet: '::ffff:10.1.0.0/120' is IPv4 written as IPv6",
    );
}

#[test]
fn sets_have_ranges_of_one_family_that_do_not_overlap() {
    only(&json!({}), "error: ipam: host-local gets no range");
    only(
        &json!({"ranges": []}),
        "error: ipam: host-local gets no range",
    );
    only(
        &json!({"ranges": [[]]}),
        "error: ipam.ranges[0]: the set has no range",
    );
    only(
        &json!({"ranges": [[{}]]}),
        "error: ipam.ranges[0][0]: it has no subnet, which no ADD survives",
    );
    only(
        &json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}),
        "error: ipam.ranges[0]: IPv4 and IPv6 are in one set",
    );
    let overlap = "error: ipam.ranges[0][1]: 10.1.0.1-10.1.0.126 overlaps 10.1.0.1-10.1.0.254 of ipam.ranges[0][0]";
    only(
        &json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"}]]}),
        overlap,
    );
    only(
        &json!({"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.1.0.0/25"}]]}),
        "error: ipam.ranges[0][0]: 10.1.0.1-10.1.0.126 overlaps 10.1.0.1-10.1.0.254 of ipam,",
    );
}

#[test]
fn what_depends_on_the_caller_is_left_to_it() {
    let flannel = json!({"type": "flannel"});
    assert_eq!(lines_for(&json!({}), &flannel, "1.0.0"), [""; 0]);
    let pod_cidr = json!({"subnet": "usePodCidr"});
    assert_eq!(lines_for(&pod_cidr, &flannel, "1.0.0"), [""; 0]);
    only(&pod_cidr, "error: ipam.subnet: 'usePodCidr' is not a range");
    let two = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]});
    assert_eq!(lines(&two), [""; 0]);
    let bridge = json!({"type": "bridge"});
    assert_eq!(lines_for(&two, &bridge, "0.2.0").len(), 1);
    let gateway = json!({"type": "bridge", "isGateway": true});
    assert_eq!(
        lines_for(&two, &gateway, "1.0.0"),
        [
            "error: ipam.ranges[1][0]: the bridge cannot have the gateway 10.2.0.1 beside 10.1.0.1; keep one set of \
             each family, or set forceAddress"
        ]
    );
}
