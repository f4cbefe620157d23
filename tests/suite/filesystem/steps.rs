//! Killed or refused at every system call: a small program that publishes a set as the agent does.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni_keeper::host::Host;
use cni_keeper::model::{FileMode, LARGEST_PLUGIN, ManagedDir};
use cni_keeper::store::{BlobProof, Ledger, Store, StoreError};

use super::{name, names, regular, rerun};
use crate::support::strace::{self, CHANGES, Injection, Step};

const ROOT: &str = "CNI_KEEPER_TEST_ROOT";
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

fn content(version: &str, plugin: &str) -> Vec<u8> {
    format!("{version} {plugin}").into_bytes()
}

/// Publishes a whole set: completes every blob, records the intent in the ledger, renames, and records the result.
fn publish_set(root: &Path, version: &str) -> Result<(), StoreError> {
    let host = Host::open(root)?;
    let bin = host.ensure_dir(Path::new("/opt/cni/bin"), 0o755)?;
    let store = Store::open(&host, Path::new("/opt/cni/.cni-keeper"))?;
    let _lock = store.lock()?;
    store.sweep_temps()?;
    bin.remove_stale_temps()?;
    let mut ledger = store.load_ledger()?;
    let mut set = Vec::new();
    for plugin in PLUGINS {
        let mut temp = store.temp_dir().create_temp()?;
        let path = temp.path();
        temp.write_all(&content(version, plugin))
            .map_err(|error| cni_keeper::host::HostError::new("write", path, error))?;
        let sealed = temp.seal(FileMode::PLUGIN, host.owner())?;
        set.push((name(plugin), store.insert_blob(sealed)?));
    }
    store.sync_names()?;
    for (plugin, digest) in &set {
        let on_disk = match bin.observe_file(plugin, LARGEST_PLUGIN) {
            cni_keeper::model::FileState::Regular(seen) => Some(seen.sha256),
            _ => None,
        };
        ledger.record_intent(ManagedDir::Bin, plugin, *digest, on_disk, None);
    }
    store.save_ledger(&ledger)?;
    for (plugin, digest) in &set {
        store.place_blob(digest, &bin, plugin, BlobProof::Proven)?;
    }
    bin.sync()?;
    for (plugin, digest) in &set {
        store.refill_blob(digest, &bin, plugin)?;
        ledger.settle_intent(ManagedDir::Bin, plugin);
    }
    store.sync_names()?;
    store.save_ledger(&ledger)
}

/// The program that is stepped through; on its own it does nothing.
#[test]
fn stepped_program() {
    if let Some(root) = std::env::var_os(ROOT) {
        if let Err(error) = publish_set(Path::new(&root), "new") {
            eprintln!("failed: {error}");
            std::process::exit(2);
        }
        // At once, so that the steps after this one are not the test harness's own.
        std::process::exit(0);
    }
}

struct Stage {
    scratch: tempfile::TempDir,
}

impl Stage {
    /// A node that the old set was published on.
    fn old() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        publish_set(scratch.path(), "old").unwrap();
        Self { scratch }
    }

    fn bin(&self) -> PathBuf {
        self.scratch.path().join("opt/cni/bin")
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("opt/cni/.cni-keeper")
    }

    fn program(&self) -> Command {
        let mut command = rerun::command(&stepped_program, &[]);
        command.env(ROOT, self.scratch.path());
        command
    }

    /// Checks that each plugin is completely the old or the new one and known as ours, and that the ledger is intact.
    fn is_old_or_new(&self, at: &str) {
        let host = Host::open(self.scratch.path()).unwrap();
        let bin = host.open_dir(Path::new("/opt/cni/bin")).unwrap();
        let state = host.open_dir(Path::new("/opt/cni/.cni-keeper")).unwrap();
        let ledger = Ledger::load(&state, host.owner()).unwrap();
        for plugin in PLUGINS {
            let found = fs::read(self.bin().join(plugin)).unwrap();
            let whole = ["old", "new"].map(|version| content(version, plugin));
            assert!(whole.contains(&found), "{at}: {plugin} is {found:?}");
            let seen = regular(&bin, plugin);
            assert_eq!(
                (seen.mode, seen.owner),
                (0o755, host.owner()),
                "{at}: {plugin}"
            );
            assert!(
                ledger.owns_content(ManagedDir::Bin, &name(plugin), &seen.sha256),
                "{at}: {plugin}"
            );
        }
    }

    /// The next run makes it new and leaves nothing behind.
    fn is_recovered_from(&self, at: &str) {
        publish_set(self.scratch.path(), "new").unwrap_or_else(|error| panic!("{at}: {error}"));
        for plugin in PLUGINS {
            let found = fs::read(self.bin().join(plugin)).unwrap();
            assert_eq!(found, content("new", plugin), "{at}");
        }
        assert_eq!(names(&self.bin()), PLUGINS, "{at}");
        assert_eq!(
            names(&self.state()),
            ["ledger.json", "lock", "spare", "store", "tmp"],
            "{at}"
        );
        assert_eq!(names(&self.state().join("tmp")), [""; 0], "{at}");
    }
}

/// Steps through the program, each time on a node of its own.
fn step_through(
    syscalls: &[&str],
    fault: Injection,
    mut check: impl FnMut(&Stage, &Step),
) -> usize {
    let stage = std::cell::RefCell::new(Stage::old());
    strace::each_step(
        syscalls,
        fault,
        || {
            *stage.borrow_mut() = Stage::old();
            stage.borrow().program()
        },
        |step| {
            let stage = stage.borrow();
            stage.is_old_or_new(&step.at);
            check(&stage, step);
            stage.is_recovered_from(&step.at);
        },
    )
}

