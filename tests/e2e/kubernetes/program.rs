//! A program of the cluster: started as a child, with a log of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::find_program;
use crate::poll::until;

/// One of them, running.
pub(crate) struct Program {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; its log lies in `dir`, and goes on where there is one.
    pub(crate) fn start(dir: &Path, name: &str, args: &[String]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        let Some(program) = find_program(name) else {
            panic!("{name} is missing: scripts/e2e-kubernetes brings it along");
        };
        let process = Command::new(program)
            .args(args)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self {
            name: name.to_owned(),
            process,
            log,
        }
    }

    /// Fails with the end of its log where it has ended by itself.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("{} has ended ({status}):\n{}", self.name, self.log_tail());
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
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        until(&format!("{} to end", self.name), async || {
            match self.process.try_wait().unwrap() {
                Some(_) => Ok(()),
                None => Err(self.log_tail()),
            }
        })
        .await;
    }
}

impl Drop for Program {
    /// Where a test fails, the reason may be in any of the logs.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}\n", self.name, self.log_tail());
        }
    }
}
