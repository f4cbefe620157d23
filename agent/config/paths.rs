//! The three host directories, and host paths in general.

use std::path::{Component, Path, PathBuf};

use super::error::Problems;
use super::overrides::Overrides;
use super::read::Fields;
use super::settings::Paths;
use super::tree::{Node, Origin, Place};

const BIN_DIR: &str = "/opt/cni/bin";
const CONF_DIR: &str = "/etc/cni/net.d";
const STATE_NAME: &str = ".cni-keeper";

/// A directory and where it was said.
struct Placed {
    path: PathBuf,
    at: Place,
}

/// Reads `paths`; `root` is the whole file, `overrides` come from flags and environment.
///
/// The state directory lies beside the bin directory unless said otherwise: publishing is a rename only
/// within one mount, and inside the bin directory CRI-O would run what it finds there.
pub(super) fn paths(
    root: &Fields<'_>,
    overrides: &Overrides,
    problems: &mut Problems,
) -> Option<Paths> {
    let fields = match root.get("paths") {
        Some(node) => Some(node.fields(&["binDir", "confDir", "stateDir"], problems)?),
        None => None,
    };
    let mut read = |key: &str, flag: &str, given: Option<&PathBuf>| -> Option<Option<Placed>> {
        if let Some(path) = given {
            let at = Place {
                origin: Origin::Flag,
                line: 0,
                path: flag.to_owned(),
            };
            let path = keep(&at, host_path(path), problems)?;
            return Some(Some(Placed { path, at }));
        }
        match fields.as_ref().and_then(|fields| fields.get(key)) {
            None => Some(None),
            Some(node) => {
                let path = path_of(node, problems)?;
                let at = node.at.clone();
                Some(Some(Placed { path, at }))
            }
        }
    };
    let bin = read("binDir", "--bin-dir", overrides.bin_dir.as_ref());
    let conf = read("confDir", "--conf-dir", overrides.conf_dir.as_ref());
    let state = read("stateDir", "--state-dir", overrides.state_dir.as_ref());
    let by_default = |key: &str, path: PathBuf| Placed {
        path,
        at: root.at.key("paths").key(key),
    };
    let bin = bin?.unwrap_or_else(|| by_default("binDir", BIN_DIR.into()));
    let conf = conf?.unwrap_or_else(|| by_default("confDir", CONF_DIR.into()));
    let state = state?.unwrap_or_else(|| {
        let beside = bin.path.parent().unwrap_or(&bin.path).join(STATE_NAME);
        by_default("stateDir", beside)
    });
    apart(
        &[("binDir", &bin), ("confDir", &conf), ("stateDir", &state)],
        problems,
    )?;
    Some(Paths {
        bin_dir: bin.path,
        conf_dir: conf.path,
        state_dir: state.path,
    })
}

/// No directory is another or lies inside another: containerd and CRI-O take every file of theirs for one
/// of their own.
fn apart(dirs: &[(&str, &Placed)], problems: &mut Problems) -> Option<()> {
    let before = problems.count();
    for (index, (name, dir)) in dirs.iter().enumerate() {
        for (other_name, other) in &dirs[..index] {
            let relation = if dir.path == other.path {
                "is the same as"
            } else if dir.path.starts_with(&other.path) {
                "lies inside"
            } else if other.path.starts_with(&dir.path) {
                "holds"
            } else {
                continue;
            };
            problems.add(
                &dir.at,
                format!(
                    "{name} {} {relation} {other_name} {}; choose three directories apart from each other",
                    dir.path.display(),
                    other.path.display()
                ),
            );
        }
    }
    (problems.count() == before).then_some(())
}

/// Reads an absolute host path.
pub(super) fn path_of(node: &Node, problems: &mut Problems) -> Option<PathBuf> {
    let text = node.number_or_text(problems)?;
    node.note(host_path(Path::new(text)), problems)
}

/// Reads a unix socket, written as a kubelet is given it: `unix:///PATH`. Percent signs stand for themselves.
pub(super) fn socket_of(node: &Node, problems: &mut Problems) -> Option<PathBuf> {
    let text = node.text(problems)?;
    let path = text.strip_prefix("unix://").ok_or_else(|| {
        format!("'{text}' is not a unix socket; write unix:// and its absolute path, such as unix:///run/containerd/containerd.sock")
    });
    node.note(path.and_then(|path| host_path(Path::new(path))), problems)
}

/// An absolute path without `.`, doubled or trailing slashes. `..` is refused rather than resolved: what it
/// means depends on symbolic links of the host.
fn host_path(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!(
            "'{shown}' is not an absolute path; begin it with /"
        ));
    }
    if path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(u8::is_ascii_control)
    {
        return Err(format!("'{shown}' holds a control character; take it out"));
    }
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                return Err(format!("'{shown}' holds '..'; write the path out"));
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if normal.parent().is_none() {
        return Err("the root directory itself will not do; name a directory below it".to_owned());
    }
    Ok(normal)
}

fn keep<T>(at: &Place, result: Result<T, String>, problems: &mut Problems) -> Option<T> {
    result.map_err(|what| problems.add(at, what)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_is_absolute_and_comes_out_normal() {
        for (text, normal) in [("/a/b", "/a/b"), ("//a/./b//", "/a/b"), ("/a/.b", "/a/.b")] {
            assert_eq!(
                host_path(Path::new(text)),
                Ok(PathBuf::from(normal)),
                "{text}"
            );
        }
        for bad in [
            "", "a", "./a", "/", "//", "/a/../b", "/..", "/a\nb", "/a\0b",
        ] {
            assert!(host_path(Path::new(bad)).is_err(), "{bad:?}");
        }
    }
}