/// Faults 1, 2, 3 and 8: killed before any call that changes the disk, a node has the old or the new of
/// each plugin, and the next run finishes the work and sweeps what was left.
#[test]
fn faults_1_2_3_a_kill_at_every_step_leaves_old_or_new() {
    if !strace::available() {
        return;
    }
    let mut swept = 0;
    let steps = step_through(&CHANGES, Injection::Kill, |stage, step| {
        assert!(!step.output.status.success(), "{step:?}");
        swept += names(&stage.state().join("tmp")).len();
    });
    println!("{steps} steps, {swept} temps left by them and swept");
    assert!(
        steps > 60,
        "only {steps} steps: is the program still stepped through?"
    );
    assert!(swept > 0, "no kill left a temp: the sweep was not tested");
}

/// Faults 12 and 13: a write, fsync, chmod or rename that fails is reported, never committed and never tried again on
/// the same file. Trying again would succeed here, since only one call fails.
#[test]
fn faults_12_13_a_refused_call_is_never_committed() {
    if !strace::available() {
        return;
    }
    let calls = ["write", "fsync", "fchmod", "renameat", "mkdirat"];
    let steps = step_through(&calls, Injection::Error("EIO"), |stage, step| {
        let message = String::from_utf8_lossy(&step.output.stderr);
        // The output of the test harness, and our process id in the lock file.
        let harmless = step.line.contains("write(1<") || step.line.contains("/lock>");
        assert_eq!(
            step.output.status.success(),
            step.line.contains("/lock>"),
            "{step:?}"
        );
        assert!(
            harmless || message.contains("I/O error; the disk reports"),
            "{step:?}"
        );
        assert_eq!(names(&stage.state().join("tmp")), [""; 0], "{step:?}");
    });
    println!("{steps} steps");
    assert!(
        steps > 20,
        "only {steps} steps: is the program still stepped through?"
    );
}

/// Fault 14: when an fsync of a directory fails, the message says that the file is published and its durability
/// uncertain.
#[test]
fn fault_14_a_failed_directory_fsync_is_uncertain_durability() {
    if !strace::available() {
        return;
    }
    let mut uncertain = 0;
    step_through(&["fsync"], Injection::Error("EIO"), |_, step| {
        let message = String::from_utf8_lossy(&step.output.stderr);
        let directory = !step.line.contains(".tmp>");
        assert_eq!(
            message.contains("durability uncertain"),
            directory,
            "{step:?}"
        );
        uncertain += usize::from(directory);
    });
    assert!(
        uncertain >= 3,
        "the bin, store and state directories are synced"
    );
}

/// Fault 5: after a power loss there is no empty file, because a temp gets its owner and mode, then its
/// fsync, and only then a name; and what got a name in a directory is followed by an fsync of it. Only a
/// spare gets its name in the store at once, and its fsync before it is used.
#[test]
fn fault_5_every_rename_stands_between_two_fsyncs() {
    if !strace::available() {
        return;
    }
    let stage = Stage::old();
    let lines = strace::trace(&stage.program(), &["write", "fchmod", "fsync", "renameat"]);
    let position = |what: &str| lines.iter().rposition(|line| line.contains(what));
    let (mut renamed, mut spares) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        let Some((call, _)) = line
            .split_once(".tmp\", ")
            .filter(|_| line.contains("renameat("))
        else {
            continue;
        };
        let (_, stem) = call.rsplit_once('"').unwrap();
        let find = |call: &str| {
            lines
                .iter()
                .rposition(|line| line.contains(call) && line.contains(&format!("{stem}.tmp>")))
        };
        if find("fsync(").is_none() {
            assert!(line.contains("/store>"), "{line}: {lines:#?}");
            spares += 1;
            continue;
        }
        let on_temp =
            |call: &str| find(call).unwrap_or_else(|| panic!("no {call} of {stem}: {lines:#?}"));
        let order = [on_temp("write("), on_temp("fchmod("), on_temp("fsync("), at];
        assert!(order.is_sorted(), "{order:?}: {lines:#?}");
        renamed += 1;
    }
    // Three blobs, and the ledger before and after.
    assert_eq!((renamed, spares), (5, 3), "{lines:#?}");

    let last_placed = position("/opt/cni/bin>, \"loopback\")").unwrap();
    let bin_synced = lines
        .iter()
        .rposition(|line| line.contains("fsync(") && line.contains("/opt/cni/bin>"));
    assert!(bin_synced > Some(last_placed), "{lines:#?}");
    let ledger = position("\"ledger.json\")").unwrap();
    assert!(lines[ledger + 1].contains("/.cni-keeper>) "), "{lines:#?}");
}

/// A temp is made exclusively and privately, no link is followed, and no descriptor is inherited.
#[test]
fn every_descriptor_is_opened_as_it_must_be() {
    if !strace::available() {
        return;
    }
    let stage = Stage::old();
    let lines = strace::trace(&stage.program(), &["openat"]);
    let root = stage.scratch.path().to_string_lossy().into_owned();
    let ours: Vec<_> = lines.iter().filter(|line| line.contains(&root)).collect();
    for line in &ours {
        assert!(line.contains("O_CLOEXEC"), "{line}");
        // Of a directory that is open already, "." is the way to open it once more.
        let no_follow = line.contains("O_NOFOLLOW") || line.contains(", \".\", ");
        assert!(no_follow || line.contains(&format!("\"{root}\"")), "{line}");
    }
    let temps: Vec<_> = ours
        .iter()
        .filter(|line| line.contains("O_CREAT"))
        .collect();
    assert!(temps.len() > 8, "{lines:#?}");
    for line in temps {
        assert!(line.contains(", 0600)"), "{line}");
        assert!(
            line.contains("O_EXCL") || line.contains("\"lock\""),
            "{line}"
        );
    }
}
