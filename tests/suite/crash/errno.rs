//! Changes that the kernel refuses, one in each run: reported, never committed, and the node stays whole.

use nix::errno::Errno;

use super::node::{Declared, Site};
use super::scenario::Scenario;
use super::stepper::{self, Change, Injection};

/// The texts of the two errors.
const EIO: &str = "I/O error; the disk reports an error (dmesg)";
const ENOSPC: &str = "No space left on device; free space or inodes";

/// Runs the scenario once for each change of a kind, with that change refused, and checks what is left. Gives the
/// change and its message to `check`. Returns the number of runs.
///
/// Every refusal is reported: as an error with its path, or as a warning if it cost only a spare.
fn refuse_each(
    scenario: &Scenario<'_>,
    call: &'static str,
    errno: Errno,
    reason: &str,
    mut check: impl FnMut(&Change, &str),
) -> usize {
    for nth in 1.. {
        let node = scenario.site.copy(&scenario.before);
        let program = node.command(scenario.declared, scenario.command);
        let fault = Injection::Refuse(errno);
        let ended = stepper::run(&program, node.root(), Some(call), nth, fault).expect("may trace");
        let Some(change) = ended.hit else {
            return nth - 1;
        };
        let (at, message) = (format!("{errno} at {change}"), &ended.message);
        scenario.is_whole(&node, &at);
        assert!(node.temps().is_empty(), "{at}: {:?}", node.temps());
        // Our process id in the lock file only helps others, so it is no failure if it is missing.
        let courtesy = change.path.ends_with("lock");
        match ended.status {
            Some(0) => {
                scenario.is_done(&node, &at);
                let warned = message
                    .lines()
                    .any(|line| line.contains("WARN") && line.contains(reason));
                assert!(warned || courtesy, "{at}: {message}");
            }
            Some(2) => {
                let error = message.lines().find(|line| line.starts_with("error: "));
                let error = error.unwrap_or_else(|| panic!("{at}: {message}"));
                assert!(error.contains(reason), "{at}: {error}");
                assert!(
                    error.contains(node.root().to_str().unwrap()),
                    "{at}: {error}"
                );
            }
            other => panic!("{at}: {other:?} {message}"),
        }
        check(&change, message);
        // The next run continues from what is left.
        node.must(scenario.declared, scenario.command);
        scenario.is_done(&node, &at);
    }
    unreachable!("a run makes finitely many changes")
}

fn sets(site: &Site) -> [Declared; 2] {
    [site.declare("a", 1, ""), site.declare("b", 2, "")]
}

/// Faults 9 and 12: each write of an upgrade fails, of the download, of the plugins, of ledger and conflist.
#[test]
fn faults_9_12_a_failing_write_is_never_committed() {
    if !stepper::can_refuse() {
        return;
    }
    let site = Site::new();
    let [old, new] = sets(&site);
    let scenario = Scenario::install(&site, site.installed(&old), &new);
    for (errno, reason) in [(Errno::EIO, EIO), (Errno::ENOSPC, ENOSPC)] {
        let mut conflist = 0;
        let steps = refuse_each(&scenario, "write", errno, reason, |change, _| {
            conflist += usize::from(change.path.to_string_lossy().contains("/net.d/"));
        });
        assert!(steps > 15 && conflist > 0, "{steps} steps, {conflist}");
    }
}

/// Faults 13 and 14: an fsync fails. A file is then not committed; for a directory the message says what is uncertain.
#[test]
fn faults_13_14_a_failing_fsync_of_a_file_or_a_directory() {
    if !stepper::can_refuse() {
        return;
    }
    let site = Site::new();
    let [old, new] = sets(&site);
    let scenario = Scenario::install(&site, site.installed(&old), &new);
    let (mut files, mut directories) = (0, 0);
    refuse_each(&scenario, "fsync", Errno::EIO, EIO, |change, message| {
        let directory = change
            .path
            .extension()
            .is_none_or(|extension| extension != "tmp");
        let uncertain = message.contains("cannot sync (durability uncertain) ");
        assert_eq!(uncertain, directory, "{change}: {message}");
        files += usize::from(!directory);
        directories += usize::from(directory);
    });
    assert!(files > 5 && directories > 4, "{files} {directories}");
}

/// The kernel refuses another step of making files: a new file, a name, a mode, a directory.
#[test]
fn a_refused_file_name_mode_or_directory_leaves_the_node_whole() {
    if !stepper::can_refuse() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let scenario = Scenario::plain(&site, site.bare(), &declared);
    for (call, least) in [("openat", 8), ("rename", 8), ("fchmod", 8), ("mkdir", 7)] {
        let steps = refuse_each(&scenario, call, Errno::EIO, EIO, |_, _| {});
        assert!(steps > least, "{steps} steps of {call}");
    }
}

/// `uninstall`: a file that cannot be removed is reported, and still known the next time.
#[test]
fn a_refused_removal_is_reported_and_not_forgotten() {
    if !stepper::can_refuse() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let scenario = Scenario::uninstall(&site, &declared);
    let reason =
        "Operation not permitted; neither owners nor flags forbid it; look for a seccomp profile";
    let steps = refuse_each(&scenario, "unlink", Errno::EPERM, reason, |_, _| {});
    // The conflist, three plugins, three spares.
    assert_eq!(steps, 7);
}
