//! Which file of which layer is a wanted path? Pure: layers are shown from the top down, as streams of entries.
//!
//! The rules are those of the OCI image specification ("Applying Changesets"), and where it is silent those of
//! containerd. Nothing is indexed: of each layer a search keeps what stands at its path and at the path's parents.
//! An entry counts for the path under which its layer names it: a layer that puts files under a symbolic link of a
//! lower layer without naming the directory, which no common builder does, has them under that name alone.

use std::mem;

use crate::fetch::unpack::{ArchiveError, FileLocation, TarEntryKind, normalize_image_path};

/// A deleted file's name has this before it, in the layer that deletes it.
pub(super) const WHITEOUT: &str = ".wh.";
/// What else the file systems of old left there.
const WHITEOUT_META: &str = ".wh..wh.";
/// Hides all that lower layers have in its directory.
const OPAQUE: &str = ".wh..wh..opq";
/// The most links that Linux follows on one path (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// How a search stands after a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SearchStep {
    /// It goes on with the layer that [`PathSearch::layer`] names.
    Open,
    Found(FileLocation),
    /// Neither this layer nor a lower one can have it.
    Missing,
}

/// The search for one path.
#[derive(Debug, Clone)]
pub(super) struct PathSearch {
    /// As it was asked for.
    wanted: String,
    /// What is looked for now, links followed. Empty for the root.
    path: String,
    /// The hard links that led here, the last of which is being resolved.
    hard_links: Vec<LinkPlace>,
    /// The topmost layer that counts: a hard link means what was there when its layer was laid.
    top: usize,
    /// The layer to read next.
    layer: usize,
    /// How many links were followed.
    links: u32,
    /// For each parent and the path itself, whether a layer above has a directory there.
    directories: Vec<bool>,
    /// The same for what this layer has there.
    entries: Vec<Option<PathEntry>>,
    /// Whether this layer hides what lower ones have at the path.
    hidden: bool,
}

/// Where on a path a link stands.
#[derive(Debug, Clone)]
struct LinkPlace {
    /// The path of the link itself. A symbolic link is relative to its directory.
    name: String,
    /// What of the path lies below the link. Empty if the link is the path itself.
    rest: String,
    /// The topmost layer that counts for the path.
    top: usize,
}

/// What a layer has at the path or at one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathEntry {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Other(&'static str),
}

impl From<TarEntryKind<'_>> for PathEntry {
    fn from(kind: TarEntryKind<'_>) -> Self {
        match kind {
            TarEntryKind::File => Self::File,
            TarEntryKind::Directory => Self::Directory,
            TarEntryKind::Symlink(target) => Self::Symlink(target.to_vec()),
            TarEntryKind::HardLink(target) => Self::HardLink(target.to_vec()),
            TarEntryKind::Other(words) => Self::Other(words),
        }
    }
}

impl PathSearch {
    pub(super) fn new(wanted: &str) -> Self {
        let path = normalize_image_path(wanted.as_bytes()).unwrap_or_else(|| wanted.to_owned());
        let mut search = Self {
            wanted: path.clone(),
            path: String::new(),
            hard_links: Vec::new(),
            top: 0,
            layer: 0,
            links: 0,
            directories: Vec::new(),
            entries: Vec::new(),
            hidden: false,
        };
        search.look_for(path, 0);
        search
    }

    /// The path as it was asked for.
    pub(super) fn wanted(&self) -> &str {
        &self.wanted
    }

    /// The path that is looked for now.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The layer to look at next, counted from the top.
    pub(super) const fn layer(&self) -> usize {
        self.layer
    }

    /// Takes in an entry of that layer, whose name is `path` in its normal form.
    ///
    /// # Errors
    /// When the layer has two different things at a place that matters.
    pub(super) fn add_entry(
        &mut self,
        path: &str,
        kind: TarEntryKind<'_>,
    ) -> Result<(), ArchiveError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == OPAQUE {
            self.hidden |= strip_parent(&self.path, parent).is_some();
            return Ok(());
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if let Some(name) = name.strip_prefix(WHITEOUT) {
            if name.is_empty() {
                return Ok(());
            }
            let rest = strip_parent(&self.path, parent);
            self.hidden |=
                rest.is_some_and(|rest| rest == name || strip_parent(rest, name).is_some());
            return Ok(());
        }
        if path != self.path && strip_parent(&self.path, path).is_none() {
            return Ok(());
        }
        let depth = path.matches('/').count();
        match (&self.entries[depth], kind) {
            (None, _) => self.entries[depth] = Some(kind.into()),
            // Several tars in one name their directories each.
            (Some(PathEntry::Directory), TarEntryKind::Directory) => {}
            (Some(_), _) => return Err(ArchiveError::Twice(path.to_owned())),
        }
        Ok(())
    }

