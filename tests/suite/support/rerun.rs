//! A test that runs itself a second time, in a process of its own, under another program. So real failures (a full disk, no
//! descriptors left, a kill) do not touch the other tests.

use std::env;
use std::process::{Command, Output};

const INSIDE: &str = "CNI_KEEPER_TEST_INSIDE";

/// The name of a test function in the test harness.
fn name_of<T: Fn()>(_: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Whether this is the second run of that test.
pub(crate) fn is_inside<T: Fn()>(test: &T) -> bool {
    env::var_os(INSIDE).is_some_and(|inside| inside == name_of(test))
}

/// The command that runs only that test, as the argument of `wrapper` (a program and its options).
///
/// On one thread, so that system calls come in one order.
pub(crate) fn command<T: Fn()>(test: &T, wrapper: &[&str]) -> Command {
    let program = env::current_exe().expect("the test binary has a path");
    let mut command = match wrapper.split_first() {
        Some((first, options)) => {
            let mut command = Command::new(first);
            command.args(options).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args([name_of(test), "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name_of(test));
    command
}

/// Fails with the output of the second run, unless it ran exactly that test and the test passed.
pub(crate) fn must_pass(output: &Output) {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{}\n--- stdout\n{out}\n--- stderr\n{err}",
        output.status
    );
}

/// Whether a program can be started at all.
pub(crate) fn has_program(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}
