//! Asks a plugin which versions of the CNI specification it supports (`CNI_COMMAND=VERSION`).

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::host::{MemoryLimit, offer_to_oom_killer};
use crate::model::one_line;

/// How long a plugin may take to answer. The reference plugins need a few milliseconds.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Plugins run inside the agent's own memory limit, and some take nearly all of it. So one is asked at a time.
pub(super) static QUESTION: Semaphore = Semaphore::const_new(1);

/// A plugin is stopped when the memory limit leaves less than this, in bytes. Beyond the limit the kernel kills, and with
/// `memory.oom.group`, which kubelet sets, it kills the agent as well.
const LEAST_MEMORY: u64 = 4 << 20;
/// How often the memory limit is looked at while a plugin runs. A plugin of 56 MB takes a tenth of a second to grow.
const MEMORY_PERIOD: Duration = Duration::from_millis(5);

/// How much of an answer is read, in bytes. A real answer has about a hundred bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// How much of what a plugin printed is quoted, in bytes.
const MAX_QUOTE_BYTES: usize = 120;

/// How much of what a plugin wrote to its standard error is looked at, in bytes, and how long that is waited for after
/// its end: a process that it left behind may hold the pipe open.
const MAX_COMPLAINT_BYTES: usize = 4 * 1024;
const COMPLAINT_TIMEOUT: Duration = Duration::from_millis(100);

/// What programs complain of that get no memory or may start no thread, in lower case. The runtime of Go ends with status
/// 2 then, as after any other fatal error.
const COMPLAINTS_OF_NO_MEMORY: [&str; 7] = [
    "cannot allocate memory",
    "out of memory",
    "memory allocation of",
    "bad_alloc",
    "cannot fork",
    "failed to create new os thread",
    "resource temporarily unavailable",
];

/// The signals that a program brings upon itself by a fault of its own. Every other one was sent by somebody.
const SIGNALS_OF_A_FAULT: [Signal; 6] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
];

/// How often an exec is tried while another process holds the file open for writing (`ETXTBSY`),
/// and the pause between. libcni itself tries 5 times a second apart.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The versions that a plugin supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionAnswer {
    /// In the plugin's own order.
    pub supported: Vec<String>,
}

/// Why a plugin gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The kernel would not run it.
    #[error("it cannot be run: {}{}", Errno::from_raw(source.raw_os_error().unwrap_or(0)).desc(), exec_advice(source))]
    Exec {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The plugin names a dynamic loader that does not exist in the agent's container. That says nothing about the
    /// host, where the loader may exist.
    #[error(
        "its dynamic loader does not exist in the agent's own container, so it cannot be asked"
    )]
    NoLoader,
    /// The answer could not be had. That says nothing about the plugin.
    #[error("which CNI versions it supports is unknown, and it is asked again later: {0}")]
    Unknown(#[from] NoAnswer),
    /// The exit status is not 0.
    #[error("it answered VERSION with {status}{}", quote_output(output))]
    Failed {
        status: ExitStatus,
        /// The beginning of what it printed.
        output: String,
    },
    /// The output is not a VERSION answer.
    #[error("it answered VERSION with something else{}", quote_output(output))]
    NotAnAnswer {
        /// The beginning of what it printed.
        output: String,
    },
}

/// Why a question had no answer, although the plugin may be a good one.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No answer in time.
    #[error("it did not answer VERSION within {} s", VERSION_TIMEOUT.as_secs())]
    TimedOut,
    /// Somebody killed it, mostly the kernel.
    #[error(
        "it was killed by {signal} before it had answered VERSION; if the memory limit is too low for it, raise the \
         limit (resources.limits.memory)"
    )]
    Killed {
        /// The signal's name.
        signal: String,
    },
    /// It complained that it got no memory or no thread.
    #[error(
        "it got too little memory to answer VERSION{}; raise the limit (resources.limits.memory)",
        quote_output(complaint)
    )]
    NoMemory {
        /// The beginning of its complaint.
        complaint: String,
    },
    /// The agent stopped it, because the memory limit was nearly reached.
    #[error(
        "it needs more memory to answer VERSION than the memory limit of {} MiB leaves; raise the limit \
         (resources.limits.memory)",
        limit.limit >> 20
    )]
    NoRoom {
        /// What was found when it was stopped.
        limit: MemoryLimit,
    },
    /// The kernel could not start another process.
    #[error(
        "it could not be started to answer VERSION: {}; look at the limits of memory, processes and open files",
        Errno::from_raw(source.raw_os_error().unwrap_or(0)).desc()
    )]
    NotStarted {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

fn exec_advice(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) => "; look at its mode, or is its directory mounted noexec?",
        Some(Errno::ENOEXEC) => "; it is not a program for this machine",
        Some(Errno::ETXTBSY) => "; another process holds it open for writing",
        _ => "",
    }
}

fn quote_output(output: &str) -> String {
    match one_line(output, MAX_QUOTE_BYTES).as_str() {
        "" => " and printed nothing".to_owned(),
        line => format!(": {line}"),
    }
}

#[derive(serde::Deserialize)]
struct VersionJson {
    #[serde(rename = "supportedVersions")]
    supported: Vec<String>,
}

