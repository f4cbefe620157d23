//! A running agent from outside: its endpoint, and what the kernel reports of its process.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before it counts as broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the agent must not have run to count as idle.
const CALM: Duration = Duration::from_millis(15);

/// What to run, and where.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The agent's program.
    pub(super) keeper: PathBuf,
    /// Its configuration; it says `listen: 127.0.0.1:0`.
    pub(super) config: PathBuf,
    /// The node's root.
    pub(super) root: PathBuf,
}

/// A running agent; stopped when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    address: String,
    /// When it was started.
    pub(super) since: Instant,
}

/// What the kernel has counted for a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Time on a processor, in user and kernel mode.
    pub(super) cpu: Duration,
    /// How often one of its threads was given a processor after it had waited for something.
    pub(super) wakeups: u64,
}

impl Node {
    /// A path below the node's root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Starts the agent and waits until it listens.
    pub(super) fn start(&self) -> io::Result<Running> {
        let since = Instant::now();
        let mut child = Command::new(&self.keeper)
            .arg("--config")
            .arg(&self.config)
            .arg("--host-root")
            .arg(&self.root)
            // What a pod has: no terminal, so it logs every repair.
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(
            child
                .stderr
                .take()
                .ok_or_else(|| io::Error::other("no stderr"))?,
        );
        let mut line = String::new();
        let address = loop {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                let status = child.wait()?;
                return Err(io::Error::other(format!("the agent ended: {status}")));
            }
            if let Some((_, rest)) = line.split_once("address=") {
                break rest
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
            }
        };
        // Read to its end, so that the agent never waits for us.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Ok(Running {
            child,
            address,
            since,
        })
    }

    /// Starts the agent and waits until it is ready and has nothing left to do.
    pub(super) fn start_and_settle(&self) -> io::Result<Running> {
        let running = self.start()?;
        running.wait_until_ready()?;
        running.wait_until_idle()?;
        Ok(running)
    }
}

impl Running {
    /// Waits for the first 200 of `/readyz`; returns the time from the start of the process until then.
    pub(super) fn wait_until_ready(&self) -> io::Result<Duration> {
        loop {
            let (code, body) = self.get("/readyz")?;
            let took = self.since.elapsed();
            if code == 200 {
                return Ok(took);
            }
            if took > PATIENCE {
                return Err(io::Error::other(format!("not ready: {body}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until none of its threads has run for a moment, and none wants to.
    pub(super) fn wait_until_idle(&self) -> io::Result<()> {
        let began = Instant::now();
        let (mut last, mut since) = (self.usage()?.cpu, Instant::now());
        while since.elapsed() < CALM {
            thread::sleep(Duration::from_millis(3));
            let now = self.usage()?.cpu;
            if now != last || !self.sleeps()? {
                (last, since) = (now, Instant::now());
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the agent does not come to rest"));
            }
        }
        Ok(())
    }

    /// One answer of the endpoint: its code and body.
    pub(super) fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = &self.address;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((code.unwrap_or_default(), body.to_owned()))
    }

    /// One of the endpoint's JSON documents.
    pub(super) fn json(&self, path: &str) -> io::Result<Value> {
        Ok(serde_json::from_str(&self.get(path)?.1)?)
    }

    /// How long each repair took by the agent's own account, from the first event to the durable repair.
    pub(super) fn repairs(&self) -> io::Result<Vec<Duration>> {
        let drift = self.json("/drift")?;
        let entries = drift["entries"].as_array().into_iter().flatten();
        let seconds = entries.filter_map(|entry| entry["outcome"]["seconds"].as_f64());
        Ok(seconds.map(Duration::from_secs_f64).collect())
    }

    /// A line of `/proc/PID/status`, in KiB.
    pub(super) fn memory(&self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(self.proc().join("status"))?;
        Ok(number(&status, name))
    }

    /// What its threads have used so far.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage {
            cpu: Duration::ZERO,
            wakeups: 0,
        };
        for task in self.tasks()? {
            // A thread may end meanwhile.
            let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
            let nanos = read("schedstat")
                .split(' ')
                .next()
                .and_then(|it| it.parse().ok());
            usage.cpu += Duration::from_nanos(nanos.unwrap_or_default());
            let status = read("status");
            usage.wakeups += number(&status, "voluntary_ctxt_switches");
            usage.wakeups += number(&status, "nonvoluntary_ctxt_switches");
        }
        Ok(usage)
    }

    /// Whether all of its threads wait for something to happen: neither for a processor nor for the disk.
    fn sleeps(&self) -> io::Result<bool> {
        Ok(self.tasks()?.iter().all(|task| {
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with('S'))
        }))
    }

    fn tasks(&self) -> io::Result<Vec<PathBuf>> {
        let tasks = fs::read_dir(self.proc().join("task"))?;
        Ok(tasks.flatten().map(|task| task.path()).collect())
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed: what is in place stays, and nothing is measured afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a name in a file of `/proc`.
fn number(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
