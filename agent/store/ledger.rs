//! The ledger: every file placed and the digest placed, so that only what is ours is ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::error::DamagedRecord;
use super::records::RecordFile;
use crate::host::{Dir, HostError};
use crate::model::{FileName, ManagedDir, Owner, Pin, Sha256, quote_error};

const SCHEMA: u64 = 1;
/// A file needs some hundred bytes.
pub(super) const FILE: RecordFile = RecordFile {
    name: "ledger.json",
    largest: 8 << 20,
};

/// The artifact that a plugin came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginOrigin {
    /// The artifact's name in the configuration.
    pub artifact: String,
    /// Its version. Only shown.
    pub version: String,
    /// Its pin, as `sha256:…` or `sha512:…`.
    pub pin: String,
}

/// A file that we placed or are going to place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Which directory it is in.
    #[serde(rename = "place")]
    pub dir: ManagedDir,
    /// Its name there.
    pub name: FileName,
    /// The digest of what we placed or are placing.
    pub sha256: Sha256,
    /// While our file is being replaced: the digest of the old one. A crash leaves one or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha256>,
    /// The artifact of a plugin. A conflist has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<PluginOrigin>,
}

/// The directories of a ledger's files, as host paths without the host root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedDirs {
    /// `binDir`.
    pub bin: PathBuf,
    /// `confDir`.
    pub conf: PathBuf,
}

/// The measured digest and size of an artifact's member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredFile {
    /// The digest of the unpacked file.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// A foreign conflist that was set aside. Uninstall gives it its original name again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideFile {
    /// Its present name. No runtime reads a file with this name.
    pub name: FileName,
    /// Its original name.
    pub original: FileName,
}

/// The ledger. Only [`Ledger::load`] and [`Ledger::save`] touch the disk.
///
/// A file is replaced in three steps, so that after a crash between two of them the file is still known:
/// 1. [`Ledger::record_intent`] and save;
/// 2. publish the file;
/// 3. [`Ledger::settle_intent`] and save.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ledger {
    schema: Schema,
    /// Where the files below were placed; `None` as long as there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dirs: Option<ManagedDirs>,
    #[serde(default)]
    files: Vec<PlacedFile>,
    /// pin → member path → digest and size. From this the agent knows, offline, what a pinned artifact's plugins must
    /// be.
    #[serde(default)]
    members: BTreeMap<String, BTreeMap<String, MeasuredFile>>,
    #[serde(default)]
    set_aside: Vec<SetAsideFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Schema(u64);

impl Default for Schema {
    fn default() -> Self {
        Self(SCHEMA)
    }
}

/// The part that is read first, whatever else the file has.
#[derive(Deserialize)]
struct Header {
    schema: u64,
}

impl PluginOrigin {
    /// The origin of a plugin, by the artifact that holds it.
    #[must_use]
    pub fn of(artifact: &crate::model::Artifact) -> Self {
        Self {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            pin: artifact.pin.to_string(),
        }
    }
}

impl Ledger {
    /// The directories of its files, if they are not `dirs`. The ledger must then not be used, because its names would
    /// mean other files.
    #[must_use]
    pub fn dirs_other_than(&self, dirs: &ManagedDirs) -> Option<&ManagedDirs> {
        let known = self.dirs.as_ref().filter(|_| !self.files.is_empty());
        known.filter(|known| *known != dirs)
    }

    /// Records the directories of its files. Call it before the first file is placed.
    pub fn record_dirs(&mut self, dirs: ManagedDirs) {
        self.dirs = Some(dirs);
    }

    /// Every file that is known as ours, in the order in which the files were first placed.
    #[must_use]
    pub fn files(&self) -> &[PlacedFile] {
        &self.files
    }

    /// The entry of one file.
    #[must_use]
    pub fn find_file(&self, dir: ManagedDir, name: &FileName) -> Option<&PlacedFile> {
        self.files
            .iter()
            .find(|file| file.dir == dir && file.name == *name)
    }

