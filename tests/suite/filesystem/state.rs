//! The ledger and the content store on a real disk.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cni_keeper::host::{Dir, Host};
use cni_keeper::model::{FileMode, ManagedDir, Pin, Sha256};
use cni_keeper::store::{
    BlobProof, Ledger, MeasuredFile, PluginOrigin, SpareState, Store, StoreContents, StoreError,
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
        let mut temp = self.store.temp_dir().create_temp().unwrap();
        temp.write_all(content).unwrap();
        let sealed = temp.seal(FileMode::PLUGIN, self.host.owner()).unwrap();
        self.store.insert_blob(sealed).unwrap()
    }

    fn blob(&self, digest: &Sha256) -> std::path::PathBuf {
        self.scratch
            .path()
            .join("state/store")
            .join(digest.to_string())
    }
}

/// What is written to a spare right after it was made, or right after it was proven, never passes for proven: it is
/// read between the two, and not before a change is bound to show in its times.
#[test]
fn a_spare_is_never_proven_by_what_it_was_made_of() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    let spare = node
        .scratch
        .path()
        .join("state/spare")
        .join(digest.to_string());
    let (mut proven, mut made) = (0, 0);
    // Whether it has to be made before it can be proven.
    let mut wrong = true;
    while proven < 3 {
        match node.store.advance_spare(&digest).unwrap() {
            SpareState::Proven(print) => {
                assert_eq!(fs::read(&spare).unwrap(), b"plugin");
                assert!(!wrong, "nobody has read what was made");
                proven += 1;
                wrong = true;
                fs::write(&spare, b"wrong!").unwrap();
                assert!(!node.store.is_proven(&digest, &print).unwrap());
                let placed = node
                    .store
                    .place_spare(&digest, &print, &node.bin, &name("x"));
                assert!(!placed.unwrap());
            }
            SpareState::Made => {
                made += 1;
                // Every second spare is damaged at once.
                wrong = made % 2 == 1;
                if wrong {
                    fs::write(&spare, b"wrong!").unwrap();
                }
            }
            SpareState::Unsettled => std::thread::yield_now(),
        }
    }
    assert!(names(&node.scratch.path().join("bin")).is_empty());
}

