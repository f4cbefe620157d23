//! The ledger and the content store on a real disk.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cni_keeper::host::{Dir, Host};
use cni_keeper::model::{Pin, Sha256};
use cni_keeper::store::{
    Glance, Ledger, Measure, Origin, Place, Placement, Spare, Store, StoreError, Trust,
};
use tempfile::TempDir;

use super::{name, names, open, regular};

struct Node {
    scratch: TempDir,
    host: Host,
    bin: Dir,
    store: Store,
}

impl Node {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::open(scratch.path()).unwrap();
        Self {
            bin: host.ensure_dir(Path::new("/bin"), 0o755).unwrap(),
            store: Store::open(&host, Path::new("/state")).unwrap(),
            host,
            scratch,
        }
    }

    fn insert(&self, content: &[u8]) -> Sha256 {
        let mut temp = self.store.temps().create_temp().unwrap();
        temp.write_all(content).unwrap();
        self.store.insert(temp).unwrap()
    }

    fn blob(&self, digest: &Sha256) -> std::path::PathBuf {
        self.scratch
            .path()
            .join("state/store")
            .join(digest.to_string())
    }
}

/// What is written to a spare right after it was made, or right after it was proven, never passes for proven: times
/// tell of a change only some milliseconds after the one before.
#[test]
fn a_spare_is_never_proven_by_what_it_was_made_of() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    let spare = node
        .scratch
        .path()
        .join("state/spare")
        .join(digest.to_string());
    let mut proven = 0;
    let mut made = 0;
    while proven < 3 {
        match node.store.spare(&digest).unwrap() {
            Spare::Proven(print) => {
                assert_eq!(fs::read(&spare).unwrap(), b"plugin");
                proven += 1;
                fs::write(&spare, b"wrong!").unwrap();
                assert!(!node.store.is_proven(&digest, &print).unwrap());
                let placed = node
                    .store
                    .place_spare(&digest, &print, &node.bin, &name("x"));
                assert!(!placed.unwrap());
            }
            Spare::Made => {
                made += 1;
                // Every other one is damaged at once.
                if made % 2 == 1 {
                    fs::write(&spare, b"wrong!").unwrap();
                }
            }
            Spare::Unsettled => std::thread::yield_now(),
        }
    }
    assert!(names(&node.scratch.path().join("bin")).is_empty());
}