    /// Whether a file of that name *with that content* is ours. A file that was edited since is not.
    #[must_use]
    pub fn owns_content(&self, dir: ManagedDir, name: &FileName, content: &Sha256) -> bool {
        self.find_file(dir, name)
            .is_some_and(|file| file.sha256 == *content || file.previous == Some(*content))
    }

    /// Records that a file is going to be placed. `on_disk` is the content that the file has now. If that content is
    /// ours, it stays ours until [`Ledger::settle_intent`]. If it is foreign, it does not become ours.
    pub fn record_intent(
        &mut self,
        dir: ManagedDir,
        name: &FileName,
        wanted: Sha256,
        on_disk: Option<Sha256>,
        origin: Option<PluginOrigin>,
    ) {
        let previous = on_disk.filter(|old| *old != wanted && self.owns_content(dir, name, old));
        let entry = PlacedFile {
            dir,
            name: name.clone(),
            sha256: wanted,
            previous,
            origin,
        };
        match self
            .files
            .iter_mut()
            .find(|file| file.dir == dir && file.name == *name)
        {
            Some(known) => *known = entry,
            None => self.files.push(entry),
        }
    }

    /// Records that the intended content of a file is in place.
    pub fn settle_intent(&mut self, dir: ManagedDir, name: &FileName) {
        for file in &mut self.files {
            if file.dir == dir && file.name == *name {
                file.previous = None;
            }
        }
    }

    /// Removes the entry of a file that was removed or is not ours any more; `false` if there was no entry.
    pub fn forget_file(&mut self, dir: ManagedDir, name: &FileName) -> bool {
        let before = self.files.len();
        self.files
            .retain(|file| file.dir != dir || file.name != *name);
        self.files.len() != before
    }

    /// The members of a pinned artifact, by path; `None` if it was never unpacked here.
    #[must_use]
    pub fn measured_members(&self, pin: &Pin) -> Option<&BTreeMap<String, MeasuredFile>> {
        self.members.get(&pin.to_string())
    }

    /// The size of a plugin with this content, if it was measured.
    #[must_use]
    pub fn size_of_content(&self, content: &Sha256) -> Option<u64> {
        let mut members = self.members.values().flat_map(BTreeMap::values);
        members.find_map(|member| (member.sha256 == *content).then_some(member.size))
    }

    /// Records the digest and the size of a member of a pinned artifact.
    pub fn record_member(&mut self, pin: &Pin, member: &str, measure: MeasuredFile) {
        self.members
            .entry(pin.to_string())
            .or_default()
            .insert(member.to_owned(), measure);
    }

    /// Forgets the members of all artifacts except those with these pins, as text.
    pub fn retain_members(&mut self, keep: &BTreeSet<String>) {
        self.members.retain(|pin, _| keep.contains(pin));
    }

    /// The foreign conflists that were set aside.
    #[must_use]
    pub fn set_aside_files(&self) -> &[SetAsideFile] {
        &self.set_aside
    }

    /// Records that a foreign conflist is going to be renamed from `original` to `name`.
    pub fn record_set_aside(&mut self, name: FileName, original: FileName) {
        self.set_aside.retain(|aside| aside.name != name);
        self.set_aside.push(SetAsideFile { name, original });
    }

    /// Removes the entry of a foreign conflist that has its original name again. `name` is the name that it had aside.
    pub fn forget_set_aside(&mut self, name: &FileName) {
        self.set_aside.retain(|aside| aside.name != *name);
    }

    /// Reads the ledger of a state directory; an empty one if there is no file yet.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the file exists and cannot be used: it is damaged, or a newer version wrote it.
    /// [`Ledger::salvage`] then reads what can be read of it.
    pub fn load(state: &Dir, owner: Owner) -> Result<Self, StoreError> {
        let Some(bytes) = FILE.read(state, owner)? else {
            return Ok(Self::default());
        };
        let damaged = |error: serde_json::Error| FILE.damage(state, quote_error(&error));
        let Header { schema } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if schema > SCHEMA {
            return Err(StoreError::Damaged(DamagedRecord {
                newer_schema: Some(schema),
                ..FILE.damage(
                    state,
                    format!(
                        "a newer cni-keeper wrote it, with schema {schema}, and this one knows schema {SCHEMA}"
                    ),
                )
            }));
        }
        Ok(serde_json::from_slice(&bytes).map_err(damaged)?)
    }