#[test]
fn a_ledger_comes_back_as_it_was_saved() {
    let node = Node::new();
    assert_eq!(node.store.load_ledger().unwrap(), Ledger::default());
    let mut ledger = Ledger::default();
    let origin = PluginOrigin {
        artifact: "cni-plugins".to_owned(),
        version: "v1.9.1".to_owned(),
        pin: Pin::Sha256([1; 32]).to_string(),
    };
    let [old, new] = [3, 4].map(|byte| Sha256::from_bytes([byte; 32]));
    ledger.record_intent(
        ManagedDir::Bin,
        &name("bridge"),
        old,
        None,
        Some(origin.clone()),
    );
    ledger.record_intent(
        ManagedDir::Bin,
        &name("bridge"),
        new,
        Some(old),
        Some(origin),
    );
    ledger.record_intent(ManagedDir::Conf, &name("10-x.conflist"), old, None, None);
    ledger.record_member(
        &Pin::Sha256([1; 32]),
        "./bridge",
        MeasuredFile {
            sha256: new,
            size: 9,
        },
    );
    ledger.record_set_aside(name("00-y.conflist.aside"), name("00-y.conflist"));
    node.store.save_ledger(&ledger).unwrap();
    assert_eq!(node.store.load_ledger().unwrap(), ledger);

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

/// Reading a damaged ledger changes nothing. Recovering it keeps the file, and every entry that can be read.
#[test]
fn a_damaged_or_later_ledger_is_kept_and_what_can_be_read_of_it_is_known() {
    let bridge = format!(
        "{{\"place\": \"bin\", \"name\": \"bridge\", \"sha256\": \"{}\", \"new\": 1}}",
        Sha256::of(b"bridge")
    );
    for (text, says, aside, known) in [
        ("", "EOF while parsing", "damaged-1", false),
        (
            "{\"schema\": 1, \"files\": [{]}",
            "key must be a string",
            "damaged-1",
            false,
        ),
        (
            "{\"files\": []}",
            "missing field `schema`",
            "damaged-1",
            false,
        ),
        (
            "{\"schema\": 1, \"extra\": 1}",
            "unknown field `extra`",
            "damaged-1",
            false,
        ),
        (
            "{\"schema\":1,\"files\":[{\"place\":\"bin\",\"name\":\"../x\",\"sha256\":\"00\"}, BRIDGE]}",
            "path component",
            "damaged-1",
            true,
        ),
        (
            "{\"schema\": 2, \"anything\": {}}",
            "a newer cni-keeper wrote it, with schema 2, and this one knows schema 1",
            "schema-2",
            false,
        ),
        (
            "{\"schema\": 7, \"files\": [BRIDGE, [1]], \"setAside\": {\"other\": 1}, \"members\": []}",
            "with schema 7",
            "schema-7",
            true,
        ),
        (
            "{\"schema\": 3, \"files\": {\"bridge\": 1}}",
            "with schema 3",
            "schema-3",
            false,
        ),
    ] {
        let node = Node::new();
        let state = node.scratch.path().join("state");
        let file = state.join("ledger.json");
        let text = text.replace("BRIDGE", &bridge);
        fs::write(&file, &text).unwrap();
        let error = node.store.load_ledger().unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        let glance = StoreContents::read_from(&node.host, Path::new("/state")).unwrap();
        assert_eq!(
            fs::read(&file).unwrap(),
            text.as_bytes(),
            "reading changes nothing"
        );
        let line = glance.damaged[0].to_string();
        assert!(
            line.starts_with(&*file.to_string_lossy()) && line.contains(says),
            "{line}"
        );

        let told = node.store.recover_records(&Ledger::default()).unwrap();
        assert_eq!(told, [format!("{line}; it is kept as ledger.json.{aside}")]);
        let kept = state.join(format!("ledger.json.{aside}"));
        assert_eq!(fs::read(kept).unwrap(), text.as_bytes());
        let ledger = node.store.load_ledger().unwrap();
        assert_eq!(ledger, glance.ledger);
        let owns = ledger.owns_content(ManagedDir::Bin, &name("bridge"), &Sha256::of(b"bridge"));
        assert_eq!(owns, known, "{text}");
        assert_eq!(
            node.store.recover_records(&Ledger::default()).unwrap(),
            [""; 0]
        );
    }
}

/// What the agent remembers fills the gaps of a damaged ledger, and never replaces what is in it.
#[test]
fn what_is_remembered_fills_the_gaps_of_a_damaged_ledger() {
    let node = Node::new();
    let file = node.scratch.path().join("state/ledger.json");
    let mut remembered = Ledger::default();
    for plugin in ["bridge", "loopback"] {
        remembered.record_intent(
            ManagedDir::Bin,
            &name(plugin),
            Sha256::of(b"old"),
            None,
            None,
        );
    }
    let text = format!(
        "{{\"schema\": 2, \"files\": [{{\"place\": \"bin\", \"name\": \"bridge\", \"sha256\": \"{}\"}}]}}",
        Sha256::of(b"new")
    );
    fs::write(&file, text).unwrap();
    node.store.recover_records(&remembered).unwrap();
    let ledger = node.store.load_ledger().unwrap();
    let digest = |plugin| {
        ledger
            .find_file(ManagedDir::Bin, &name(plugin))
            .unwrap()
            .sha256
    };
    assert_eq!(digest("bridge"), Sha256::of(b"new"));
    assert_eq!(digest("loopback"), Sha256::of(b"old"));
}

/// A ledger with as many rivals as the agent sets aside, with names as long as they can be, can be read again.
#[test]
fn the_largest_ledger_can_be_read() {
    let node = Node::new();
    let mut ledger = Ledger::default();
    for number in 0..4096 {
        let long = format!("{}{number:04}", "\"".repeat(251));
        ledger.record_set_aside(name(&long), name(&long));
    }
    node.store.save_ledger(&ledger).unwrap();
    assert_eq!(node.store.load_ledger().unwrap(), ledger);
    // One that could not be read is not written.
    for number in 0..20_000 {
        let long = format!("{}{number:05}", "\"".repeat(250));
        ledger.record_intent(ManagedDir::Bin, &name(&long), Sha256::of(b""), None, None);
    }
    node.store.save_ledger(&ledger).unwrap_err();
    assert_eq!(node.store.load_ledger().unwrap().files(), []);
}

#[test]
fn commands_that_change_nothing_make_no_state() {
    let scratch = tempfile::tempdir().unwrap();
    let host = Host::open(scratch.path()).unwrap();
    let glance = StoreContents::read_from(&host, Path::new("/state")).unwrap();
    assert_eq!(glance, StoreContents::default());
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
    ledger.record_intent(ManagedDir::Bin, &name("bridge"), digest, None, None);
    node.store.save_ledger(&ledger).unwrap();
    let glance = || StoreContents::read_from(&node.host, Path::new("/state")).unwrap();
    assert_eq!(glance().blobs, HashSet::from([digest]));

    fs::remove_dir_all(node.scratch.path().join("state/store")).unwrap();
    assert_eq!(glance().ledger, ledger);
    assert_eq!(glance().blobs, HashSet::new());
}

#[test]
fn a_spare_is_renamed_into_place_and_staged_again() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    node.store.sync_names().unwrap();
    let spare = fs::metadata(node.blob(&digest)).unwrap();
    assert_eq!(spare.mode() & 0o7777, 0o755);

    node.store
        .place_blob(&digest, &node.bin, &name("bridge"), BlobProof::Proven)
        .unwrap();
    let placed = fs::metadata(node.bin.path_of(&name("bridge"))).unwrap();
    assert_eq!(placed.ino(), spare.ino(), "the very same file");
    assert!(!node.store.has_blob(&digest).unwrap());
    let again = node
        .store
        .place_blob(&digest, &node.bin, &name("bridge"), BlobProof::Proven);
    assert!(
        matches!(again, Err(StoreError::Missing { .. })),
        "{again:?}"
    );

    node.store
        .refill_blob(&digest, &node.bin, &name("bridge"))
        .unwrap();
    assert!(node.store.verify_blob(&digest).unwrap());
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
        .place_blob(&digest, &node.bin, &name("bridge"), BlobProof::Unproven)
        .unwrap();
    let seen = regular(&node.bin, "bridge");
    assert_eq!((seen.mode, seen.owner), (0o755, node.host.owner()));
}