/// Runs a plugin to learn its versions, in the way of libcni (`invoke.GetVersionInfo`): `CNI_COMMAND=VERSION`, dummy
/// values for variables that old plugins demand, and a configuration on stdin. Waits until no other plugin of this
/// process is being asked. `called` is the name by which it is called (`argv[0]`).
///
/// # Errors
/// When the plugin cannot be run or answers something else; [`VersionError::Unknown`] when its answer could not be had.
pub async fn ask_version(plugin: &Path, called: &str) -> Result<VersionAnswer, VersionError> {
    // It is never closed, so this always gives a permit.
    let _permit = QUESTION.acquire().await;
    let mut child = spawn_plugin(plugin, called).await?;
    if let Some(pid) = child.id() {
        offer_to_oom_killer(pid);
    }
    let answer = tokio::select! {
        biased;
        // Either future may be dropped: the plugin is killed then.
        answer = timeout(VERSION_TIMEOUT, read_answer(&mut child)) => match answer {
            Ok(answer) => answer.map_err(|source| NoAnswer::NotStarted { source }),
            Err(_) => Err(NoAnswer::TimedOut),
        },
        limit = wait_for_full_memory() => Err(NoAnswer::NoRoom { limit }),
    };
    match answer {
        Ok(answer) => judge_answer(&answer),
        Err(reason) => {
            kill_process_group(&mut child).await;
            Err(reason.into())
        }
    }
}

/// How a plugin ended, and what it wrote.
struct RawAnswer {
    status: ExitStatus,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

fn judge_answer(answer: &RawAnswer) -> Result<VersionAnswer, VersionError> {
    let status = answer.status;
    let output = String::from_utf8_lossy(&answer.output).into_owned();
    if !status.success() {
        let complaint = String::from_utf8_lossy(&answer.complaint).into_owned();
        let folded = complaint.to_ascii_lowercase();
        if COMPLAINTS_OF_NO_MEMORY
            .iter()
            .any(|known| folded.contains(known))
        {
            return Err(NoAnswer::NoMemory { complaint }.into());
        }
        let signal = status.signal().map(Signal::try_from);
        return match signal {
            Some(Ok(signal)) if !SIGNALS_OF_A_FAULT.contains(&signal) => Err(NoAnswer::Killed {
                signal: signal.to_string(),
            }
            .into()),
            _ => Err(VersionError::Failed { status, output }),
        };
    }
    match serde_json::from_str::<VersionJson>(&output) {
        Ok(answer) if !answer.supported.is_empty() => Ok(VersionAnswer {
            supported: answer.supported,
        }),
        _ => Err(VersionError::NotAnAnswer { output }),
    }
}

/// Kills the plugin and everything that it started. Errors are ignored: the child itself is killed on drop as well.
async fn kill_process_group(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill().await;
}

/// Completes when the memory limit of this process is nearly reached; never where there is no limit.
async fn wait_for_full_memory() -> MemoryLimit {
    loop {
        sleep(MEMORY_PERIOD).await;
        match MemoryLimit::read() {
            Some(limit) if limit.left() < LEAST_MEMORY => return limit,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
}

async fn spawn_plugin(plugin: &Path, called: &str) -> Result<Child, VersionError> {
    let mut command = Command::new(plugin);
    command
        .arg0(called)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", "VERSION")
        .env("CNI_CONTAINERID", "dummy")
        .env("CNI_NETNS", "dummy")
        .env("CNI_IFNAME", "dummy")
        .env("CNI_PATH", "dummy")
        // A program in Go then takes less memory, and answers the same.
        .env("GOMAXPROCS", "1")
        .env("GOGC", "20")
        .env("GOMEMLIMIT", "16MiB")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // In a process group of its own, everything that the plugin starts can be killed with it.
        .process_group(0)
        .kill_on_drop(true);
    let mut tries = 0;
    loop {
        let source = match command.spawn() {
            Ok(child) => return Ok(child),
            Err(source) => source,
        };
        tries += 1;
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ETXTBSY) if tries < BUSY_TRIES => sleep(BUSY_PAUSE).await,
            // The caller has just seen the file, so what is missing is the interpreter it names.
            Some(Errno::ENOENT) => return Err(VersionError::NoLoader),
            // The agent lacks something, not the plugin.
            Some(Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE) => {
                return Err(NoAnswer::NotStarted { source }.into());
            }
            _ => return Err(VersionError::Exec { source }),
        }
    }
}

async fn read_answer(child: &mut Child) -> io::Result<RawAnswer> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut complaint = Vec::new();
    let answer = {
        let mut reading = pin!(async {
            if let Some(mut stdin) = stdin {
                // A plugin may answer and close the pipe without reading its configuration. That is no failure.
                let _ = stdin.write_all(br#"{"cniVersion":"1.1.0"}"#).await;
            }
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout
                    .take(MAX_ANSWER_BYTES)
                    .read_to_end(&mut output)
                    .await?;
            }
            io::Result::Ok((child.wait().await?, output))
        });
        let mut listening = pin!(read_complaint(stderr, &mut complaint));
        tokio::select! {
            // Both are pinned and continue below.
            answer = reading.as_mut() => {
                let _ = timeout(COMPLAINT_TIMEOUT, listening).await;
                answer?
            }
            () = listening.as_mut() => reading.await?,
        }
    };
    let (status, output) = answer;
    Ok(RawAnswer {
        status,
        output,
        complaint,
    })
}

/// Reads all that a plugin complains of, and keeps the beginning.
async fn read_complaint(stderr: Option<ChildStderr>, kept: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else {
        return;
    };
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let room = MAX_COMPLAINT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}
