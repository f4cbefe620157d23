//! `paths`: the three host directories.

use std::path::PathBuf;

use super::config_value::Fields;
use super::error::Problems;
use super::host_path::{normalize_path, read_path};
use super::location::Location;
use super::overrides::Overrides;
use super::settings::Paths;

const BIN_DIR: &str = "/opt/cni/bin";
const CONF_DIR: &str = "/etc/cni/net.d";
const STATE_NAME: &str = ".cni-keeper";

/// A directory of the host, and where it is declared.
struct HostDir {
    key: &'static str,
    path: PathBuf,
    at: Location,
}

/// Reads `paths`. `root` is the whole file, and `overrides` come from flags and environment variables.
///
/// By default the state directory is beside the bin directory. It must be on the same mount, because plugins are placed
/// by a rename. It must not be inside the bin directory, because CRI-O would run files that it finds there.
pub(super) fn read_paths(root: &Fields<'_>, overrides: &Overrides) -> Paths {
    let before = root.problems().count();
    let section = root.section("paths", &["binDir", "confDir", "stateDir"]);
    let read = |key, given: &Option<PathBuf>, flag, default| {
        read_directory(
            &section,
            key,
            given.as_ref().map(|path| (flag, path)),
            default,
        )
    };
    let bin = read("binDir", &overrides.bin_dir, "--bin-dir", BIN_DIR.into());
    let conf = read(
        "confDir",
        &overrides.conf_dir,
        "--conf-dir",
        CONF_DIR.into(),
    );
    let beside = bin.path.parent().unwrap_or(&bin.path).join(STATE_NAME);
    let state = read("stateDir", &overrides.state_dir, "--state-dir", beside);
    if root.problems().count() == before {
        check_apart(&[&bin, &conf, &state], root.problems());
    }
    Paths {
        bin_dir: bin.path,
        conf_dir: conf.path,
        state_dir: state.path,
    }
}

/// The directory from the flag, or from the file, or the default.
fn read_directory(
    section: &Fields<'_>,
    key: &'static str,
    flag: Option<(&str, &PathBuf)>,
    default: PathBuf,
) -> HostDir {
    let Some((flag, path)) = flag else {
        return HostDir {
            key,
            path: section.read_or(key, default, read_path),
            at: section.location_of(key),
        };
    };
    let at = Location::of_flag(flag);
    let path = normalize_path(path).unwrap_or_else(|what| {
        section.problems().add(&at, what);
        default
    });
    HostDir { key, path, at }
}

/// Checks that the directories are different and that none lies inside another. containerd and CRI-O would use every
/// file in one of their directories as their own.
fn check_apart(dirs: &[&HostDir], problems: &Problems) {
    for (index, dir) in dirs.iter().enumerate() {
        for other in &dirs[..index] {
            let relation = if dir.path == other.path {
                "is the same as"
            } else if dir.path.starts_with(&other.path) {
                "lies inside"
            } else if other.path.starts_with(&dir.path) {
                "contains"
            } else {
                continue;
            };
            problems.add(
                &dir.at,
                format!(
                    "{} {} {relation} {} {}; choose three directories, none of which lies inside another",
                    dir.key,
                    dir.path.display(),
                    other.key,
                    other.path.display()
                ),
            );
        }
    }
}
