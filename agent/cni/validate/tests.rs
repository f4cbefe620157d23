use super::*;

const GOOD: &str = r#"{"name": "pod-network", "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"],
    "plugins": [{"type": "bridge", "mtu": 1450, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}},
                {"type": "portmap", "capabilities": {"portMappings": true, "off": false}}]}"#;

fn lines(text: &str) -> Vec<String> {
    let report = validate_conflist(text.as_bytes());
    report.findings.iter().map(ToString::to_string).collect()
}

/// The findings on the good conflist with one part replaced.
fn with(part: &str, replacement: &str) -> Vec<String> {
    assert!(GOOD.contains(part), "{part}");
    lines(&GOOD.replacen(part, replacement, 1))
}

/// Expects exactly one finding, which begins so.
#[track_caller]
fn only(found: &[String], beginning: &str) {
    let [one] = found else {
        panic!("wanted only '{beginning}', found {found:#?}");
    };
    assert!(
        one.starts_with(beginning),
        "wanted '{beginning}', found {one}"
    );
}

#[test]
fn a_good_conflist_is_summed_up() {
    let report = validate_conflist(GOOD.as_bytes());
    assert_eq!(report.findings, []);
    let summary = report.summary.unwrap();
    assert_eq!(summary.name, "pod-network");
    assert_eq!(summary.version, "1.1.0");
    assert_eq!(summary.version_without_list, "1.0.0");
    assert_eq!(summary.chain, ["bridge", "portmap"]);
    assert_eq!(summary.ipam, ["host-local"]);
    assert_eq!(summary.capabilities, ["portMappings"]);
}

#[test]
fn what_is_no_json_object_is_one_error_with_its_place() {
    only(
        &lines("{\n\"name\": }"),
        "error: it is not JSON: line 2, column 9:",
    );
    only(
        &lines("\u{feff}{}"),
        "error: it is not JSON: line 1, column 1: it begins with a byte order mark",
    );
    only(&lines("[]"), "error: it is a list;");
    assert!(validate_conflist(b"").summary.is_none());
}

#[test]
fn the_name_is_what_add_will_take() {
    for bad in ["", "a b", "-a", ".a", "a/b", "../x", "ü", "a\\n"] {
        only(
            &with("pod-network", bad),
            "error: name: ADD refuses the name",
        );
    }
    only(
        &with("\"pod-network\"", "7"),
        "error: name: it is a number; write a string",
    );
    only(
        &with("\"name\": \"pod-network\",", ""),
        "error: name: the network has no name",
    );
    assert_eq!(with("pod-network", &"a".repeat(174)), [""; 0]);
    only(
        &with("pod-network", &"a".repeat(175)),
        "error: name: ADD can fail with a name of 175 bytes",
    );
}

#[test]
fn versions_are_ones_that_plugins_support() {
    let declared = "\"cniVersion\": \"1.0.0\"";
    only(
        &with(declared, "\"cniVersion\": \"1.0\""),
        "error: cniVersion: there is no CNI version \"1.0\"",
    );
    only(
        &with(declared, "\"cniVersion\": null"),
        "error: cniVersion: it is null",
    );
    only(
        &with("\"cniVersion\": \"1.0.0\",", ""),
        "warning: cniVersion: containerd 1.7 does not read cniVersions",
    );
    only(
        &with(declared, "\"cniVersion\": \"1.1.0\""),
        "warning: cniVersion: containerd 1.7 and older do not know 1.1.0",
    );
    let list = "[\"1.0.0\", \"1.1.0\"]";
    only(
        &with(list, "\"1.0.0\""),
        "error: cniVersions: it is a string",
    );
    only(&with(list, "[1]"), "error: cniVersions[0]: it is a number");
    only(
        &with(list, "[\"x\"]"),
        "error: cniVersions[0]: \"x\" is not a version",
    );
    only(
        &with(list, "[\"1.0.5\"]"),
        "error: cniVersions[0]: libcni selects \"1.0.5\"",
    );
    only(
        &with(list, "[\"0.5.0\"]"),
        "warning: cniVersions[0]: there is no CNI version \"0.5.0\"",
    );
    only(
        &with(list, "[\"9.9.9\"]"),
        "warning: cniVersions[0]: no libcni supports 9.9.9 yet",
    );
}

#[test]
fn flags_are_booleans() {
    let flag = |value: &str| with("\"plugins\"", &format!("{value}, \"plugins\""));
    assert_eq!(flag("\"disableCheck\": true"), [""; 0]);
    only(
        &flag("\"disableCheck\": \"true\""),
        "error: disableCheck: containerd 1.7 refuses a string",
    );
    only(
        &flag("\"disableGC\": \"False\""),
        "warning: disableGC: it is a string",
    );
    only(
        &flag("\"disableGC\": \"no\""),
        "error: disableGC: it is a string",
    );
    only(
        &flag("\"loadOnlyInlinedPlugins\": 1"),
        "error: loadOnlyInlinedPlugins: it is a number",
    );
}

