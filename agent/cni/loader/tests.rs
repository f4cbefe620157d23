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
    let found = DropIns::Entries(vec![
        conf("20.conf", r#"{"type": "c"}"#),
        conf("10.conf", r#"{"type": "b"}"#),
        conf("30.conflist", "not read"),
    ]);
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
    let bad = DropIns::Entries(vec![conf("10.conf", "{")]);
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
