//! Killing the program at the Nth change that it makes, whichever of its threads makes it.
//!
//! strace counts the calls of each thread apart. The program changes the disk from several, so that some
//! calls would never be the Nth of anything; this counts them all in one row, in the order in which they come.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Where the kernel says that a thread stopped for the tracer itself (`PTRACE_EVENT_STOP`).
const STOPPED: i32 = 128;

/// How one run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was killed on entry to this change, which was not carried out.
    Killed(String),
    /// It made fewer changes, and ended with this exit status.
    Untouched(i32),
}

/// Whether processes may be traced here.
pub(super) fn available() -> bool {
    let ended = run_killed_at(&Command::new("true"), Path::new("/nowhere"), 2);
    if ended.is_none() {
        println!("skipped: ptrace(2) is not permitted here");
    }
    ended.is_some()
}

/// Runs a program and kills it, all its threads at once, on entry to the `nth` call by which it changes
/// what is below `root`, or ends. `None` where tracing is not permitted.
///
/// Of writes in a row to one file by one thread only the first two count: what is on the disk before the
/// third differs from that before the second by the length of a temporary file, and the file's last state is seen
/// at the call after it.
pub(super) fn run_killed_at(program: &Command, root: &Path, nth: usize) -> Option<Ended> {
    let mut command = Command::new("sh");
    command
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let child = command.spawn().expect("sh runs");
    let leader = Pid::from_raw(i32::try_from(child.id()).unwrap());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED)).expect("sh stops itself");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let seized = ptrace::seize(leader, options);
    kill(leader, Signal::SIGCONT).unwrap();
    if seized.is_err() {
        killpg(leader, Signal::SIGKILL).unwrap();
        waitpid(leader, None).unwrap();
        return None;
    }
    Some(Tracer::new(leader, root).until(nth))
}

struct Tracer<'a> {
    leader: Pid,
    root: &'a Path,
    /// Whether the shell has become the program.
    begun: bool,
    /// Whether a thread is inside a call.
    inside: HashMap<Pid, bool>,
    count: usize,
    last: Option<(Change, usize)>,
}

/// One change, as far as it tells changes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    thread: Pid,
    call: &'static str,
    path: PathBuf,
}

impl<'a> Tracer<'a> {
    fn new(leader: Pid, root: &'a Path) -> Self {
        Self {
            leader,
            root,
            begun: false,
            inside: HashMap::new(),
            count: 0,
            last: None,
        }
    }

    fn until(mut self, nth: usize) -> Ended {
        let mut killed = None;
        loop {
            // Its threads only: what it starts itself is in the same group, but not traced and not our child.
            let group = Pid::from_raw(-self.leader.as_raw());
            let status = waitpid(group, Some(WaitPidFlag::__WALL)).expect("it is ours");
            let (thread, signal) = match status {
                WaitStatus::Exited(thread, status) if thread == self.leader => {
                    return Ended::Untouched(status);
                }
                WaitStatus::Signaled(thread, signal, _) if thread == self.leader => {
                    assert_eq!(signal, Signal::SIGKILL);
                    return Ended::Killed(killed.expect("killed by us"));
                }
                WaitStatus::PtraceSyscall(thread) => {
                    if let Some(change) = self.entered(thread)
                        && self.count == nth
                    {
                        killed = Some(format!(
                            "change {nth}, {} of {}",
                            change.call,
                            change.path.display()
                        ));
                        // The plugins that it is asking go with it, so that nothing is left running.
                        killpg(self.leader, Signal::SIGKILL).unwrap();
                        continue;
                    }
                    (thread, None)
                }
                WaitStatus::PtraceEvent(thread, _, event) => {
                    self.begun |= event == libc::PTRACE_EVENT_EXEC;
                    if event == STOPPED {
                        self.inside.insert(thread, false);
                    }
                    (thread, None)
                }
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                _ => continue,
            };
            match ptrace::syscall(thread, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => panic!("ptrace: {error}"),
            }
        }
    }

    /// The change that a thread is about to make, if it is one that counts; it is counted then.
    fn entered(&mut self, thread: Pid) -> Option<Change> {
        let inside = self.inside.entry(thread).or_default();
        *inside = !*inside;
        if !*inside || !self.begun {
            return None;
        }
        let (number, arguments) = call(thread)?;
        let call = name(number, arguments)?;
        let path = match call {
            "exit_group" => PathBuf::new(),
            _ => fs::read_link(format!("/proc/{thread}/fd/{}", arguments[0])).ok()?,
        };
        // Output, pipes, and what wakes a thread are no changes.
        if call != "exit_group" && !path.starts_with(self.root) {
            return None;
        }
        let change = Change { thread, call, path };
        let again = match self.last.take() {
            Some((last, times)) if last == change && call == "write" => times + 1,
            _ => 1,
        };
        self.last = Some((change.clone(), again));
        if again > 2 {
            return None;
        }
        self.count += 1;
        Some(change)
    }
}

/// The name of a call that changes a disk or ends the program. `openat` does only if it may create.
const fn name(number: i64, arguments: [u64; 3]) -> Option<&'static str> {
    Some(match number {
        libc::SYS_openat if arguments[2] & libc::O_CREAT as u64 != 0 => "openat",
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev => "write",
        libc::SYS_copy_file_range | libc::SYS_sendfile => "copy",
        libc::SYS_ftruncate | libc::SYS_fallocate => "ftruncate",
        libc::SYS_fchown | libc::SYS_fchownat => "fchown",
        libc::SYS_fchmod | libc::SYS_fchmodat => "fchmod",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_linkat | libc::SYS_symlinkat => "link",
        libc::SYS_unlinkat => "unlink",
        libc::SYS_mkdirat => "mkdir",
        libc::SYS_flock => "flock",
        libc::SYS_exit_group => "exit_group",
        _ => return None,
    })
}

#[cfg(target_arch = "x86_64")]
fn call(thread: Pid) -> Option<(i64, [u64; 3])> {
    let registers = ptrace::getregs(thread).ok()?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx];
    Some((registers.orig_rax.cast_signed(), arguments))
}

#[cfg(target_arch = "aarch64")]
fn call(thread: Pid) -> Option<(i64, [u64; 3])> {
    let registers = ptrace::getregs(thread).ok()?.regs;
    let arguments = [registers[0], registers[1], registers[2]];
    Some((registers[8].cast_signed(), arguments))
}
