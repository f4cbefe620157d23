//! The running agent, as a node runs it: `cni-keeper run`, asked over its default address.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cgroup::MemoryGroup;
use crate::http::{Answer, get};
use crate::node::Node;
use crate::poll::until;

/// The default of `http.listen`: the node's own network namespace is private to the test.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9742);

/// A running `cni-keeper run`; killed when dropped.
pub(crate) struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts it over what is declared on `node`.
    pub(crate) fn start(node: &Node) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_cni-keeper")), node)
    }

    /// The same in a cgroup with a limit of its own for memory, in bytes.
    pub(crate) fn start_limited(node: &Node, group: &MemoryGroup) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
            .arg(group.procs())
            .arg(env!("CARGO_BIN_EXE_cni-keeper"));
        Self::spawn(command, node)
    }

    fn spawn(mut command: Command, node: &Node) -> Self {
        let log = node.dir().join("agent.log");
        let process = command
            .arg("--config")
            .arg(node.config())
            .arg("run")
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// What it answers to a GET of `path`.
    pub(crate) fn get(&self, path: &str) -> Answer {
        match get(ADDRESS, path) {
            Ok(answer) => answer,
            Err(error) => panic!("{path}: {error}\n{}", self.log()),
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn until_ready(&self) {
        until("the agent to be ready", async || match readiness() {
            Some(Answer { status: 200, .. }) => Ok(()),
            answer => Err(format!("{answer:?}\n{}", self.log())),
        })
        .await;
    }

    /// Waits until it is not ready for one reason alone, which begins like that, and returns the reason.
    pub(crate) async fn until_unready(&self, because: &str) -> String {
        until(because, async || match readiness() {
            Some(Answer { status: 503, body }) => match body.strip_suffix('\n') {
                Some(line) if line.starts_with(because) && !line.contains('\n') => {
                    Ok(line.to_owned())
                }
                _ => Err(body),
            },
            answer => Err(format!("{answer:?}\n{}", self.log())),
        })
        .await
    }

    /// The drift log, newest first, once all of it is over.
    pub(crate) fn drift(&self) -> Vec<Value> {
        let log: Value = serde_json::from_str(&self.get("/drift").body).unwrap();
        assert_eq!(log["open"], 0, "{log:#}");
        log["entries"].as_array().unwrap().clone()
    }

    /// The processor time that it has used, in the kernel's ticks of a hundredth of a second.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // Its name is in brackets, and what follows are the fields from the third on.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// Ends it as a kubelet does.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = until("the agent to end", async || {
            self.process.try_wait().unwrap().ok_or_else(|| self.log())
        })
        .await;
        assert!(status.success(), "{status}\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `/readyz` answers; `None` where nobody listens.
pub(crate) fn readiness() -> Option<Answer> {
    get(ADDRESS, "/readyz").ok()
}

/// What `/status` answers; `None` where nobody listens.
pub(crate) fn status() -> Option<Answer> {
    get(ADDRESS, "/status").ok()
}
