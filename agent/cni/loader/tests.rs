use super::*;
use crate::cni::directory::DirEntry;

const OK: &str = r#""name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "a"}]"#;

fn with(members: &str, libcni: Libcni, found: &DropIns) -> Result<LibcniNetwork, LoadError> {
    let text = format!("{{{members}}}");
    load_as_libcni(text.as_bytes(), ConfForm::List, libcni, &|_| found.clone())
}

/// Which generations load it.
fn loaded_by(members: &str) -> [bool; 3] {
    Libcni::ALL.map(|libcni| with(members, libcni, &DropIns::Absent).is_ok())
}

fn conf(name: &str, content: &str) -> DirEntry {
    DirEntry {
        name: name.into(),
        kind: EntryKind::File(content.as_bytes().to_vec()),
    }
}

#[test]
fn the_generations_differ_where_they_are_known_to() {
    assert_eq!(loaded_by(OK), [true; 3]);
    assert_eq!(
        loaded_by(&format!("{OK}, \"disableCheck\": \"TRUE\"")),
        [false, true, true]
    );
    assert_eq!(
        loaded_by(&format!("{OK}, \"disableGC\": 1")),
        [true, false, false]
    );
    assert_eq!(
        loaded_by(&format!("{OK}, \"cniVersions\": [\"x\"]")),
        [true, false, false]
    );
    assert_eq!(
        loaded_by(&format!("{OK}, \"loadOnlyInlinedPlugins\": 1")),
        [true, true, false]
    );
    let attachments = OK.replace("\"a\"", "\"a\", \"cni.dev/valid-attachments\": 1");
    assert_eq!(loaded_by(&attachments), [true, false, false]);
}

#[test]
fn the_name_is_not_looked_at() {
    for name in ["", "..", "a b", "../x"] {
        assert_eq!(
            loaded_by(&OK.replace("\"n\"", &format!("\"{name}\""))),
            [true; 3]
        );
    }
    assert_eq!(loaded_by(&OK.replace("\"n\"", "null")), [false; 3]);
    assert_eq!(loaded_by(&OK.replace("\"name\"", "\"Name\"")), [false; 3]);
}

