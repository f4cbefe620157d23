//! A command on a node, and what must hold on the node at every instant of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cni_keeper::model::Sha256;

use super::node::{CONFLIST, Declared, File, Node, PLUGINS, Site, is_own_temp, message, ours};

/// Foreign temporary files with names close to ours.
const FOREIGN_TEMPS: [&str; 3] = [
    ".foreign-123.tmp",
    ".cni-keeper-XYZ.tmp",
    ".cni-keeper-0123456789ABCDEF.tmp",
];

/// A command on a node, and what may be visible at any instant.
pub(super) struct Scenario<'a> {
    pub(super) site: &'a Site,
    /// The node before.
    pub(super) before: Node,
    /// What was visible on it.
    was: BTreeMap<PathBuf, File>,
    /// What is declared while the command runs.
    pub(super) declared: &'a Declared,
    pub(super) command: &'static str,
    /// What every file may become, besides what it was before.
    pub(super) after: BTreeMap<PathBuf, Option<File>>,
    /// Files of others that the plan replaces: not ours, so `uninstall` leaves them.
    pub(super) tampered: BTreeSet<PathBuf>,
    /// A foreign conflist that is set aside, and its name then.
    pub(super) foreign: Option<(PathBuf, PathBuf)>,
}

impl<'a> Scenario<'a> {
    /// `install` of a declaration on a node with foreign files in every directory.
    pub(super) fn install(site: &'a Site, before: Node, declared: &'a Declared) -> Self {
        strew(&before);
        Self::plain(site, before, declared)
    }

    /// `uninstall` of a declaration from a node that has it, with foreign files in every directory.
    pub(super) fn uninstall(site: &'a Site, declared: &'a Declared) -> Self {
        let mut scenario = Self::install(site, site.installed(declared), declared);
        scenario.command = "uninstall";
        scenario.after.values_mut().for_each(|file| *file = None);
        scenario
    }

    /// `install` without foreign files.
    pub(super) fn plain(site: &'a Site, before: Node, declared: &'a Declared) -> Self {
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
            foreign: None,
        }
    }

    /// Checks that every file is completely the old one or completely the new one.
    pub(super) fn is_whole(&self, node: &Node, at: &str) {
        let before = &self.was;
        let mut now = node.visible();
        if let Some((own_name, aside)) = &self.foreign {
            let foreign = &before[own_name];
            let found: Vec<File> = [own_name, aside]
                .iter()
                .filter_map(|name| now.remove(*name))
                .collect();
            assert_eq!(
                found,
                std::slice::from_ref(foreign),
                "{at}: the foreign conflist"
            );
        }
        let names: BTreeSet<&PathBuf> = before.keys().chain(now.keys()).collect();
        for name in names {
            let found = now.get(name);
            let foreign = self.foreign.as_ref().is_some_and(|(own, _)| own == name);
            let becomes = self
                .after
                .get(name)
                .is_some_and(|new| found == new.as_ref());
            let ours = is_own_temp(name) && !before.contains_key(name);
            assert!(
                found == before.get(name) || becomes || foreign || ours,
                "{at}: {} is {found:?}",
                name.display()
            );
        }
        self.is_usable(node, at);
    }

    /// Checks that every plugin is there if our conflist is, and the new plugins if it is the new conflist.
    fn is_usable(&self, node: &Node, at: &str) {
        let conflist = in_conf(CONFLIST);
        let now = node.visible();
        let aside = self
            .foreign
            .as_ref()
            .is_some_and(|(_, aside)| now.contains_key(aside));
        let Some(visible) = now.get(&conflist) else {
            let taken_away = self.command == "uninstall" || !self.before.conflist().exists();
            assert!(taken_away, "{at}: the conflist is gone");
            assert!(
                !aside,
                "{at}: the foreign conflist is set aside, and nothing is in its place"
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

    /// Checks that the command reached its goal, left nothing of its own behind, and changed nothing else.
    pub(super) fn is_done(&self, node: &Node, at: &str) {
        let mut expected = self.was.clone();
        for (name, file) in &self.after {
            match file {
                Some(file) => drop(expected.insert(name.clone(), file.clone())),
                None => drop(expected.remove(name)),
            }
        }
        if let Some((own_name, aside)) = &self.foreign {
            let foreign = expected.remove(own_name).unwrap();
            expected.insert(aside.clone(), foreign);
        }
        assert_eq!(node.visible(), expected, "{at}");
        assert_eq!(node.temps(), Vec::<PathBuf>::new(), "{at}");
        for name in FOREIGN_TEMPS {
            for dir in ["", "tmp"] {
                let was = self.before.state().join(dir).join(name).exists();
                let is = node.state().join(dir).join(name).exists();
                assert_eq!(is, was, "{at}: {name}");
            }
        }
        self.store_is_clean(node, at);
    }

    /// Checks that the store has copies of what is in place, and no others, such as those of the old set.
    fn store_is_clean(&self, node: &Node, at: &str) {
        let mut left = file_names(&node.state().join("store"));
        if self.command == "install" {
            for content in self.declared.plugins.values() {
                left.remove(&Sha256::of(content).to_string());
            }
        }
        assert_eq!(left, BTreeSet::new(), "{at}: copies are left");
    }

    /// Checks that the ledger has all of our files and none of others.
    pub(super) fn can_be_uninstalled(&self, node: &Node, at: &str) {
        let before = node.visible();
        let output = node.run(self.declared, "uninstall");
        assert!(output.status.success(), "{at}: {}", message(&output));
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
        let copies = file_names(&node.state().join("store"));
        assert_eq!(copies, BTreeSet::new(), "{at}: copies are left");
    }
}

/// The names in a directory, which may be absent.
fn file_names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(super) fn in_bin(name: &str) -> PathBuf {
    Path::new("opt/cni/bin").join(name)
}

pub(super) fn in_conf(name: &str) -> PathBuf {
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
