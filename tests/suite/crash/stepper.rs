//! Kills the program at the Nth change that it makes, or refuses that change, whichever thread makes it.
//!
//! strace counts the calls of each thread separately. The program changes the disk from several threads, so some
//! calls would never be the Nth, and others would be hit together. This counts all calls in one sequence, in the
//! order in which they come.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// By this the kernel says that a thread stopped for the tracer itself (`PTRACE_EVENT_STOP`).
const STOPPED: i32 = 128;

/// What happens at a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Injection {
    /// The program is killed, all its threads at once, and the change not carried out.
    Kill,
    /// The change is not carried out, and fails with this error.
    Refuse(Errno),
}

/// How one run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The change that was hit; `None` if the program made fewer.
    pub(super) hit: Option<Change>,
    /// Its exit status; `None` if it was killed.
    pub(super) status: Option<i32>,
    /// Its output and its log.
    pub(super) message: String,
}

/// A call by which the program changes what is below a root, or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    thread: Pid,
    /// Its name.
    pub(super) call: &'static str,
    /// Where the descriptor leads that it is about: a file, or the directory of a name.
    pub(super) path: PathBuf,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.call, self.path.display())
    }
}

/// Whether processes may be traced here.
pub(super) fn available() -> bool {
    let ended = run(
        &Command::new("true"),
        Path::new("/nowhere"),
        None,
        2,
        Injection::Kill,
    );
    if ended.is_none() {
        crate::support::skipped("ptrace(2) is not permitted here");
    }
    ended.is_some()
}

/// Whether calls may be refused here, too.
pub(super) fn can_refuse() -> bool {
    let known = cfg!(target_arch = "x86_64");
    if !known {
        println!("skipped: how a call is refused is only known for x86_64 here");
    }
    known && available()
}

/// Runs a program with a fault on entry to the `nth` call, of this name or of any, by which it changes what
/// is below `root`, or ends. `None` where tracing is not permitted.
///
/// Of writes in a row to one file by one thread only the first two count: what is on the disk before the
/// third differs from that before the second by the length of a temporary file, and the file's last state is
/// seen at the call after it.
#[expect(
    clippy::zombie_processes,
    reason = "it is waited for by its id, as a tracer must"
)]
pub(super) fn run(
    program: &Command,
    root: &Path,
    only: Option<&'static str>,
    nth: usize,
    fault: Injection,
) -> Option<Ended> {
    let mut output = tempfile::tempfile().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
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
    let tracer = Tracer {
        leader,
        root,
        only,
        nth,
        fault,
        begun: false,
        inside: HashMap::new(),
        count: 0,
        last: None,
        hit: None,
        refusing: None,
    };
    let (hit, status) = tracer.until_it_ends();
    let mut message = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut message).unwrap();
    Some(Ended {
        hit,
        status,
        message: String::from_utf8_lossy(&message).into_owned(),
    })
}

struct Tracer<'a> {
    leader: Pid,
    root: &'a Path,
    only: Option<&'static str>,
    nth: usize,
    fault: Injection,
    /// Whether the shell has become the program.
    begun: bool,
    /// Whether a thread is inside a call.
    inside: HashMap<Pid, bool>,
    count: usize,
    last: Option<(Change, usize)>,
    hit: Option<Change>,
    /// The thread whose call was taken away, and which is to get this answer at its end.
    refusing: Option<(Pid, Errno)>,
}

impl Tracer<'_> {
    fn until_it_ends(mut self) -> (Option<Change>, Option<i32>) {
        loop {
            // Its threads only: what it starts itself is in the same group, but not traced and not our child.
            let group = Pid::from_raw(-self.leader.as_raw());
            let status = waitpid(group, Some(WaitPidFlag::__WALL)).expect("it is ours");
            let (thread, signal) = match status {
                WaitStatus::Exited(thread, status) if thread == self.leader => {
                    return (self.hit, Some(status));
                }
                WaitStatus::Signaled(thread, signal, _) if thread == self.leader => {
                    assert_eq!(signal, Signal::SIGKILL);
                    assert!(self.hit.is_some(), "killed by somebody else");
                    return (self.hit, None);
                }
                WaitStatus::PtraceSyscall(thread) => {
                    self.at_a_call(thread);
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

    fn at_a_call(&mut self, thread: Pid) {
        if let Some((_, errno)) = self.refusing.take_if(|(refused, _)| *refused == thread) {
            answer(thread, errno);
        }
        let Some(change) = self.entered(thread) else {
            return;
        };
        if self.hit.is_some() || self.count != self.nth {
            return;
        }
        self.hit = Some(change);
        match self.fault {
            // The plugins that it runs are killed with it, so that nothing is left running.
            Injection::Kill => killpg(self.leader, Signal::SIGKILL).unwrap(),
            Injection::Refuse(errno) => {
                take_away(thread);
                self.refusing = Some((thread, errno));
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
        if self.only.is_some_and(|only| only != call) {
            return None;
        }
        let path = match call {
            "exit_group" => PathBuf::new(),
            _ => fs::read_link(format!("/proc/{thread}/fd/{}", arguments[0])).ok()?,
        };
        // Output, pipes and wake-ups of threads are no changes.
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

/// Turns the call that a thread is entering into one that does not exist.
#[cfg(target_arch = "x86_64")]
fn take_away(thread: Pid) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.orig_rax = u64::MAX;
    ptrace::setregs(thread, registers).unwrap();
}

/// Gives the call that a thread is leaving another answer.
#[cfg(target_arch = "x86_64")]
fn answer(thread: Pid, errno: Errno) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.rax = i64::from(-(errno as i32)).cast_unsigned();
    ptrace::setregs(thread, registers).unwrap();
}

#[cfg(not(target_arch = "x86_64"))]
fn take_away(_: Pid) {
    unreachable!("can_refuse() says no");
}

#[cfg(not(target_arch = "x86_64"))]
fn answer(_: Pid, _: Errno) {
    unreachable!("can_refuse() says no");
}