#[test]
fn there_are_plugins_with_a_type_that_is_a_binary() {
    only(
        &lines(r#"{"name": "n", "cniVersion": "1.0.0"}"#),
        "error: plugins: there are no plugins",
    );
    only(
        &lines(r#"{"name": "n", "cniVersion": "1.0.0", "plugins": []}"#),
        "error: plugins: the list is empty",
    );
    only(
        &lines(r#"{"name": "n", "cniVersion": "1.0.0", "plugins": {}}"#),
        "error: plugins: it is an object",
    );
    only(
        &lines(r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [null]}"#),
        "error: plugins[0]: it is null",
    );
    for bad in ["a/b", "../bridge", "..", "a\\\\b"] {
        only(
            &with("\"bridge\"", &format!("\"{bad}\"")),
            "error: plugins[0].type: '",
        );
        only(
            &with("\"host-local\"", &format!("\"{bad}\"")),
            "error: plugins[0].ipam.type: '",
        );
    }
    only(
        &with("\"bridge\"", "\"\""),
        "error: plugins[0].type: the plugin has no type",
    );
    only(
        &with("\"bridge\"", "[]"),
        "error: plugins[0].type: it is a list",
    );
    only(
        &with("{\"portMappings\": true, \"off\": false}", "{\"a\": 1}"),
        "error: plugins[1].capabilities.a: it is a number",
    );
    only(
        &with("\"mtu\": 1450", "\"dns\": {\"search\": \"x\"}"),
        "error: plugins[0].dns.search: it is a string; write a list",
    );
}

#[test]
fn case_matters_at_the_top_and_not_in_a_plugin() {
    only(
        &with("\"cniVersions\"", "\"CNIVersions\""),
        "warning: CNIVersions: no runtime reads a key with this spelling; write 'cniVersions'",
    );
    only(
        &with("\"type\": \"bridge\"", "\"Type\": \"bridge\""),
        "warning: plugins[0].Type: not every reader",
    );
    only(
        &with(
            "\"type\": \"bridge\"",
            "\"Type\": \"a\", \"type\": \"bridge\"",
        ),
        "error: plugins[0].Type: it is also written as 'type'",
    );
    only(
        &with(
            "\"type\": \"host-local\"",
            "\"TYPE\": \"a\", \"type\": \"host-local\"",
        ),
        "error: plugins[0].ipam.TYPE: it is also written as 'type'",
    );
    only(
        &with("\"mtu\": 1450", "\"cniversion\": \"x\""),
        "error: plugins[0].cniversion: it overrides the version",
    );
}

#[test]
fn the_plugin_gets_what_is_written() {
    only(
        &with("1450", "9007199254740993"),
        "error: plugins[0].mtu: an integer beyond 2^53",
    );
    only(
        &with("1450", "-18446744073709551616"),
        "error: plugins[0].mtu: an integer beyond 2^53",
    );
    assert_eq!(with("1450", "-9007199254740992"), [""; 0]);
    assert_eq!(with("1450", "1e300"), [""; 0]);
    only(
        &with("1450", "1e400"),
        "error: plugins[0].mtu: a number too large",
    );
    only(
        &with("\"mtu\": 1450", "\"mtu\": 1, \"mtu\": 1450"),
        "error: plugins[0].mtu: the key is there twice",
    );
    only(
        &with("1450", "\"\\udc00\""),
        "error: plugins[0].mtu: half of a",
    );
    let nested = "[".repeat(100) + &"]".repeat(100);
    only(
        &with("1450", &nested),
        "error: plugins[0].mtu[0]: it nests deeper than 64 levels",
    );
    let latin1 = GOOD.replace("pod-network", "x\", \"é\": \"y").into_bytes();
    let latin1: Vec<u8> = latin1.into_iter().filter(|byte| *byte != 0xc3).collect();
    assert!(!validate_conflist(&latin1).is_valid());
}

#[test]
fn what_the_runtime_fills_is_odd() {
    only(
        &with("\"mtu\": 1450", "\"name\": \"x\""),
        "warning: plugins[0].name: libcni replaces it",
    );
    assert_eq!(with("\"mtu\": 1450", "\"name\": \"pod-network\""), [""; 0]);
    only(
        &with("\"mtu\": 1450", "\"args\": {}"),
        "warning: plugins[0].args: the runtime fills this key",
    );
    only(
        &with("\"mtu\": 1450", "\"cni.dev/x\": 1"),
        "warning: plugins[0].cni.dev/x: keys that begin with cni.dev/",
    );
    only(
        &with("\"mtu\": 1450", "\"prevResult\": {}"),
        "error: plugins[0].prevResult: the plugin would read it",
    );
}

#[test]
fn a_chain_in_the_wrong_order_is_odd() {
    only(
        &with("\"portmap\"", "\"host-local\""),
        "warning: plugins[1].type: host-local assigns addresses",
    );
    only(
        &with("\"type\": \"host-local\", ", ""),
        "warning: plugins[0].ipam: it has no type",
    );
}

#[test]
fn errors_come_first_and_size_is_bounded() {
    let report = validate_conflist(br#"{"name": "n", "plugins": [{"type": "a/b"}]}"#);
    let severities: Vec<_> = report.findings.iter().map(|found| found.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning]);
    assert_eq!((report.errors().count(), report.warnings().count()), (1, 1));
    only(
        &lines(&format!("{}{GOOD}", " ".repeat(2 << 20))),
        "error: it has ",
    );
}
