//! Steps through a real program: kills it, or refuses the call, at each of its system calls in turn.
//!
//! strace counts the calls of each thread and each kind separately. So a step is "the Nth `renameat`", and the steps of a
//! kind end with the first run in which nothing was hit. A killed call is not carried out, because the signal arrives on
//! entry: the disk is as the calls before left it.

use std::fs;
use std::process::{Command, Output};

use super::rerun;

/// Every call by which a program changes what is on a disk, and the end of the program.
pub(crate) const CHANGES: [&str; 11] = [
    "openat",
    "write",
    "ftruncate",
    "fchown",
    "fchmod",
    "fsync",
    "renameat",
    "unlinkat",
    "mkdirat",
    "flock",
    "exit_group",
];

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Injection {
    /// `SIGKILL` on entry: the call is not carried out.
    Kill,
    /// The call is not carried out and fails with this error (`EIO`, `ENOSPC` …).
    Error(&'static str),
}

/// One run in which the fault was injected.
#[derive(Debug)]
pub(crate) struct Step {
    /// Which call of which kind, for messages: `renameat #2`.
    pub(crate) at: String,
    /// The line that strace wrote about the call, with the paths of its descriptors.
    pub(crate) line: String,
    /// The output of the program, and how it ended.
    pub(crate) output: Output,
}

/// Whether strace is there and may trace.
pub(crate) fn available() -> bool {
    let works = rerun::has_program("strace")
        && Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !works {
        super::skipped("strace(1) is not there or may not trace");
    }
    works
}

/// Runs a program (its arguments and environment as in `command`) with the fault at the `nth` call of a
/// kind; `None` when it did not make that many.
pub(crate) fn run(command: &Command, syscall: &str, nth: usize, fault: Injection) -> Option<Step> {
    let what = match fault {
        Injection::Kill => "signal=SIGKILL".to_owned(),
        Injection::Error(errno) => format!("error={errno}"),
    };
    let options = [
        format!("--trace={syscall}"),
        format!("--inject={syscall}:{what}:when={nth}"),
    ];
    let (lines, output) = under_strace(command, &options);
    let hit = match fault {
        Injection::Error(_) => lines.into_iter().find(|line| line.contains("(INJECTED)")),
        // The last line of the thread is its end; the one before is the call that it died in.
        Injection::Kill
            if lines
                .iter()
                .any(|line| line.contains("+++ killed by SIGKILL")) =>
        {
            lines.into_iter().rfind(|line| !line.contains("+++"))
        }
        Injection::Kill => None,
    };
    hit.map(|line| Step {
        at: format!("{syscall} #{nth}"),
        line,
        output,
    })
}

/// Runs a program to its end and returns its calls of these kinds, in order, one line each, with the
/// paths of their descriptors: `fsync(4</opt/cni/bin>) = 0`.
pub(crate) fn trace(command: &Command, syscalls: &[&str]) -> Vec<String> {
    let (lines, output) = under_strace(command, &[format!("--trace={}", syscalls.join(","))]);
    assert!(output.status.success(), "{output:?}");
    lines
}

fn under_strace(command: &Command, options: &[String]) -> (Vec<String>, Output) {
    let log = tempfile::NamedTempFile::new().expect("a file for strace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "64", "-o"])
        .arg(log.path())
        .args(options)
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .output()
        .expect("strace runs");
    let text = fs::read(log.path()).expect("strace's log");
    let lines = String::from_utf8_lossy(&text)
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    (lines, output)
}

/// Runs a program once for each call of these kinds that it makes, with the fault at that call, each
/// time after `prepare` and followed by `check`. Returns the number of steps.
pub(crate) fn each_step(
    syscalls: &[&str],
    fault: Injection,
    mut prepare: impl FnMut() -> Command,
    mut check: impl FnMut(&Step),
) -> usize {
    let mut steps = 0;
    for syscall in syscalls {
        for nth in 1.. {
            let Some(step) = run(&prepare(), syscall, nth, fault) else {
                break;
            };
            check(&step);
            steps += 1;
        }
    }
    steps
}
