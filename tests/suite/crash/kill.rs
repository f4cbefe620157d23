//! `kill -9` at every change that a command makes, each time on a node of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::node::{CONFLIST, Declared, File, Node, PLUGINS, Site, file, is_own_temp, ours, said};
use super::stepper::{self, Ended};

/// Temps of somebody else, whose names are close to ours.
const FOREIGN_TEMPS: [&str; 3] = [
    ".foreign-123.tmp",
    ".cni-keeper-XYZ.tmp",
    ".cni-keeper-0123456789ABCDEF.tmp",
];

/// A command on a node, and what may be seen of it at any instant.
struct Scenario<'a> {
    site: &'a Site,
    /// The node before.
    before: Node,
    /// What was visible of it.
    was: BTreeMap<PathBuf, File>,
    /// What is declared while the command runs.
    declared: &'a Declared,
    command: &'static str,
    /// What every file may be, besides what it was before.
    after: BTreeMap<PathBuf, Option<File>>,
    /// Whose content is nobody's business but the plan's: not ours, so uninstall leaves it.
    tampered: BTreeSet<PathBuf>,
    /// A foreign conflist that is set aside, and its name then.
    rival: Option<(PathBuf, PathBuf)>,
}

impl<'a> Scenario<'a> {
    /// `install` of a declaration on a node with foreign files strewn all over.
    fn install(site: &'a Site, before: Node, declared: &'a Declared) -> Self {
        strew(&before);
        let mut after = BTreeMap::new();
        for (plugin, content) in &declared.plugins {
            let new = ours(content.clone(), 0o755);
            after.insert(in_bin(plugin), Some(new));
        }
        let new = ours(declared.conflist.clone(), 0o600);
        after.insert(in_conf(CONFLIST), Some(new));
        Self {
            site,
            was: before.visible(),
            before,
            declared,
            command: "install",
            after,
            tampered: BTreeSet::new(),
            rival: None,
        }
    }

    /// Kills the command at its first change, its second, and so on until it is through; returns how
    /// many there were. After each, looks at what is there, then lets it run again.
    fn step_through(&self) -> usize {
        for nth in 1.. {
            let node = self.site.copy(&self.before);
            let program = node.keeper(self.declared, self.command);
            let ended = stepper::run_killed_at(&program, node.root(), nth).expect("may trace");
            let at = match ended {
                Ended::Killed(at) => at,
                Ended::Untouched(status) => {
                    assert_eq!(status, 0, "untouched");
                    self.is_done(&node, "untouched");
                    return nth - 1;
                }
            };
            self.is_whole(&node, &at);
            self.can_be_uninstalled(&self.site.copy(&node), &at);
            let again = node.run(self.declared, self.command);
            assert!(again.status.success(), "{at}: {}", said(&again));
            self.is_done(&node, &at);
            self.can_be_uninstalled(&node, &at);
        }
        unreachable!("a run makes finitely many changes")
    }

    /// Every file is wholly what it was or wholly what it becomes, and the runtime sees nothing half done.
    fn is_whole(&self, node: &Node, at: &str) {
        let before = &self.was;
        let mut now = node.visible();
        if let Some((own_name, aside)) = &self.rival {
            let rival = &before[own_name];
            let found: Vec<File> = [own_name, aside]
                .iter()
                .filter_map(|name| now.remove(*name))
                .collect();
            assert_eq!(found, std::slice::from_ref(rival), "{at}: the rival");
        }
        let names: BTreeSet<&PathBuf> = before.keys().chain(now.keys()).collect();
        for name in names {
            let found = now.get(name);
            let rival = self.rival.as_ref().is_some_and(|(own, _)| own == name);
            let becomes = self
                .after
                .get(name)
                .is_some_and(|new| found == new.as_ref());
            let ours = is_own_temp(name) && !before.contains_key(name);
            assert!(
                found == before.get(name) || becomes || rival || ours,
                "{at}: {} is {found:?}",
                name.display()
            );
        }
        self.is_usable(node, at);
    }

    /// Where there is a conflist of ours, there is every plugin; where it is the new one, they are too.
    fn is_usable(&self, node: &Node, at: &str) {
        let conflist = in_conf(CONFLIST);
        let now = node.visible();
        let aside = self
            .rival
            .as_ref()
            .is_some_and(|(_, aside)| now.contains_key(aside));
        let Some(visible) = now.get(&conflist) else {
            let taken_away = self.command == "uninstall" || !self.before.conflist().exists();
            assert!(taken_away, "{at}: the conflist is gone");
            assert!(
                !aside,
                "{at}: the rival is set aside, and nothing is in its place"
            );
            return;
        };
        let is_new = self.was.get(&conflist) != Some(visible);
        for plugin in PLUGINS.map(in_bin) {
            let found = now.get(&plugin);
            assert!(found.is_some(), "{at}: {} is absent", plugin.display());
            if is_new {
                assert_eq!(
                    found,
                    self.after[&plugin].as_ref(),
                    "{at}: {}",
                    plugin.display()
                );
            }
        }
    }