#[test]
fn a_ledger_comes_back_as_it_was_saved() {
    let node = Node::new();
    assert_eq!(node.store.ledger().unwrap(), Ledger::default());
    let mut ledger = Ledger::default();
    let origin = Origin {
        artifact: "cni-plugins".to_owned(),
        version: "v1.9.1".to_owned(),
        pin: Pin::Sha256([1; 32]).to_string(),
    };
    let [old, new] = [3, 4].map(|byte| Sha256::from_bytes([byte; 32]));
    ledger.intend(Place::Bin, &name("bridge"), old, None, Some(origin.clone()));
    ledger.intend(Place::Bin, &name("bridge"), new, Some(old), Some(origin));
    ledger.intend(Place::Conf, &name("10-x.conflist"), old, None, None);
    ledger.measured(
        &Pin::Sha256([1; 32]),
        "./bridge",
        Measure {
            sha256: new,
            size: 9,
        },
    );
    ledger.record_aside(name("00-y.conflist.aside"), name("00-y.conflist"));
    node.store.save(&ledger).unwrap();
    assert_eq!(node.store.ledger().unwrap(), ledger);

    let file = node.scratch.path().join("state/ledger.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let text: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(text["schema"], 1);
    assert_eq!(text["files"][0]["place"], "bin");
    assert_eq!(text["files"][0]["previous"], old.to_string());
    assert_eq!(text["setAside"][0]["original"], "00-y.conflist");
    assert_eq!(
        names(&node.scratch.path().join("state")),
        ["ledger.json", "spare", "store", "tmp"]
    );
}

#[test]
fn a_damaged_or_later_ledger_is_an_error_and_never_reset() {
    let node = Node::new();
    let file = node.scratch.path().join("state/ledger.json");
    for (text, newer, says) in [
        ("", false, "is damaged"),
        ("{\"schema\": 1, \"files\": [{]}", false, "is damaged"),
        ("{\"files\": []}", false, "missing field `schema`"),
        (
            "{\"schema\": 1, \"extra\": 1}",
            false,
            "unknown field `extra`",
        ),
        (
            "{\"schema\":1,\"files\":[{\"place\":\"bin\",\"name\":\"../x\",\"sha256\":\"00\"}]}",
            false,
            "path component",
        ),
        (
            "{\"schema\": 2, \"anything\": {}}",
            true,
            "has schema 2, this cni-keeper knows schema 1",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let error = node.store.ledger().unwrap_err();
        assert_eq!(matches!(error, StoreError::Newer { .. }), newer, "{error}");
        let line = error.to_string();
        assert!(line.starts_with(&*file.to_string_lossy()), "{line}");
        assert!(line.contains(says), "{line}");
        assert!(line.contains("move it away"), "{line}");
        assert_eq!(fs::read(&file).unwrap(), text.as_bytes());
    }
    // One that cannot be read at all is no reason to begin anew either.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = node.store.ledger().unwrap_err();
    assert!(matches!(error, StoreError::Host(_)), "{error}");
}

#[test]
fn commands_that_change_nothing_make_no_state() {
    let scratch = tempfile::tempdir().unwrap();
    let host = Host::open(scratch.path()).unwrap();
    let glance = Glance::at(&host, Path::new("/state")).unwrap();
    assert_eq!(glance, Glance::default());
    assert_eq!(names(scratch.path()), [""; 0]);
}

#[test]
fn a_glance_sees_the_ledger_even_where_the_store_was_removed() {
    let node = Node::new();
    let mode = fs::metadata(node.scratch.path().join("state"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    let digest = node.insert(b"plugin");
    let mut ledger = Ledger::default();
    ledger.intend(Place::Bin, &name("bridge"), digest, None, None);
    node.store.save(&ledger).unwrap();
    let glance = || Glance::at(&node.host, Path::new("/state")).unwrap();
    assert_eq!(glance().blobs, HashSet::from([digest]));

    fs::remove_dir_all(node.scratch.path().join("state/store")).unwrap();
    assert_eq!(glance().ledger, ledger);
    assert_eq!(glance().blobs, HashSet::new());
}

#[test]
fn a_spare_is_renamed_into_place_and_staged_again() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    node.store.sync().unwrap();
    let spare = fs::metadata(node.blob(&digest)).unwrap();
    assert_eq!(spare.mode() & 0o7777, 0o755);

    let how = node
        .store
        .place(&digest, &node.bin, &name("bridge"), Trust::Proven);
    assert_eq!(how.unwrap(), Placement::Moved);
    let placed = fs::metadata(node.bin.file(&name("bridge"))).unwrap();
    assert_eq!(placed.ino(), spare.ino(), "the very same file");
    assert!(!node.store.has(&digest).unwrap());
    let again = node
        .store
        .place(&digest, &node.bin, &name("bridge"), Trust::Proven);
    assert!(
        matches!(again, Err(StoreError::Missing { .. })),
        "{again:?}"
    );

    node.store
        .restage(&digest, &node.bin, &name("bridge"))
        .unwrap();
    assert!(node.store.verify(&digest).unwrap());
    let copy = fs::metadata(node.blob(&digest)).unwrap();
    assert_ne!(
        copy.ino(),
        placed.ino(),
        "a file of its own: no write to one reaches the other"
    );
    assert_eq!(names(&node.scratch.path().join("state/tmp")), [""; 0]);
}

#[test]
fn a_spare_whose_mode_drifted_is_placed_right() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    fs::set_permissions(node.blob(&digest), fs::Permissions::from_mode(0o4777)).unwrap();
    node.store
        .place(&digest, &node.bin, &name("bridge"), Trust::Unproven)
        .unwrap();
    let seen = regular(&node.bin, "bridge");
    assert_eq!((seen.mode, seen.owner), (0o755, node.host.owner()));
}

#[test]
fn a_corrupt_blob_is_found_removed_and_never_placed() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    fs::write(node.blob(&digest), "plugim").unwrap();
    assert!(node.store.has(&digest).unwrap(), "by its name it is there");
    let placed = node
        .store
        .place(&digest, &node.bin, &name("bridge"), Trust::Unproven);
    assert!(
        matches!(placed, Err(StoreError::Missing { .. })),
        "{placed:?}"
    );
    assert!(!node.store.has(&digest).unwrap());
    assert!(!node.store.verify(&digest).unwrap());
    assert_eq!(names(node.bin.path()), [""; 0]);
}

#[test]
fn a_spare_made_of_a_changed_file_is_never_placed() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    let bridge = name("bridge");
    node.store
        .place(&digest, &node.bin, &bridge, Trust::Proven)
        .unwrap();
    fs::write(node.bin.file(&bridge), "edited").unwrap();
    node.store.restage(&digest, &node.bin, &bridge).unwrap();
    fs::remove_file(node.bin.file(&bridge)).unwrap();
    let placed = node
        .store
        .place(&digest, &node.bin, &bridge, Trust::Unproven);
    assert!(
        matches!(placed, Err(StoreError::Missing { .. })),
        "{placed:?}"
    );
    assert_eq!(names(node.bin.path()), [""; 0]);
    assert!(!node.store.has(&digest).unwrap());
    assert_eq!(names(&node.scratch.path().join("state/tmp")), [""; 0]);
}

#[test]
fn pruning_removes_blobs_out_of_use_and_nothing_else() {
    let node = Node::new();
    let (used, unused) = (node.insert(b"used"), node.insert(b"unused"));
    fs::write(node.scratch.path().join("state/store/README"), "theirs").unwrap();
    node.store.prune(&HashSet::from([used])).unwrap();
    assert!(node.store.has(&used).unwrap());
    assert!(!node.store.has(&unused).unwrap());
    let left = names(&node.scratch.path().join("state/store"));
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&"README".to_owned()), "{left:?}");
}

#[test]
fn what_a_killed_run_left_is_swept_from_the_state() {
    let node = Node::new();
    let state = node.scratch.path().join("state");
    for left in [
        ".cni-keeper-0000000000000001.tmp",
        "tmp/.cni-keeper-0000000000000002.tmp",
    ] {
        fs::write(state.join(left), "half").unwrap();
    }
    fs::write(state.join("tmp/foreign"), "").unwrap();
    assert_eq!(node.store.sweep().unwrap().len(), 2);
    assert_eq!(names(&state), ["spare", "store", "tmp"]);
    assert_eq!(names(&state.join("tmp")), ["foreign"]);
}

/// Fault 6: two agents on one state directory, each with its own descriptors.
#[test]
fn fault_6_a_second_agent_is_kept_out() {
    let node = Node::new();
    let _held = node.store.lock().unwrap();
    let (host, _) = open(node.scratch.path());
    let other = Store::open(&host, &node.scratch.path().join("state")).unwrap();
    assert!(other.lock().unwrap_err().is_held());
}