#[test]
fn a_corrupt_blob_is_found_removed_and_never_placed() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    fs::write(node.blob(&digest), "plugim").unwrap();
    assert!(
        node.store.has_blob(&digest).unwrap(),
        "by its name it is there"
    );
    let placed = node
        .store
        .place_blob(&digest, &node.bin, &name("bridge"), BlobProof::Unproven);
    assert!(
        matches!(placed, Err(StoreError::Missing { .. })),
        "{placed:?}"
    );
    assert!(!node.store.has_blob(&digest).unwrap());
    assert!(!node.store.verify_blob(&digest).unwrap());
    assert_eq!(names(node.bin.path()), [""; 0]);
}

#[test]
fn a_spare_made_of_a_changed_file_is_never_placed() {
    let node = Node::new();
    let digest = node.insert(b"plugin");
    let bridge = name("bridge");
    node.store
        .place_blob(&digest, &node.bin, &bridge, BlobProof::Proven)
        .unwrap();
    fs::write(node.bin.path_of(&bridge), "edited").unwrap();
    node.store.refill_blob(&digest, &node.bin, &bridge).unwrap();
    fs::remove_file(node.bin.path_of(&bridge)).unwrap();
    let placed = node
        .store
        .place_blob(&digest, &node.bin, &bridge, BlobProof::Unproven);
    assert!(
        matches!(placed, Err(StoreError::Missing { .. })),
        "{placed:?}"
    );
    assert_eq!(names(node.bin.path()), [""; 0]);
    assert!(!node.store.has_blob(&digest).unwrap());
    assert_eq!(names(&node.scratch.path().join("state/tmp")), [""; 0]);
}

#[test]
fn pruning_removes_blobs_out_of_use_and_nothing_else() {
    let node = Node::new();
    let (used, unused) = (node.insert(b"used"), node.insert(b"unused"));
    fs::write(node.scratch.path().join("state/store/README"), "theirs").unwrap();
    node.store.prune_blobs(&HashSet::from([used])).unwrap();
    assert!(node.store.has_blob(&used).unwrap());
    assert!(!node.store.has_blob(&unused).unwrap());
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
    assert_eq!(node.store.sweep_temps().unwrap().len(), 2);
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
