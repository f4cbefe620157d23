//! A running agent, asked over its own endpoint, as everybody asks it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::node::{Node, behind};

/// The longest wait. Even on a slow machine, only what never happens takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

/// `cni-keeper run` on a node. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// An answer of the endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Agent {
    /// Starts it and waits until it listens; it need not be ready by then. If the configuration says nothing about
    /// the endpoint, it gets a free port.
    pub(crate) fn start(node: &Node) -> Self {
        node.listen_anywhere();
        Self::spawn(&mut node.command("run"))
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn ready(node: &Node) -> Self {
        let agent = Self::start(node);
        agent.becomes_ready();
        agent
    }

    /// Starts it without one of root's capabilities, by its name in setpriv(1).
    pub(crate) fn without_capability(node: &Node, capability: &str) -> Self {
        node.listen_anywhere();
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", &format!("-{capability}")]);
        Self::spawn(&mut behind(setpriv, &node.command("run")))
    }

    /// Starts a command that ends up as the agent, and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .env("CNI_KEEPER_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (listens, address) = channel();
        let reader = {
            let log = Arc::clone(&log);
            thread::spawn(move || collect(stderr, &log, &listens))
        };
        let Ok(address) = address.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            let status = child.wait();
            let message = log.lock().unwrap();
            panic!("it does not listen ({status:?}); its output:\n{message}");
        };
        Self {
            child,
            address,
            log,
            reader: Some(reader),
        }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Does something while the agent is stopped. A signal takes a moment to arrive, so this first waits until every
    /// thread stands still.
    pub(crate) fn while_stopped<T>(&self, deed: impl FnOnce() -> T) -> T {
        self.signal(Signal::SIGSTOP);
        self.until_without_asking("stopped", || self.is_stopped());
        let done = deed();
        self.signal(Signal::SIGCONT);
        done
    }

    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let mut stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
        // One that ends meanwhile has not stopped.
        stats.all(|stat| stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T')))
    }

    /// The whole log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks for a path and expects an answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        match get(self.address, path) {
            Ok(answer) => answer,
            Err(error) => panic!("GET {path}: {error}\n--- log\n{}", self.log()),
        }
    }

    /// Asks for a JSON document.
    #[track_caller]
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The entries of `/drift`, newest first, as of the latest observation. To force a new one, ask `/readyz` before.
    #[track_caller]
    pub(crate) fn drift(&self) -> Vec<Value> {
        self.json("/drift")["entries"].as_array().unwrap().clone()
    }

    /// How often it has observed the disk, including the observation for this answer.
    #[track_caller]
    pub(crate) fn passes(&self) -> u64 {
        self.json("/status")["passes"].as_u64().unwrap()
    }

    /// The value of a metric, by its name with labels as in the text of `/metrics`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let value = lines.find(|(had, _)| *had == name).map(|(_, value)| value);
        let value = value.unwrap_or_else(|| panic!("no {name} in\n{text}"));
        value.parse().unwrap()
    }

    /// How many artifacts it has downloaded.
    #[track_caller]
    pub(crate) fn downloads(&self) -> f64 {
        self.metric("cni_keeper_downloads_total{result=\"ok\",reason=\"\"}")
    }

    /// Asks now whether it is ready.
    #[track_caller]
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").status == 200
    }

    /// Waits until it is ready.
    #[track_caller]
    pub(crate) fn becomes_ready(&self) {
        self.until("ready", Self::is_ready);
    }

    /// Waits until `/readyz` answers 503 with this reason as a part of its text.
    #[track_caller]
    pub(crate) fn becomes_unready(&self, reason: &str) {
        self.until(&format!("not ready: {reason}"), |agent| {
            let answer = agent.get("/readyz");
            answer.status == 503 && answer.body.contains(reason)
        });
    }

    /// Asks the agent again and again, until the condition holds. The agent limits how often it answers.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.find(what, |agent| holds(agent).then_some(()));
    }

    /// Asks the agent again and again, until it has what is looked for.
    #[track_caller]
    pub(crate) fn find<T>(&self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(found) = find(self) {
                return found;
            }
        }
        self.fail(&format!("never {what}"));
    }

    /// Fails with all that the agent says.
    #[track_caller]
    pub(crate) fn fail(&self, what: &str) -> ! {
        let mut reported = String::new();
        for path in ["/readyz?verbose", "/drift"] {
            let body = get(self.address, path).map(|answer| answer.body);
            writeln!(reported, "--- {path}\n{body:?}").unwrap();
        }
        panic!("{what}\n{reported}--- log\n{}", self.log());
    }

    /// Sends SIGTERM, and checks that it ends by itself with code 0. Returns the whole log.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{status}\n{log}");
        log
    }

    /// Waits until it ends by itself. Returns its exit code and the whole log.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let status = self.ended();
        (status.code(), self.log())
    }

    /// Kills it as the kernel does when memory runs out.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// Waits for its end, and for the end of its log.
    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let (done, ended) = channel();
        let reader = self.reader.take().unwrap();
        // The log ends with the process.
        thread::spawn(move || done.send(reader.join()));
        if ended.recv_timeout(DEADLINE).is_err() {
            self.fail("no end");
        }
        self.child.wait().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already. Waiting for it leaves no zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("--- log of the agent\n{}", self.log());
        }
    }
}

/// Asks an endpoint for a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    ask(address, &request)
}

/// Sends a request to an endpoint, byte for byte, and returns the answer.
pub(crate) fn ask(address: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut message = String::new();
    stream.read_to_string(&mut message)?;
    let (head, body) = message.split_once("\r\n\r\n").unwrap_or((&message, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {message:?}")))?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

/// Reads the log to its end, and sends the address that it finds there.
fn collect(stderr: ChildStderr, log: &Mutex<String>, listens: &Sender<SocketAddr>) {
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { return };
        writeln!(log.lock().unwrap(), "{line}").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "listening"
            && let Some(address) = event["address"].as_str()
        {
            // Nobody waits for the address a second time.
            let _ = listens.send(address.parse().unwrap());
        }
    }
}
