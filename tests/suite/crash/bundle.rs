//! `kill -9` at every change that `bundle` makes: it holds whole files only, and the next run completes it.

use std::fs;
use std::path::{Path, PathBuf};

use cni_keeper::model::Sha256;

use super::stepper::{self, Injection};
use crate::support::node::Node;
use crate::support::release::RELEASE;

/// The only blob.
fn archive(bundle: &Path) -> PathBuf {
    bundle.join(format!("blobs/sha256/{}", Sha256::of(&RELEASE.bytes)))
}

/// Kills the first run at its first change, a run on a copy of the same at its second, and so on; `before` makes what
/// the run finds. Returns how many changes there were.
fn step_through(before: impl Fn(&Path), old: Option<&[u8]>) -> usize {
    let node = Node::declared();
    for nth in 1.. {
        let bundle = node.config().with_file_name(format!("bundle-{nth}"));
        fs::create_dir(&bundle).unwrap();
        before(&bundle);
        // By flags only, because the tracer passes no variables on.
        let config = node.config();
        let gather = format!(
            "--config {} bundle -o {}",
            config.display(),
            bundle.display()
        );
        let program = node.command(&gather);
        let ended = stepper::run(&program, &bundle, None, nth, Injection::Kill).expect("may trace");
        let there = fs::read(archive(&bundle)).ok();
        let Some(change) = ended.hit else {
            assert_eq!(ended.status, Some(0), "{}", ended.message);
            return nth - 1;
        };
        let is_old = there.as_deref() == old;
        let is_whole = there.is_some_and(|bytes| bytes == RELEASE.bytes);
        assert!(is_old || is_whole, "change {nth}, {change}");
        node.run(&gather).exits(0);
        assert!(fs::read(archive(&bundle)).unwrap() == RELEASE.bytes);
        let mut names: Vec<String> = fs::read_dir(&bundle)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".lock", "blobs", "bundle.json"], "{change}");
        fs::remove_dir_all(bundle).unwrap();
    }
    unreachable!("a run makes finitely many changes")
}

/// Faults 1 to 3 and 8, for a new bundle and for one with a damaged file that is repaired.
#[test]
fn faults_1_2_3_a_bundle_survives_a_kill_at_every_change() {
    if !stepper::available() {
        return;
    }
    let steps = step_through(|_| {}, None);
    assert!(steps > 10, "only {steps}: are the changes still seen?");
    let damaged = |bundle: &Path| {
        let archive = archive(bundle);
        fs::create_dir_all(archive.parent().unwrap()).unwrap();
        fs::write(archive, b"damaged").unwrap();
    };
    let steps = step_through(damaged, Some(b"damaged"));
    assert!(steps > 10, "only {steps}: are the changes still seen?");
}
