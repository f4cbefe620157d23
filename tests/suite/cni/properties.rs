//! Properties that hold for any input.

use std::collections::BTreeMap;

use cni_keeper::cni::{
    ConfForm, DropIns, Facts, Libcni, load_as_libcni, render_conflist, validate_conflist,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Conflists that are nearly right: the parts that libcni looks at, with values of every kind.
fn nearly_right() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            "bridge",
            "true",
            "0.4.0",
            "1.0.0",
            "1.1.0",
            "9.9.9",
            "host-local",
            "a/b",
            "",
        ])
        .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "type",
        "Type",
        "cniVersion",
        "cniversion",
        "ipam",
        "dns",
        "capabilities",
        "prevResult",
        "nameservers",
        "search",
        "mtu",
        "cni.dev/valid-attachments",
    ]);
    let value = leaf.clone().prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..4).prop_map(object),
        ]
    });
    let rarely = |key: &'static str, usual: Value| {
        prop_oneof![
            8 => Just(Some((key, usual))),
            1 => value.clone().prop_map(move |value| Some((key, value))),
            1 => Just(None),
        ]
    };
    let plugin = (
        rarely("type", json!("bridge")),
        prop::collection::vec(value.clone(), 0..2),
        rarely("ipam", json!({"type": "host-local"})),
    )
        .prop_map(|(kind, extra, ipam)| {
            let extra = extra.into_iter().map(|value| ("dns", value));
            object(kind.into_iter().chain(extra).chain(ipam).collect())
        });
    let plugins =
        prop::collection::vec(plugin, 0..3).prop_map(|plugins| ("plugins", plugins.into()));
    (
        rarely("name", json!("net")),
        rarely("cniVersion", json!("1.0.0")),
        rarely("cniVersions", json!(["1.0.0", "1.1.0"])),
        rarely("disableCheck", json!(false)),
        rarely("disableGC", json!(true)),
        rarely("loadOnlyInlinedPlugins", json!(true)),
        plugins,
    )
        .prop_map(|(name, version, versions, check, gc, inlined, plugins)| {
            let optional = [name, version, versions, check, gc, inlined];
            object(optional.into_iter().flatten().chain([plugins]).collect())
        })
}

fn object(members: BTreeMap<&str, Value>) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^{]*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,8}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_us_panic(content in any::<Vec<u8>>()) {
        judge(&content);
    }

    /// Cut, joined or changed in one place, but still close to JSON.
    #[test]
    fn no_broken_conflist_makes_us_panic(
        conflist in nearly_right(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut content = conflist.to_string().into_bytes();
        let at = at.index(content.len());
        content[at] = byte;
        if cut {
            content.truncate(at);
        }
        judge(&content);
    }

    #[test]
    fn what_we_accept_every_libcni_loads(conflist in nearly_right()) {
        judge(conflist.to_string().as_bytes());
    }

    #[test]
    fn a_template_without_placeholders_renders_to_itself(template in any_json()) {
        let rendered = render_conflist(&template, &Facts::new()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), template);
    }

    #[test]
    fn what_serde_json_reads_we_read(value in any_json()) {
        let content = json!({"name": "net", "cniVersion": "1.0.0", "x": value, "plugins": [{"type": "a"}]});
        let content = content.to_string();
        let loaded = load_as_libcni(content.as_bytes(), ConfForm::List, Libcni::V1_3, &|_| DropIns::Absent);
        prop_assert!(loaded.is_ok(), "{}: {:?}", content, loaded);
    }
}

/// Validates. What we accept, every libcni must accept.
fn judge(content: &[u8]) {
    let report = validate_conflist(content);
    // `validate` runs the loader last. If only the loader finds an error, one of our rules is missing.
    let missing = report
        .findings
        .iter()
        .find(|finding| finding.problem.contains("would refuse it"));
    assert_eq!(missing, None);
    for libcni in Libcni::ALL {
        let loaded = load_as_libcni(content, ConfForm::List, libcni, &|_| DropIns::Absent);
        if report.is_valid() {
            loaded.unwrap();
        }
        let _ = load_as_libcni(content, ConfForm::Single, libcni, &|_| DropIns::Absent);
    }
}
