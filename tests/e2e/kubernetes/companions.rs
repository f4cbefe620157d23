//! The programs beside the agent, as the components of the manifests run them: in images that have the names that the
//! components ask for. The images are made here, around the real programs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::programs_image;
use crate::namespace::{find_program, run};

/// The image of the component node-ranges.
const NODE_RANGES: &str = "registry.k8s.io/kube-controller-manager:v1.37.2";
/// The image of the component flanneld.
const FLANNELD: &str = "ghcr.io/flannel-io/flannel:v0.28.10";

/// Makes the images, and returns their archives.
pub(crate) fn make_images(dir: &Path) -> Vec<PathBuf> {
    let controllers = find_program("kube-controller-manager").unwrap();
    let controllers = ("/usr/bin/kube-controller-manager".into(), controllers);
    let images = [
        ("node-ranges", NODE_RANGES, vec![controllers]),
        ("flanneld", FLANNELD, flanneld()),
    ];
    let make = |(name, image, programs): (_, _, Vec<_>)| {
        let archive = dir.join(format!("{name}.tar"));
        fs::write(&archive, programs_image(image, &programs)).unwrap();
        archive
    };
    images.map(make).into()
}

/// flanneld, and the iptables that it calls, with the libraries of both.
fn flanneld() -> Vec<(PathBuf, PathBuf)> {
    let flanneld = find_program("flanneld").unwrap();
    let iptables = fs::canonicalize(find_program("iptables").unwrap()).unwrap();
    let mut libraries = libraries(&flanneld);
    libraries.extend(self::libraries(&iptables));
    libraries.sort();
    libraries.dedup();
    let xtables = libraries.iter().find(|library| {
        let name = library.file_name().unwrap().to_str().unwrap();
        name.starts_with("libxtables")
    });
    // What iptables loads by the names of matches and targets.
    let extensions = fs::canonicalize(xtables.unwrap()).unwrap();
    let extensions = extensions.with_file_name("xtables");
    let extensions = fs::read_dir(extensions).unwrap();
    let extensions = extensions.map(|extension| extension.unwrap().path());
    let in_their_places = libraries.into_iter().chain(extensions);
    let calls = ["iptables", "iptables-save", "iptables-restore"];
    [("/opt/bin/flanneld".into(), flanneld)]
        .into_iter()
        .chain(calls.map(|name| (Path::new("/usr/sbin").join(name), iptables.clone())))
        .chain(in_their_places.map(|file| (file.clone(), file)))
        .collect()
}

/// The libraries that a program is linked with.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = run("ldd", &[program.to_str().unwrap()]);
    let paths = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}
