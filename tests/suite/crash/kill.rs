//! `kill -9` at every change that a command makes, each time on a node of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::node::{CONFLIST, Site, file};
use super::scenario::{Scenario, in_bin, in_conf};
use super::stepper::{self, Injection};

/// Kills the command at its first change, its second, and so on to its end. After each kill, checks the disk and lets
/// the command run again. Returns the number of changes.
fn step_through(scenario: &Scenario<'_>) -> usize {
    for nth in 1.. {
        let node = scenario.site.copy(&scenario.before);
        let program = node.command(scenario.declared, scenario.command);
        let ended =
            stepper::run(&program, node.root(), None, nth, Injection::Kill).expect("may trace");
        let Some(change) = ended.hit else {
            assert_eq!(ended.status, Some(0), "{}", ended.message);
            scenario.is_done(&node, "untouched");
            return nth - 1;
        };
        let at = format!("change {nth}, {change}");
        scenario.is_whole(&node, &at);
        scenario.can_be_uninstalled(&scenario.site.copy(&node), &at);
        node.must(scenario.declared, scenario.command);
        scenario.is_done(&node, &at);
        scenario.can_be_uninstalled(&node, &at);
    }
    unreachable!("a run makes finitely many changes")
}

/// Overwrites a file in place.
fn tamper(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}

/// Faults 1 to 5 and 8, on a node that has nothing yet.
#[test]
fn faults_1_2_3_4_a_fresh_install_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let scenario = Scenario::install(&site, site.bare(), &declared);
    let steps = step_through(&scenario);
    println!("{steps} kills");
    assert!(steps > 60, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 3 and 8: the old set and its conflist, or the new ones, and never the new conflist on old plugins.
#[test]
fn faults_1_2_3_an_upgrade_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let (old, new) = (site.declare("a", 1, ""), site.declare("b", 2, ""));
    let scenario = Scenario::install(&site, site.installed(&old), &new);
    let steps = step_through(&scenario);
    println!("{steps} kills");
    assert!(steps > 60, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 3 and 8, with files that somebody overwrote, chmodded and removed.
#[test]
fn faults_1_2_3_a_heal_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let node = site.installed(&declared);
    tamper(&node.bin().join("ptp"), b"not a plugin");
    tamper(&node.conflist(), b"{}");
    let mode = fs::Permissions::from_mode(0o4755);
    fs::set_permissions(node.bin().join("loopback"), mode).unwrap();
    let mut scenario = Scenario::install(&site, node, &declared);
    scenario.tampered = [in_bin("ptp"), in_conf(CONFLIST)].into();
    let steps = step_through(&scenario);
    println!("{steps} kills");
    assert!(steps > 20, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 3 and 8 for `uninstall`: the conflist is removed first.
#[test]
fn faults_1_2_3_an_uninstall_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let scenario = Scenario::uninstall(&site, &declared);
    let steps = step_through(&scenario);
    println!("{steps} kills");
    assert!(steps > 15, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 4 and 8, with a foreign conflist to set aside and a plugin of the node image's own build to replace. The
/// foreign conflist is there, whole, under one of its two names, and is renamed only once ours is in place.
#[test]
fn faults_1_2_3_setting_a_foreign_conflist_aside_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "drift: {foreignConflists: disable}\n");
    let node = site.bare();
    for dir in [node.bin(), node.conf()] {
        fs::create_dir_all(dir).unwrap();
    }
    let foreign = r#"{"cniVersion":"1.0.0","name":"theirs","plugins":[{"type":"ptp"}]}"#;
    fs::write(node.conf().join("00-theirs.conflist"), foreign).unwrap();
    tamper(&node.bin().join("loopback"), b"their own build");
    assert_eq!(file(&node.bin().join("loopback")).mode, 0o644);
    let mut scenario = Scenario::install(&site, node, &declared);
    scenario.tampered = [in_bin("loopback")].into();
    scenario.foreign = Some((
        in_conf("00-theirs.conflist"),
        in_conf("00-theirs.conflist.cni-keeper-disabled"),
    ));
    let steps = step_through(&scenario);
    println!("{steps} kills");
    assert!(steps > 60, "only {steps}: are the changes still seen?");
}
