//! The agent as the kubelet runs it: what it is, and what it costs.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;
use serde_json::Value;

use super::machine::Machine;
use crate::agent::{readiness, status};
use crate::http::Answer;
use crate::poll::until;

/// How its command line begins.
const COMMAND: &str = "/cni-keeper\0run\0";

/// What the container of the agent has used since it was started.
#[derive(Debug)]
pub(crate) struct Cost {
    /// The most memory, with the pages of files, which the kernel takes back at the limit.
    pub(crate) memory: u64,
    /// The limit of that.
    pub(crate) limit: u64,
    /// How often something in it was killed because the kernel could take back no more.
    pub(crate) killed: u64,
    /// In nanoseconds.
    pub(crate) cpu: u64,
    /// How often it had to wait for its next share of the processor.
    pub(crate) throttled: u64,
}

/// The agent that runs on a machine; fails unless there is one and no other.
pub(crate) fn agent(machine: &Machine) -> Result<Pid, String> {
    process(machine, COMMAND)
}

/// The process on a machine's own network whose command line begins like that; fails unless there is exactly one.
pub(crate) fn process(machine: &Machine, command: &str) -> Result<Pid, String> {
    let network = machine.network();
    let is_it = |pid: &i32| {
        let process = Path::new("/proc").join(pid.to_string());
        fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(command.as_bytes()))
            && fs::read_link(process.join("ns/net")).is_ok_and(|seen| seen == network)
    };
    let running: Vec<Pid> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(is_it)
        .map(Pid::from_raw)
        .collect();
    match running[..] {
        [pid] => Ok(pid),
        _ => Err(format!("{}: {running:?} are running", machine.name())),
    }
}

/// Waits for one that was not there `before`.
pub(crate) async fn until_another(machine: &Machine, before: Pid) -> Pid {
    until("another agent to run", async || match agent(machine)? {
        same if same == before => Err("it is the same".to_owned()),
        other => Ok(other),
    })
    .await
}

/// Waits until none runs.
pub(crate) async fn until_gone(machine: &Machine) {
    until("the agent to be gone", async || match agent(machine) {
        Ok(agent) => Err(format!("{}: {agent}", machine.name())),
        Err(_) => Ok(()),
    })
    .await;
}

/// Waits until it is ready.
pub(crate) async fn until_ready(machine: &Machine) {
    until("the agent to be ready", async || {
        match machine.in_network(readiness) {
            Some(Answer { status: 200, .. }) => Ok(()),
            answer => Err(format!("{}: {answer:?}", machine.name())),
        }
    })
    .await;
}

/// Waits until it is not ready for one reason alone, which begins like that, and returns the reason.
pub(crate) async fn until_unready(machine: &Machine, because: &str) -> String {
    until(because, async || match machine.in_network(readiness) {
        Some(Answer { status: 503, body }) if body.starts_with(because) => Ok(body),
        answer => Err(format!("{}: {answer:?}", machine.name())),
    })
    .await
}

/// Waits until a full reading every so many seconds is what is declared.
pub(crate) async fn until_resync(machine: &Machine, seconds: u64) {
    until("the configuration to be in force", async || {
        let status = machine.in_network(status).ok_or("no answer")?;
        let status: Value =
            serde_json::from_str(&status.body).map_err(|error| error.to_string())?;
        let declared = &status["declared"]["resyncSeconds"];
        (*declared == seconds)
            .then_some(())
            .ok_or_else(|| declared.to_string())
    })
    .await;
}

/// What it has cost.
pub(crate) fn cost(agent: Pid) -> Cost {
    let groups = fs::read_to_string(format!("/proc/{agent}/cgroup")).unwrap();
    let root = Path::new("/sys/fs/cgroup");
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            controllers
                .split(',')
                .any(|name| name == controller)
                .then(|| root.join(controllers).join(&path[1..]))
        })
    };
    let number = |text: String| text.trim().parse().unwrap();
    let field = |text: String, name: &str| {
        let mut lines = text.lines().map(|line| line.split_once(' ').unwrap());
        let found = lines.find(|(key, _)| *key == name);
        found.map_or(0, |(_, value)| value.parse::<u64>().unwrap())
    };
    let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).unwrap();
    match (of("memory"), of("cpuacct"), of("cpu")) {
        (Some(memory), Some(cpuacct), Some(cpu)) => Cost {
            memory: number(read(&memory, "memory.max_usage_in_bytes")),
            limit: number(read(&memory, "memory.limit_in_bytes")),
            killed: field(read(&memory, "memory.oom_control"), "oom_kill"),
            cpu: number(read(&cpuacct, "cpuacct.usage")),
            throttled: field(read(&cpu, "cpu.stat"), "nr_throttled"),
        },
        _ => {
            let one = of("").unwrap();
            Cost {
                memory: number(read(&one, "memory.peak")),
                limit: number(read(&one, "memory.max")),
                killed: field(read(&one, "memory.events"), "oom_kill"),
                cpu: field(read(&one, "cpu.stat"), "usage_usec") * 1000,
                throttled: field(read(&one, "cpu.stat"), "nr_throttled"),
            }
        }
    }
}
