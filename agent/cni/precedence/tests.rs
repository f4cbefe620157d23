use super::*;

fn file(name: &str, content: &str) -> DirEntry {
    DirEntry {
        name: name.into(),
        kind: EntryKind::File(content.as_bytes().to_vec()),
    }
}

fn list(name: &str, network: &str, plugin: &str) -> DirEntry {
    file(
        name,
        &format!(
            r#"{{"name": "{network}", "cniVersion": "1.0.0", "plugins": [{{"type": "{plugin}"}}]}}"#
        ),
    )
}

fn ours() -> DirEntry {
    list("10-ours.conflist", "ours", "bridge")
}

fn answers(plugin: &str) -> Option<Vec<String>> {
    match plugin {
        "bridge" => Some(vec!["1.0.0".to_owned()]),
        "old" => Some(vec!["0.3.1".to_owned()]),
        _ => None,
    }
}

/// Where ours stands with containerd and with CRI-O.
fn stands(entries: &[DirEntry]) -> (Precedence, Precedence) {
    let dir = ConfDir {
        entries,
        drop_ins: &|_| DropIns::Absent,
    };
    let name = "10-ours.conflist".parse().unwrap();
    (
        precedence_of(&name, &choose_as_containerd(&dir, Libcni::V1_3)),
        precedence_of(&name, &choose_as_crio(&dir, &answers)),
    )
}

fn shadowed(by: &str, network: &str) -> Precedence {
    Precedence::Shadowed {
        by: by.into(),
        network: network.to_owned(),
    }
}

#[test]
fn alone_or_first_ours_is_picked() {
    let picked = (Precedence::Picked, Precedence::Picked);
    assert_eq!(stands(&[ours()]), picked);
    let later = [
        file("99-broken.conflist", "{"),
        list("10-ours.conflist.bak", "x", "bridge"),
        list("00-capitals.CONFLIST", "x", "bridge"),
        list("20-later.conflist", "x", "bridge"),
        ours(),
    ];
    assert_eq!(stands(&later), picked);
    let directory = DirEntry {
        name: "00-directory.conflist".into(),
        kind: EntryKind::Directory,
    };
    assert_eq!(stands(&[directory, ours()]), picked);
}

/// Fault 30: a foreign conflist that sorts earlier shadows ours; a hidden one and a `.conf` do too.
#[test]
fn what_sorts_before_ours_shadows_it() {
    for name in [
        "00-x.conflist",
        ".hidden.conflist",
        "1.conflist",
        "10-our.conflist",
    ] {
        let by = shadowed(name, "x");
        assert_eq!(
            stands(&[ours(), list(name, "x", "bridge")]),
            (by.clone(), by)
        );
    }
    let single = file(
        "05-x.conf",
        r#"{"name": "x", "cniVersion": "1.0.0", "type": "bridge"}"#,
    );
    let by = shadowed("05-x.conf", "x");
    assert_eq!(stands(&[ours(), single.clone()]), (by.clone(), by.clone()));
    // It would shadow ours even before ours is there.
    assert_eq!(stands(&[single]), (by.clone(), by));
}

/// Fault 34: a malformed file that sorts earlier aborts containerd's load, while CRI-O goes on.
#[test]
fn what_does_not_load_blocks_containerd_alone() {
    let dangling = EntryKind::Unreadable("No such file or directory".to_owned());
    let bad = [
        file("00-x.conflist", ""),
        file("00-x.conf", r#"{"name": "n", "plugins": [{"type": "a"}]}"#),
        DirEntry {
            name: "00-x.json".into(),
            kind: dangling,
        },
    ];
    for bad in bad {
        let (containerd, crio) = stands(&[ours(), bad.clone()]);
        let Precedence::Blocked { by, .. } = containerd else {
            panic!("{bad:?}: {containerd:?}");
        };
        assert_eq!(by, bad.name);
        assert_eq!(crio, Precedence::Picked);
    }
}

#[test]
fn crio_goes_by_what_the_plugins_answer() {
    let missing = list("00-x.conflist", "x", "missing");
    assert_eq!(
        stands(&[missing, ours()]),
        (shadowed("00-x.conflist", "x"), Precedence::Picked)
    );
    let refused = ConflistRefusal::Version {
        plugin: "old".to_owned(),
        version: "1.0.0".to_owned(),
    };
    assert_eq!(
        stands(&[list("10-ours.conflist", "ours", "old")]).1,
        Precedence::Refused(refused.clone())
    );
    // The runtime picks another network, but ours is the one that needs a fix.
    let entries = [
        list("10-ours.conflist", "ours", "old"),
        list("20.conflist", "x", "bridge"),
    ];
    assert_eq!(
        stands(&entries),
        (Precedence::Picked, Precedence::Refused(refused))
    );
}

#[test]
fn ours_broken_is_refused_and_ours_gone_is_absent() {
    let (containerd, crio) = stands(&[file("10-ours.conflist", "")]);
    assert!(matches!(
        containerd,
        Precedence::Refused(ConflistRefusal::Invalid(_))
    ));
    assert!(matches!(
        crio,
        Precedence::Refused(ConflistRefusal::Invalid(_))
    ));
    let absent = (Precedence::Absent, Precedence::Absent);
    assert_eq!(stands(&[]), absent);
    assert_eq!(stands(&[list("20-later.conflist", "x", "bridge")]), absent);
    assert_eq!(stands(&[file("20-later.conflist", "{")]), absent);
}

#[test]
fn crio_names_a_nameless_network_after_its_file() {
    let entries = [list("00-x.conflist", "", "bridge")];
    assert_eq!(
        stands(&entries),
        (
            shadowed("00-x.conflist", ""),
            shadowed("00-x.conflist", "00-x.conflist")
        )
    );
}

#[test]
fn names_sort_as_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let high = DirEntry {
        name: OsString::from_vec(b"\xff.conflist".to_vec()),
        ..list("", "x", "bridge")
    };
    assert_eq!(stands(&[high, ours()]).0, Precedence::Picked);
}

#[test]
fn drop_ins_of_a_network_are_the_conf_files_that_libcni_merges() {
    let entries = vec![
        file("b.conf", ""),
        file("a.conf", ""),
        file("c.json", ""),
        DirEntry {
            name: "d.conf".into(),
            kind: EntryKind::Directory,
        },
    ];
    let listing = |name: &str| match name {
        "ours" => DropIns::Entries(entries.clone().into()),
        _ => DropIns::Absent,
    };
    let dir = ConfDir {
        entries: &[],
        drop_ins: &listing,
    };
    assert_eq!(list_merged_drop_ins("ours", &dir), ["a.conf", "b.conf"]);
    assert!(list_merged_drop_ins("other", &dir).is_empty());
}
