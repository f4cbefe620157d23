//! A program of the cluster: started as a child, with a log of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::Machine;
use crate::namespace::find_program;
use crate::poll::until;

/// One of them, running.
pub(crate) struct Program {
    /// Of its log, without the extension.
    log_name: String,
    process: Child,
    log: PathBuf,
    /// Whether the process has the program as its only child, because that runs on a machine.
    is_parent: bool,
}

impl Program {
    /// Starts it beside the test; its log lies in `dir`, and goes on where there is one.
    pub(crate) fn start(dir: &Path, name: &str, args: &[String]) -> Self {
        Self::spawn(Command::new(found(name)).args(args), dir, name, false)
    }

    /// Starts it on a machine.
    pub(crate) fn start_on(machine: &Machine, dir: &Path, name: &str, args: &[String]) -> Self {
        let mut command = machine.command(&found(name));
        command.args(args);
        let log_name = format!("{name}-{}", machine.name());
        Self::spawn(&mut command, dir, &log_name, true)
    }

    fn spawn(command: &mut Command, dir: &Path, log_name: &str, is_parent: bool) -> Self {
        let log = dir.join(format!("{log_name}.log"));
        let output = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        let process = command
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self {
            log_name: log_name.to_owned(),
            process,
            log,
            is_parent,
        }
    }

    /// Fails with the end of its log where it has ended by itself.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!(
                "{} has ended ({status}):\n{}",
                self.log_name,
                self.log_tail()
            );
        }
    }

    /// The last lines of its log, for a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Kills it, as a machine that fails does.
    pub(crate) async fn kill(&mut self) {
        self.end(Signal::SIGKILL).await;
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.end(Signal::SIGTERM).await;
    }

    async fn end(&mut self, signal: Signal) {
        let what = format!("{} to have a process", self.log_name);
        let running = until(&what, async || {
            let process = self.process.id();
            match (self.process.try_wait().unwrap(), self.is_parent) {
                (Some(_), _) => Ok(None),
                (None, false) => Ok(Some(Pid::from_raw(process.try_into().unwrap()))),
                (None, true) => only_child(process).map(Some).ok_or("none yet".into()),
            }
        })
        .await;
        if let Some(pid) = running {
            // It may be ending by itself.
            let _ = kill(pid, signal);
            self.until_ended().await;
        }
    }

    /// Waits until it has ended, perhaps because its machine was switched off.
    pub(crate) async fn until_ended(&mut self) -> ExitStatus {
        until(&format!("{} to end", self.log_name), async || {
            self.process
                .try_wait()
                .unwrap()
                .ok_or_else(|| self.log_tail())
        })
        .await
    }
}

impl Drop for Program {
    /// Where a test fails, the reason may be in any of the logs.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}\n", self.log_name, self.log_tail());
        }
    }
}

/// The only child of a process.
pub(crate) fn only_child(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Some(Pid::from_raw(children.trim().parse().ok()?))
}

fn found(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| panic!("{name} is missing: scripts/peers brings it along"))
}
