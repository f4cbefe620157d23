//! Tests that mount run in a mount namespace of their own. The kernel removes it with the process, so that nothing is left
//! behind even when the test panics or is killed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::rerun;

const SCRATCH: &str = "CNI_KEEPER_TEST_SCRATCH";

/// Runs `body` with a scratch directory in a private mount namespace, in a second run of `test`, which is the calling test
/// function itself. Prints a line and does nothing if that is not permitted.
///
/// The first run makes and removes the directory, because the second cannot remove what is mounted over.
pub(crate) fn in_private_mounts<T: Fn()>(test: &T, body: impl FnOnce(&Path)) {
    in_private(&["--mount", "--propagation", "private"], test, body);
}

/// The same, in a network namespace of its own as well. Not even loopback is up there.
pub(crate) fn in_private_network<T: Fn()>(test: &T, body: impl FnOnce(&Path)) {
    in_private(
        &["--net", "--mount", "--propagation", "private"],
        test,
        body,
    );
}

fn in_private<T: Fn()>(namespaces: &[&str], test: &T, body: impl FnOnce(&Path)) {
    let wrapper = [&["unshare"], namespaces, &["--"]].concat();
    if rerun::is_inside(test) {
        let scratch = env::var_os(SCRATCH).expect("the first run names the directory");
        return body(&PathBuf::from(scratch));
    }
    if !permitted(&wrapper) {
        super::skipped("a namespace needs root and unshare(1)");
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let output = rerun::command(test, &wrapper)
        .env(SCRATCH, scratch.path())
        .output();
    rerun::must_pass(&output.expect("unshare runs"));
}

/// Runs `body` in a second run of `test`, where it may change the kernel's limits on users (`/proc/sys/user`). Prints a
/// line and does nothing if that is not permitted.
pub(crate) fn in_private_limits<T: Fn()>(test: &T, body: impl FnOnce()) {
    const WRAPPER: [&str; 4] = ["unshare", "--user", "--map-root-user", "--"];
    if rerun::is_inside(test) {
        return body();
    }
    if !permitted(&WRAPPER) {
        super::skipped("a user namespace needs permission and unshare(1)");
        return;
    }
    rerun::must_pass(&rerun::command(test, &WRAPPER).output().unwrap());
}

/// Mounts a tmpfs over a directory; `options` as for `mount -o` (`size=64k,nr_inodes=8`).
pub(crate) fn mount_tmpfs(over: &Path, options: &str) {
    mount(&["-t", "tmpfs", "-o", options, "none"], over);
}

/// Makes a directory a mount of its own with these options (`ro`, `noexec`).
pub(crate) fn remount(over: &Path, options: &str) {
    mount(&["--bind", &over.to_string_lossy()], over);
    mount(&["-o", &format!("remount,bind,{options}")], over);
}

/// Shows a directory in the place of another.
pub(crate) fn bind(from: &Path, over: &Path) {
    mount(&["--bind", &from.to_string_lossy()], over);
}

/// Takes the topmost mount off a directory.
pub(crate) fn unmount(over: &Path) {
    let output = Command::new("umount").arg(over).output();
    let output = output.expect("umount(8) runs");
    assert!(output.status.success(), "umount: {output:?}");
}

fn mount(arguments: &[&str], over: &Path) {
    let output = Command::new("mount").args(arguments).arg(over).output();
    let output = output.expect("mount(8) runs");
    assert!(output.status.success(), "mount {arguments:?}: {output:?}");
}

fn permitted(wrapper: &[&str]) -> bool {
    Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success())
}