    /// Every entry of a damaged or newer ledger that this version understands.
    #[must_use]
    pub(super) fn salvage(state: &Dir, owner: Owner) -> Self {
        let bytes = FILE.read(state, owner).ok().flatten().unwrap_or_default();
        let found: Salvaged = serde_json::from_slice(&bytes).unwrap_or_default();
        let members = found.members.understood().unwrap_or_default().into_iter();
        Self {
            schema: Schema::default(),
            dirs: found.dirs.understood(),
            files: list_understood(found.files),
            members: members
                .filter_map(|(pin, measured)| Some((pin, measured.understood()?)))
                .collect(),
            set_aside: list_understood(found.set_aside),
        }
    }

    /// Adds the entries of another ledger that this one lacks. Where both have one, this one's stays.
    pub(super) fn add_missing(&mut self, other: &Self) {
        if self.dirs.is_none() {
            self.dirs.clone_from(&other.dirs);
        }
        for file in &other.files {
            if self.find_file(file.dir, &file.name).is_none() {
                self.files.push(file.clone());
            }
        }
        for (pin, members) in &other.members {
            let known = self.members.entry(pin.clone()).or_default();
            for (member, measure) in members {
                known.entry(member.clone()).or_insert(*measure);
            }
        }
        for aside in &other.set_aside {
            if !self.set_aside.contains(aside) {
                self.set_aside.push(aside.clone());
            }
        }
    }

    /// Replaces the ledger atomically and durably, with mode 0600. Nothing is written if it has not changed, as when a
    /// file is repaired.
    ///
    /// # Errors
    /// When a step of the writing fails. The file is then the old ledger or, if only the last step failed, this one
    /// ("durability uncertain").
    pub fn save(&self, state: &Dir, owner: Owner) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| HostError::new("write", state.path().join(FILE.name), error))?;
        text.push(b'\n');
        Ok(FILE.replace(state, owner, &text)?)
    }
}

/// A part of a record that may have another form than this version knows.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part<T> {
    Understood(T),
    Other(serde::de::IgnoredAny),
}

/// A ledger of which not every part is understood.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Salvaged {
    dirs: Part<ManagedDirs>,
    files: Part<Vec<Part<PlacedFile>>>,
    members: Part<BTreeMap<String, Part<BTreeMap<String, MeasuredFile>>>>,
    set_aside: Part<Vec<Part<SetAsideFile>>>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl<T> Part<T> {
    fn understood(self) -> Option<T> {
        match self {
            Self::Understood(part) => Some(part),
            Self::Other(_) => None,
        }
    }
}

