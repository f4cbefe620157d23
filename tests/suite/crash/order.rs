//! The order of the calls of one install, by trace.

use crate::support::strace;

use super::node::{CONFLIST, Declared, PLUGINS, Site};
use super::stepper::{self, Injection};

/// Fault 5: every plugin is complete and durable before it gets its name. All names are durable before the conflist
/// gets its name, which is then made durable, too.
#[test]
fn fault_5_every_name_is_given_to_a_durable_file_in_order() {
    if !strace::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let node = site.bare();
    let calls = [
        "write",
        "fchown",
        "fchmod",
        "fsync",
        "renameat",
        "renameat2",
    ];
    let lines = strace::trace(&node.command(&declared, "install"), &calls);
    node.is_as(&declared, "traced");
    let trace = Trace(&lines);

    let published: Vec<usize> = PLUGINS
        .iter()
        .map(|plugin| trace.rename_to("/opt/cni/bin", plugin))
        .collect();
    for at in &published {
        // The name that it has in the store, and the temporary one that it was written under.
        let spare = trace.renamed_at(*at);
        let stored = trace.rename_to("/store", spare);
        assert!(stored < *at);
        trace.is_complete_before(stored);
        trace.next_after(stored, "fsync(", "/.cni-keeper/store>");
    }
    let conflist = trace.rename_to("/etc/cni/net.d", CONFLIST);
    trace.is_complete_before(conflist);
    let last = *published.iter().max().unwrap();
    let durable = trace.next_after(last, "fsync(", "/opt/cni/bin>");
    assert!(durable < conflist, "{lines:#?}");
    let after = trace.next_after(conflist, "fsync(", "/etc/cni/net.d>");
    let ended = lines.iter().rposition(|line| line.contains("renameat"));
    assert!(Some(after) < ended, "the spares come last: {lines:#?}");
    // The ledger names every file before it is there.
    let ledger = trace.rename_to("/.cni-keeper", "ledger.json");
    assert!(ledger < published[0] && ledger < conflist);
}

/// The same over two runs: if the first is killed after the plugins got their names, the next run makes these durable
/// before it writes the conflist.
#[test]
fn fault_5_names_given_by_a_killed_run_are_durable_before_the_conflist() {
    if !strace::available() || !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let node = site.bare();
    let install = node.command(&declared, "install");
    let nth = 1 + lines_before_bin_sync(&site, &declared);
    let ended = stepper::run(&install, node.root(), Some("fsync"), nth, Injection::Kill);
    let hit = ended.and_then(|ended| ended.hit).expect("a change");
    assert!(hit.path.ends_with("opt/cni/bin"), "{hit}");

    let lines = strace::trace(&install, &["fsync", "renameat", "renameat2"]);
    let trace = Trace(&lines);
    let conflist = trace.rename_to("/etc/cni/net.d", CONFLIST);
    let durable = trace.next_after(0, "fsync(", "/opt/cni/bin>");
    assert!(durable < conflist, "{lines:#?}");
}

/// How often a fresh install calls fsync before it does so for the bin directory.
fn lines_before_bin_sync(site: &Site, declared: &Declared) -> usize {
    let node = site.bare();
    let lines = strace::trace(&node.command(declared, "install"), &["fsync"]);
    let at = lines
        .iter()
        .position(|line| line.contains("fsync(") && line.contains("/opt/cni/bin>"));
    let calls = lines[..at.expect("an fsync of the bin directory")].iter();
    calls
        // A call that another thread's call interrupts is printed twice, and begins once.
        .filter(|line| line.contains("fsync("))
        .count()
}

struct Trace<'a>(&'a [String]);

impl Trace<'_> {
    /// The first rename to this name in a directory whose path ends so.
    fn rename_to(&self, dir: &str, name: &str) -> usize {
        let end = format!("{dir}>, \"{name}\"");
        let found = self
            .0
            .iter()
            .position(|line| line.contains("renameat") && line.contains(&end));
        found.unwrap_or_else(|| panic!("no rename to {dir}/{name}: {:#?}", self.0))
    }

    /// The name that a rename takes away.
    fn renamed_at(&self, at: usize) -> &str {
        self.0[at].split('"').nth(1).expect("a name")
    }

    /// Fails unless what is renamed was written, given its mode, then made durable, in this order, and
    /// not written to afterwards.
    fn is_complete_before(&self, renamed: usize) {
        let file = format!("/{}>", self.renamed_at(renamed));
        let last = |call: &str| {
            let found = self
                .0
                .iter()
                .rposition(|line| line.contains(call) && line.contains(&file));
            found.unwrap_or_else(|| panic!("no {call} of {file}: {:#?}", self.0))
        };
        let order = [last("write("), last("fchmod("), last("fsync("), renamed];
        assert!(order.is_sorted(), "{file} {order:?}: {:#?}", self.0);
        let owner = self
            .0
            .iter()
            .rposition(|line| line.contains("fchown(") && line.contains(&file));
        assert!(owner < Some(order[1]), "{file}: {:#?}", self.0);
    }

    /// The first such call after a position.
    fn next_after(&self, at: usize, call: &str, file: &str) -> usize {
        let found = self.0[at..]
            .iter()
            .position(|line| line.contains(call) && line.contains(file));
        at + found.unwrap_or_else(|| panic!("no {call} of {file} after {at}: {:#?}", self.0))
    }
}
