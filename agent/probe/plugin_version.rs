//! Asks a plugin which versions of the CNI specification it supports (`CNI_COMMAND=VERSION`).

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

use crate::model::one_line;

/// How long a plugin may take to answer. The reference plugins need a few milliseconds.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an answer is read, in bytes. A real answer has about a hundred bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// How much of what a plugin printed is quoted, in bytes.
const MAX_QUOTE_BYTES: usize = 120;

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
    /// No answer in time.
    #[error("it did not answer VERSION within {} s", VERSION_TIMEOUT.as_secs())]
    TimedOut,
    /// The exit status is not 0.
    #[error("it answered VERSION with {status}{}", quote_output(output))]
    Failed {
        status: std::process::ExitStatus,
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
/// values for variables that old plugins demand, and a configuration on stdin.
///
/// # Errors
/// When the plugin cannot be run, does not answer in time, or answers something else.
pub async fn ask_version(plugin: &Path) -> Result<VersionAnswer, VersionError> {
    let mut child = spawn_plugin(plugin).await?;
    let answer = timeout(VERSION_TIMEOUT, read_answer(&mut child)).await;
    let (status, output) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(VersionError::Exec { source }),
        Err(_) => {
            kill_process_group(&mut child).await;
            return Err(VersionError::TimedOut);
        }
    };
    let output = String::from_utf8_lossy(&output).into_owned();
    if !status.success() {
        return Err(VersionError::Failed { status, output });
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

async fn spawn_plugin(plugin: &Path) -> Result<Child, VersionError> {
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
            _ => return Err(VersionError::Exec { source }),
        }
    }
}

async fn read_answer(child: &mut Child) -> io::Result<(std::process::ExitStatus, Vec<u8>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin may answer and close the pipe without reading its configuration. That is no failure.
        let _ = stdin.write_all(br#"{"cniVersion":"1.1.0"}"#).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(MAX_ANSWER_BYTES)
            .read_to_end(&mut output)
            .await?;
    }
    Ok((child.wait().await?, output))
}
