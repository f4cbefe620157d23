//! Asking a plugin which versions of the CNI specification it speaks.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a plugin may take to answer; the reference plugins need a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of an answer is read, in bytes; a real one has about a hundred.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// How often an exec is tried while another process holds the file open for writing (`ETXTBSY`),
/// and the pause between. libcni itself tries 5 times a second apart.
const BUSY_TRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What a plugin said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionAnswer {
    /// `supportedVersions`, in the plugin's own order.
    pub supported: Vec<String>,
}

/// Why a plugin's answer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The kernel would not run it.
    #[error("it cannot be run: {}{}", Errno::from_raw(source.raw_os_error().unwrap_or(0)).desc(), hint(source))]
    Exec {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It names a dynamic loader that does not exist here, which says nothing about the host: seen
    /// when the agent's own container lacks what a dynamically linked plugin needs.
    #[error("its dynamic loader is not to be found from here, so that it cannot be asked")]
    NoLoader,
    /// No answer in time.
    #[error("it did not answer VERSION within {} s", PATIENCE.as_secs())]
    Silent,
    /// It ended otherwise than an answer ends.
    #[error("it answered VERSION with {status}{}", said(output))]
    Failed {
        /// Exit status or signal.
        status: std::process::ExitStatus,
        /// The beginning of what it printed.
        output: String,
    },
    /// What it printed is not a VERSION answer.
    #[error("it answered VERSION with something else{}", said(output))]
    NotAnAnswer {
        /// The beginning of what it printed.
        output: String,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) => "; look at its mode, or is its directory mounted noexec?",
        Some(Errno::ENOEXEC) => "; it is not a program for this machine",
        Some(Errno::ETXTBSY) => "; another process holds it open for writing",
        _ => "",
    }
}

fn said(output: &str) -> String {
    let mut line: String = output.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return " and printed nothing".to_owned();
    }
    if let Some((cut, _)) = line.char_indices().nth(120) {
        line.truncate(cut);
        line.push('…');
    }
    format!(": {line}")
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "supportedVersions")]
    supported: Vec<String>,
}

/// Runs a plugin as libcni does to learn its versions: `CNI_COMMAND=VERSION`, dummy values for what
/// old plugins demand, the configuration on stdin (libcni `invoke.GetVersionInfo`).
///
/// # Errors
/// When it cannot be run, does not answer in time, or answers something else.
pub async fn ask(plugin: &Path) -> Result<VersionAnswer, VersionError> {
    let mut child = spawn(plugin).await?;
    let answer = timeout(PATIENCE, converse(&mut child)).await;
    let (status, output) = match answer {
        Ok(Ok(said)) => said,
        Ok(Err(source)) => return Err(VersionError::Exec { source }),
        Err(_) => {
            end(&mut child).await;
            return Err(VersionError::Silent);
        }
    };
    let output = String::from_utf8_lossy(&output).into_owned();
    if !status.success() {
        return Err(VersionError::Failed { status, output });
    }
    match serde_json::from_str::<Answer>(&output) {
        Ok(answer) if !answer.supported.is_empty() => Ok(VersionAnswer {
            supported: answer.supported,
        }),
        _ => Err(VersionError::NotAnAnswer { output }),
    }
}

/// Kills it and everything that it started. Best effort: the child alone is killed on drop as well.
async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill().await;
}

async fn spawn(plugin: &Path) -> Result<Child, VersionError> {
    let mut command = Command::new(plugin);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", "VERSION")
        .env("CNI_CONTAINERID", "dummy")
        .env("CNI_NETNS", "dummy")
        .env("CNI_IFNAME", "dummy")
        .env("CNI_PATH", "dummy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // What it starts is ended with it.
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
            _ => return Err(VersionError::Exec { source }),
        }
    }
}

async fn converse(child: &mut Child) -> io::Result<(std::process::ExitStatus, Vec<u8>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that answers without reading its configuration closes the pipe: no failure.
        let _ = stdin.write_all(br#"{"cniVersion":"1.1.0"}"#).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST_ANSWER).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?, output))
}