    /// The layer has no more entries.
    ///
    /// # Errors
    /// When the path leads to something that is no file, through too many links, or in a way that can be read
    /// differently.
    pub(super) fn end_layer(&mut self) -> Result<SearchStep, ArchiveError> {
        let entries = mem::take(&mut self.entries);
        self.entries = vec![None; entries.len()];
        let hidden = mem::take(&mut self.hidden);
        let Some(last) = entries.len().checked_sub(1) else {
            return self.end_at_no_file(0, "a directory");
        };
        let is_barrier = |at: &Option<PathEntry>| !matches!(at, None | Some(PathEntry::Directory));
        let depth = entries[..last].iter().position(is_barrier).unwrap_or(last);
        if entries[depth + 1..].iter().any(Option::is_some) {
            return Err(ArchiveError::Ambiguous("something lies below a link"));
        }
        match &entries[depth] {
            None if hidden => Ok(SearchStep::Missing),
            None => {
                for (known, here) in self.directories.iter_mut().zip(&entries) {
                    *known |= here.is_some();
                }
                self.layer += 1;
                Ok(SearchStep::Open)
            }
            // An upper layer has a directory in place of it, which lets nothing of a lower layer be seen.
            Some(_) if self.directories[depth] => Ok(SearchStep::Missing),
            Some(PathEntry::Symlink(target)) => self.follow_symlink(depth, target),
            Some(PathEntry::HardLink(target)) => self.follow_hard_link(depth, target),
            Some(PathEntry::File) if !self.needs_directory(depth) => {
                Ok(SearchStep::Found(FileLocation {
                    layer: self.layer,
                    path: self.path.clone(),
                }))
            }
            Some(PathEntry::File) => Ok(SearchStep::Missing),
            Some(PathEntry::Directory) => self.end_at_no_file(depth, "a directory"),
            Some(PathEntry::Other(kind)) => self.end_at_no_file(depth, kind),
        }
    }

    /// Whether only a directory, or a link to one, at the component `depth` of the path would lead to the wanted file.
    fn needs_directory(&self, depth: usize) -> bool {
        let link = self.hard_links.last();
        depth + 1 < self.directories.len() || link.is_some_and(|link| !link.rest.is_empty())
    }

    /// Ends the search where the component `depth` of the path is neither a file nor a link.
    fn end_at_no_file(&self, depth: usize, kind: &'static str) -> Result<SearchStep, ArchiveError> {
        match self.needs_directory(depth) {
            // A device, or a hard link to a directory, which no file system has.
            true => Ok(SearchStep::Missing),
            false => Err(self.not_a_file(kind)),
        }
    }

    /// Goes on behind the symbolic link that stands at the path's component `depth`.
    fn follow_symlink(&mut self, depth: usize, target: &[u8]) -> Result<SearchStep, ArchiveError> {
        self.count_link()?;
        let Some(target) = std::str::from_utf8(target).ok().filter(|t| !t.is_empty()) else {
            return Err(self.not_a_file("a symbolic link to nothing that has a name"));
        };
        let place = self.place_of_link(depth);
        let above = match (target.starts_with('/'), place.name.rsplit_once('/')) {
            (false, Some((parent, _))) => parent.split('/').collect(),
            _ => Vec::new(),
        };
        let mut resolved = resolve_target(above, target)?;
        resolved.extend(place.rest.split('/').filter(|part| !part.is_empty()));
        self.look_for(resolved.join("/"), place.top);
        Ok(SearchStep::Open)
    }

    /// Where the symbolic link counts that stands at the path's component `depth`: where the hard link is that led to
    /// it, if one did, because a hard link to a symbolic link is the same link under another name.
    fn place_of_link(&mut self, depth: usize) -> LinkPlace {
        let place = self.split_path(depth);
        match place.rest.is_empty() {
            true => self.hard_links.pop().unwrap_or(place),
            false => place,
        }
    }

    /// Goes on with what the hard link at the path's component `depth` is another name of, in this layer or below it.
    fn follow_hard_link(
        &mut self,
        depth: usize,
        target: &[u8],
    ) -> Result<SearchStep, ArchiveError> {
        self.count_link()?;
        let Some(target) = normalize_image_path(target) else {
            return Err(self.not_a_file("a hard link out of the image"));
        };
        let place = self.split_path(depth);
        // Of a hard link to a hard link the first name stays: it is the one by which the path leads there.
        if !place.rest.is_empty() || self.hard_links.is_empty() {
            self.hard_links.push(place);
        }
        self.look_for(target, self.layer);
        Ok(SearchStep::Open)
    }

    /// Splits the path behind its component `depth`.
    fn split_path(&self, depth: usize) -> LinkPlace {
        let mut slashes = self.path.match_indices('/').map(|(end, _)| end);
        let (name, rest) = match slashes.nth(depth) {
            Some(end) => (&self.path[..end], &self.path[end + 1..]),
            None => (self.path.as_str(), ""),
        };
        LinkPlace {
            name: name.to_owned(),
            rest: rest.to_owned(),
            top: self.top,
        }
    }

    fn look_for(&mut self, path: String, top: usize) {
        let depth = match path.as_str() {
            "" => 0,
            path => path.split('/').count(),
        };
        self.path = path;
        self.top = top;
        self.layer = top;
        self.directories = vec![false; depth];
        self.entries = vec![None; depth];
        self.hidden = false;
    }

    fn count_link(&mut self) -> Result<(), ArchiveError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(ArchiveError::Links(self.wanted.clone()));
        }
        Ok(())
    }

    fn not_a_file(&self, kind: &'static str) -> ArchiveError {
        ArchiveError::NotAFile {
            path: self.wanted.clone(),
            kind,
        }
    }
}

/// Resolves the target of a symbolic link in the directory `above`.
fn resolve_target<'a>(above: Vec<&'a str>, target: &'a str) -> Result<Vec<&'a str>, ArchiveError> {
    let mut resolved = above;
    let mut descended = false;
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            // What is left by it may itself be a link: only what is known to be a directory is left.
            ".." if descended => {
                return Err(ArchiveError::Ambiguous("a link leads down and up again"));
            }
            // Out of the root there is no way.
            ".." => {
                resolved.pop();
            }
            part => {
                resolved.push(part);
                descended = true;
            }
        }
    }
    Ok(resolved)
}

/// What of `path` lies below the directory `parent`; all of it is below the root.
pub(super) fn strip_parent<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    match parent {
        "" => Some(path),
        parent => path.strip_prefix(parent)?.strip_prefix('/'),
    }
}

#[cfg(test)]
mod tests;