#[test]
fn drop_ins_are_merged_by_the_newest_alone() {
    let entries = [
        conf("20.conf", r#"{"type": "c"}"#),
        conf("10.conf", r#"{"type": "b"}"#),
        conf("30.conflist", "not read"),
    ];
    let found = DropIns::Entries(entries.into());
    let chain = |libcni, members: &str| with(members, libcni, &found).map(|network| network.chain);
    assert_eq!(chain(Libcni::V1_3, OK).unwrap(), ["a", "b", "c"]);
    assert_eq!(chain(Libcni::V1_2, OK).unwrap(), ["a"]);
    assert_eq!(chain(Libcni::V1_3, r#""name": "n""#).unwrap(), ["b", "c"]);
    assert_eq!(
        chain(Libcni::V1_2, r#""name": "n""#),
        Err(LoadError::NoPlugins)
    );
    let inlined = format!("{OK}, \"loadOnlyInlinedPlugins\": true");
    assert_eq!(chain(Libcni::V1_3, &inlined).unwrap(), ["a"]);
}

#[test]
fn a_bad_drop_in_fails_the_network() {
    let bad = DropIns::Entries([conf("10.conf", "{")].into());
    let error = with(OK, Libcni::V1_3, &bad).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its drop-in 10.conf fails: it is not JSON: line 1, column 2: \
         the document ends, but a key in double quotes is expected"
    );
    let no_directory = DropIns::Unreadable("Not a directory".to_owned());
    assert!(with(OK, Libcni::V1_3, &no_directory).is_err());
    assert!(with(OK, Libcni::V1_2, &no_directory).is_ok());
}

#[test]
fn the_directory_of_drop_ins_is_cleaned_as_go_does() {
    for (name, want) in [
        ("cbr0", "cbr0"),
        ("", "."),
        ("/", "."),
        ("/abs", "abs"),
        ("a//./b/", "a/b"),
        ("a/../..", ".."),
        ("../net.d/x", "../net.d/x"),
    ] {
        assert_eq!(clean_path(name), want, "{name}");
    }
}

#[test]
fn a_single_plugin_is_made_a_list() {
    let single = |text: &str| {
        load_as_libcni(text.as_bytes(), ConfForm::Single, Libcni::V1_3, &|_| {
            DropIns::Absent
        })
    };
    assert_eq!(
        single(r#"{"Name": "n", "cniVersion": "0.3.1", "type": "a"}"#),
        Ok(LibcniNetwork {
            name: "n".to_owned(),
            version: "0.3.1".to_owned(),
            chain: vec!["a".to_owned()],
        })
    );
    assert_eq!(
        single(&format!("{{{OK}}}")),
        Err(LoadError::NoType(String::new()))
    );
    assert!(single("null").is_err());
    let nested = |depth: usize| {
        format!(
            r#"{{"type": "a", "x": {}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(single(&nested(9_997)).is_ok());
    assert!(single(&nested(9_998)).is_err());
    assert_eq!(
        single(r#"{"type": "a", "mtu": 1e400}"#),
        Err(LoadError::Overflow("mtu".to_owned()))
    );
}

#[test]
fn an_error_says_where() {
    let findings_of = |text: &str| {
        load_as_libcni(text.as_bytes(), ConfForm::List, Libcni::V1_3, &|_| {
            DropIns::Absent
        })
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        findings_of("[]"),
        "it is a list, but libcni requires an object"
    );
    assert_eq!(
        findings_of(r#"{"name": "n", "plugins": [{"ipam": 1}]}"#),
        "'plugins[0].ipam' is a number, but libcni requires an object"
    );
    assert_eq!(
        findings_of(r#"{"name": "n", "plugins": [{}]}"#),
        "'plugins[0]' has no 'type'"
    );
    assert_eq!(
        findings_of("1e999"),
        "it is a number too large for a 64-bit float"
    );
}

/// Files of 1.9 MB: whatever is large in them, little is kept, and the verdict is what a runtime makes of them. The last
/// column is the name of the network; `None` where the file is refused.
#[test]
fn of_a_large_file_little_is_kept() {
    let many = |text: &str| text.repeat((1900 << 10) / text.len());
    let long = "n".repeat(1900 << 10);
    let plugin = r#"{"type":"bridge"}"#;
    let list = |members: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n",{members}}}"#);
    let with_plugins = |members: &str| list(&format!(r#"{members},"plugins":[{plugin}]"#));
    let in_plugin = |members: &str| list(&format!(r#""plugins":[{{"type":"bridge",{members}}}]"#));
    let unexamined = Some("(too large to be examined)");
    let junk = format!(r#""x":[{}1]"#, many(r#"{"":0},"#));
    for (what, text, name) in [
        ("junk beside what is read", with_plugins(&junk), Some("n")),
        ("junk in a plugin", in_plugin(&junk), Some("n")),
        (
            "junk in a field of a plugin",
            in_plugin(&format!(r#""ipam":{{"type":"a",{junk}}}"#)),
            Some("n"),
        ),
        (
            "versions",
            list(&junk.replace("x", "cniVersions")),
            unexamined,
        ),
        (
            "junk in the place of a previous result",
            in_plugin(&format!(r#""prevResult":{{{junk}}}"#)),
            Some("n"),
        ),
        (
            "members that are not read",
            with_plugins(&format!("{}\"y\":1", many(r#""x":0,"#))),
            Some("n"),
        ),
        (
            "deep nesting",
            with_plugins(&format!(r#""x":{}{}"#, "[".repeat(9000), "]".repeat(9000))),
            Some("n"),
        ),
        (
            "a long text",
            with_plugins(&format!(r#""x":"{long}""#)),
            Some("n"),
        ),
        (
            "a long key",
            with_plugins(&format!(r#""{long}":0"#)),
            Some("n"),
        ),
        (
            "flags",
            in_plugin(&format!(
                r#""capabilities":{{{}"z":true}}"#,
                many(r#""a":true,"#)
            )),
            unexamined,
        ),
        (
            "a long flag",
            in_plugin(&format!(r#""capabilities":{{"{long}":true}}"#)),
            Some("n"),
        ),
        (
            "one field again and again",
            in_plugin(&format!(r#"{}"name":"x""#, many(r#""name":"y","#))),
            unexamined,
        ),
        (
            "plugins",
            list(&format!(
                r#""plugins":[{}{plugin}]"#,
                many(r#"{"type":"bridge"},"#)
            )),
            unexamined,
        ),
        (
            "some plugins too many",
            list(&format!(
                r#""plugins":[{}{plugin}]"#,
                r#"{"type":"a"},"#.repeat(64)
            )),
            unexamined,
        ),
        ("not an object", format!("[{}1]", many("1,")), None),
        ("cut", format!("{{{junk}"), None),
        (
            "a wrong flag",
            in_plugin(r#""capabilities":{"x":"yes"}"#),
            None,
        ),
    ] {
        let file = examine_file(text.as_bytes(), ConfForm::List);
        let kept = format!("{file:?}").len();
        assert!(kept < 8 << 10, "{what}: {kept} bytes are kept");
        for libcni in Libcni::ALL {
            let loaded = load_examined(&file, libcni, &|_| DropIns::Absent);
            assert_eq!(
                loaded.ok().map(|network| network.name).as_deref(),
                name,
                "{what}: {libcni:?}"
            );
        }
    }
    // Of a long name the beginning is kept, in a list, in a single plugin and in an error.
    for (text, form) in [
        (
            format!(r#"{{"name":"{long}","plugins":[{plugin}]}}"#),
            ConfForm::List,
        ),
        (
            format!(r#"{{"name":"{long}","type":"{long}","cniVersion":"{long}"}}"#),
            ConfForm::Single,
        ),
        (
            format!(r#"{{"name":"n","cniVersions":["{long}"],"plugins":[{plugin}]}}"#),
            ConfForm::List,
        ),
        (
            format!(
                r#"{{"type":"a","capabilities":{{"{}":1}}}}"#,
                &long[..200 << 10]
            ),
            ConfForm::Single,
        ),
    ] {
        let file = examine_file(text.as_bytes(), form);
        assert!(format!("{file:?}").len() < 8 << 10);
    }
}

/// What is selected from a file decides as the whole file does.
#[test]
fn a_selection_loads_as_the_whole_file() {
    for text in [
        r#"{"name":"n","Plugins":1,"plugins":[{"Type":"b","type":"a","x":{"type":1}}]}"#,
        r#"{"name":"n","plugins":[{"type":"a","IPAM":{"Type":2}}]}"#,
        r#"{"name":"n","plugins":[{"type":"a","dns":{"domain":["x"]}}]}"#,
        r#"{"name":"n","plugins":[{"type":"a","dn\u017f":{"search":["a",1]}}]}"#,
        r#"{"name":"n","plugins":[{"type":"a","cni.dev/valid-attachments":[{"ifname":{}}]}]}"#,
        r#"{"name":"n","plugins":[{"type":"a","prevResult":[]}]}"#,
        r#"{"name":"n","plugins":{"0":{"type":"a"}}}"#,
        r#"{"name":{"a":"n"},"plugins":[{"type":"a"}]}"#,
        r#"{"name":"n","x":1e999,"plugins":[{"type":"a"}]}"#,
    ] {
        let selected = parse_selected(text.as_bytes(), ReadsAs::List).unwrap();
        let whole = crate::cni::parse::parse_json(text.as_bytes()).unwrap();
        for libcni in Libcni::ALL {
            assert_eq!(
                read_document(&selected, ConfForm::List, libcni),
                read_document(&whole, ConfForm::List, libcni),
                "{text}"
            );
        }
    }
}