    /// What the command is for is reached, nothing of its own is left lying about, and all else is as it was.
    fn is_done(&self, node: &Node, at: &str) {
        let mut expected = self.was.clone();
        for (name, file) in &self.after {
            match file {
                Some(file) => drop(expected.insert(name.clone(), file.clone())),
                None => drop(expected.remove(name)),
            }
        }
        if let Some((own_name, aside)) = &self.rival {
            let rival = expected.remove(own_name).unwrap();
            expected.insert(aside.clone(), rival);
        }
        assert_eq!(node.visible(), expected, "{at}");
        assert_eq!(node.temps(), Vec::<PathBuf>::new(), "{at}");
        for name in FOREIGN_TEMPS {
            for dir in [node.state(), node.state().join("tmp")] {
                // Where there is no state directory before, there is none to put them into.
                let there = dir.join(name).exists();
                assert_eq!(there, self.before.state().exists(), "{at}: {name}");
            }
        }
    }

    /// The ledger forgot nothing of ours and claimed nothing of anybody else's.
    fn can_be_uninstalled(&self, node: &Node, at: &str) {
        let before = node.visible();
        let output = node.run(self.declared, "uninstall");
        assert!(output.status.success(), "{at}: {}", said(&output));
        let after = node.visible();
        for (name, file) in &self.was {
            let declared = self.after.contains_key(name);
            let tampered = self.tampered.contains(name) && before.get(name) == Some(file);
            if !declared || tampered {
                assert_eq!(after.get(name), Some(file), "{at}: {}", name.display());
            }
        }
        for (name, file) in &after {
            let theirs = self.was.get(name) == Some(file)
                && (!self.after.contains_key(name) || self.tampered.contains(name));
            assert!(theirs, "{at}: {} is left", name.display());
        }
        assert_eq!(node.temps(), Vec::<PathBuf>::new(), "{at}");
        let store = node.state().join("store");
        if store.exists() {
            let spares = fs::read_dir(store).unwrap().count();
            assert_eq!(spares, 0, "{at}: spares are left");
        }
    }
}

fn in_bin(name: &str) -> PathBuf {
    Path::new("opt/cni/bin").join(name)
}

fn in_conf(name: &str) -> PathBuf {
    Path::new("etc/cni/net.d").join(name)
}

/// Puts foreign files into every directory: a plugin, a conflist that sorts behind ours, temps.
fn strew(node: &Node) {
    for dir in [node.bin(), node.conf()] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(node.bin().join("theirs"), "their plugin").unwrap();
    fs::write(node.conf().join("90-theirs.conflist"), "{}").unwrap();
    let (state, temps) = (node.state(), node.state().join("tmp"));
    for dir in [node.bin(), node.conf(), state, temps] {
        for name in FOREIGN_TEMPS {
            if dir.exists() {
                fs::write(dir.join(name), name).unwrap();
            }
        }
    }
}

/// Overwrites a file in place, as nobody should.
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
    let steps = scenario.step_through();
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
    let steps = scenario.step_through();
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
    let steps = scenario.step_through();
    println!("{steps} kills");
    assert!(steps > 30, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 3 and 8 on the way out: the conflist is the first to go.
#[test]
fn faults_1_2_3_an_uninstall_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "");
    let mut scenario = Scenario::install(&site, site.installed(&declared), &declared);
    scenario.command = "uninstall";
    scenario.after.values_mut().for_each(|file| *file = None);
    let steps = scenario.step_through();
    println!("{steps} kills");
    assert!(steps > 15, "only {steps}: are the changes still seen?");
}

/// Faults 1 to 4 and 8, with a rival to be set aside and a plugin of the node image's own build to be replaced:
/// the rival is there under one of its two names, whole, and gives way only once ours is in place.
#[test]
fn faults_1_2_3_setting_a_rival_aside_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let site = Site::new();
    let declared = site.declare("a", 1, "drift: {foreignConflists: disable}\n");
    let node = site.bare();
    for dir in [node.bin(), node.conf()] {
        fs::create_dir_all(dir).unwrap();
    }
    let rival = r#"{"cniVersion":"1.0.0","name":"theirs","plugins":[{"type":"ptp"}]}"#;
    fs::write(node.conf().join("00-theirs.conflist"), rival).unwrap();
    tamper(&node.bin().join("loopback"), b"their own build");
    assert_eq!(file(&node.bin().join("loopback")).mode, 0o644);
    let mut scenario = Scenario::install(&site, node, &declared);
    scenario.tampered = [in_bin("loopback")].into();
    scenario.rival = Some((
        in_conf("00-theirs.conflist"),
        in_conf("00-theirs.conflist.cni-keeper-disabled"),
    ));
    let steps = scenario.step_through();
    println!("{steps} kills");
    assert!(steps > 60, "only {steps}: are the changes still seen?");
}