fn list_understood<T>(parts: Part<Vec<Part<T>>>) -> Vec<T> {
    let parts = parts.understood().unwrap_or_default().into_iter();
    parts.filter_map(Part::understood).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        text.parse().unwrap()
    }

    fn digest(byte: u8) -> Sha256 {
        Sha256::from_bytes([byte; 32])
    }

    fn settled(ledger: &mut Ledger, file: &FileName, content: Sha256) {
        ledger.record_intent(ManagedDir::Bin, file, content, None, None);
        ledger.settle_intent(ManagedDir::Bin, file);
    }

    #[test]
    fn while_a_file_is_replaced_both_contents_are_ours() {
        let (mut ledger, bridge) = (Ledger::default(), name("bridge"));
        settled(&mut ledger, &bridge, digest(1));
        ledger.record_intent(ManagedDir::Bin, &bridge, digest(2), Some(digest(1)), None);
        assert!(ledger.owns_content(ManagedDir::Bin, &bridge, &digest(1)));
        assert!(ledger.owns_content(ManagedDir::Bin, &bridge, &digest(2)));
        ledger.settle_intent(ManagedDir::Bin, &bridge);
        assert!(!ledger.owns_content(ManagedDir::Bin, &bridge, &digest(1)));
        assert!(ledger.owns_content(ManagedDir::Bin, &bridge, &digest(2)));
        assert_eq!(ledger.files().len(), 1);
    }

    #[test]
    fn a_crash_and_then_a_third_content_lose_nothing() {
        let (mut ledger, bridge) = (Ledger::default(), name("bridge"));
        settled(&mut ledger, &bridge, digest(1));
        ledger.record_intent(ManagedDir::Bin, &bridge, digest(2), Some(digest(1)), None);
        // The crash came before the rename: the first content is still there.
        let mut before = ledger.clone();
        before.record_intent(ManagedDir::Bin, &bridge, digest(3), Some(digest(1)), None);
        assert!(before.owns_content(ManagedDir::Bin, &bridge, &digest(1)));
        // The crash came after the rename: the second is.
        ledger.record_intent(ManagedDir::Bin, &bridge, digest(3), Some(digest(2)), None);
        assert!(ledger.owns_content(ManagedDir::Bin, &bridge, &digest(2)));
        assert!(!ledger.owns_content(ManagedDir::Bin, &bridge, &digest(1)));
    }

    #[test]
    fn a_foreign_file_about_to_be_replaced_does_not_become_ours() {
        let (mut ledger, bridge) = (Ledger::default(), name("bridge"));
        ledger.record_intent(ManagedDir::Bin, &bridge, digest(1), Some(digest(9)), None);
        assert!(!ledger.owns_content(ManagedDir::Bin, &bridge, &digest(9)));
        assert!(ledger.owns_content(ManagedDir::Bin, &bridge, &digest(1)));
    }

    #[test]
    fn files_stay_where_they_were_placed() {
        let dirs = |bin: &str| ManagedDirs {
            bin: bin.into(),
            conf: "/etc/cni/net.d".into(),
        };
        let mut ledger = Ledger::default();
        ledger.record_dirs(dirs("/opt/cni/bin"));
        assert_eq!(
            ledger.dirs_other_than(&dirs("/usr/lib/cni")),
            None,
            "nothing is there"
        );
        ledger.record_intent(ManagedDir::Bin, &name("bridge"), digest(1), None, None);
        assert_eq!(ledger.dirs_other_than(&dirs("/opt/cni/bin")), None);
        assert_eq!(
            ledger.dirs_other_than(&dirs("/usr/lib/cni")),
            Some(&dirs("/opt/cni/bin"))
        );
    }

    #[test]
    fn a_name_is_ours_in_one_directory_only() {
        let (mut ledger, file) = (Ledger::default(), name("x"));
        ledger.record_intent(ManagedDir::Bin, &file, digest(1), None, None);
        assert!(!ledger.owns_content(ManagedDir::Conf, &file, &digest(1)));
        assert!(!ledger.forget_file(ManagedDir::Conf, &file));
        assert!(ledger.forget_file(ManagedDir::Bin, &file));
        assert_eq!(ledger.find_file(ManagedDir::Bin, &file), None);
    }

    #[test]
    fn measures_are_kept_by_pin_and_only_for_the_pins_in_use() {
        let (old, new) = (Pin::Sha256([1; 32]), Pin::Sha512([2; 64]));
        let measure = MeasuredFile {
            sha256: digest(7),
            size: 4,
        };
        let mut ledger = Ledger::default();
        ledger.record_member(&old, "bridge", measure);
        ledger.record_member(&new, "bridge", measure);
        ledger.retain_members(&BTreeSet::from([new.to_string()]));
        assert_eq!(ledger.measured_members(&old), None);
        assert_eq!(ledger.measured_members(&new).unwrap()["bridge"], measure);
    }

    #[test]
    fn what_was_set_aside_is_kept_until_it_is_put_back() {
        let mut ledger = Ledger::default();
        ledger.record_set_aside(name("00-x.conflist.aside"), name("00-x.conflist"));
        ledger.record_set_aside(name("00-x.conflist.aside"), name("00-x.conflist"));
        assert_eq!(ledger.set_aside_files().len(), 1);
        ledger.forget_set_aside(&name("00-x.conflist.aside"));
        assert_eq!(ledger, Ledger::default());
    }
}
