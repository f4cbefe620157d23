//! A node in a sandbox, and the real program on it.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::release::{Artifact, NETWORK, RELEASE};
use super::tree::Tree;

/// Where the files of a node are, below its root.
pub(crate) const BIN: &str = "opt/cni/bin";
pub(crate) const CONF: &str = "etc/cni/net.d";
pub(crate) const STATE: &str = "opt/cni/.cni-keeper";
pub(crate) const CONFLIST: &str = "etc/cni/net.d/10-pods.conflist";

/// No command may take longer. Only one that hangs does.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node's disk in a directory, with its mirror and its configuration beside it.
pub(crate) struct Node {
    base: PathBuf,
    _dir: Option<TempDir>,
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running command.
pub(crate) struct Running(Child);

impl Node {
    /// A machine on which nothing was ever installed.
    pub(crate) fn empty() -> Self {
        // Beside the build, where programs may be run, since plugins are run.
        let dir = tempfile::Builder::new()
            .prefix("node-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let node = Self::within(dir.path());
        Self {
            _dir: Some(dir),
            ..node
        }
    }

    /// The same in an empty directory that the caller removes.
    pub(crate) fn within(base: &Path) -> Self {
        for part in ["host", "mirror"] {
            fs::create_dir(base.join(part)).unwrap();
        }
        Self {
            base: base.to_owned(),
            _dir: None,
        }
    }

    /// An empty machine for which [`RELEASE`], on the local mirror, and [`NETWORK`] are declared.
    pub(crate) fn declared() -> Self {
        let node = Self::empty();
        node.declare_release();
        node
    }

    pub(crate) fn declare_release(&self) {
        let source = self.mirror("plugins.tgz", &RELEASE.bytes);
        self.declare(&RELEASE.artifact(&source), NETWORK);
    }

    /// The same with everything in place, and with the mirror gone.
    pub(crate) fn installed() -> Self {
        let node = Self::declared();
        node.run("install").exits(0);
        node.remove_mirror();
        node
    }

    /// Writes the declaration.
    pub(crate) fn declare(&self, artifact: &Artifact, rest: &str) {
        self.declare_text(&format!("{artifact}{rest}"));
    }

    /// Writes the declaration, all but its first two lines.
    pub(crate) fn declare_text(&self, text: &str) {
        let head = "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\n";
        fs::write(self.config(), format!("{head}{text}")).unwrap();
    }

    /// Declares that the endpoint listens on a free port, unless the configuration has a section `http`.
    pub(crate) fn listen_anywhere(&self) {
        let text = fs::read_to_string(self.config()).unwrap();
        if !text.contains("\nhttp:") {
            self.declare_more("http: {listen: \"127.0.0.1:0\"}\n");
        }
    }

    /// Adds to the configuration, in one step, as an operator must do it.
    pub(crate) fn declare_more(&self, more: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        self.redeclare(&format!("{text}{more}"));
    }

    /// Replaces the whole text of the configuration in one step.
    pub(crate) fn redeclare(&self, text: &str) {
        let new = self.config().with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.base.join("config.yaml")
    }

    /// Puts a file on the local mirror and returns its URL.
    pub(crate) fn mirror(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.base.join("mirror").join(name);
        fs::write(&path, bytes).unwrap();
        format!("file://{}", path.display())
    }

    pub(crate) fn remove_mirror(&self) {
        fs::remove_dir_all(self.base.join("mirror")).unwrap();
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.base.join("host")
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside)
    }

    /// The path as the program prints it.
    pub(crate) fn shown(&self, inside: &str) -> String {
        self.path(inside).display().to_string()
    }

    /// Writes a file on the node's disk, as another program would.
    pub(crate) fn write(&self, inside: &str, content: &[u8], mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn read(&self, inside: &str) -> Vec<u8> {
        fs::read(self.path(inside)).unwrap()
    }

    pub(crate) fn has(&self, inside: &str) -> bool {
        fs::symlink_metadata(self.path(inside)).is_ok()
    }

    /// The names in a directory of the node, sorted.
    pub(crate) fn names(&self, inside: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(inside)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What the runtime sees: everything except our own state.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(&self.root(), |path| path == STATE)
    }

    /// Everything including our own state, except the lock, which each run takes again.
    pub(crate) fn whole_tree(&self) -> Tree {
        let lock = format!("{STATE}/lock");
        Tree::of(&self.root(), |path| path == lock)
    }

    /// The program with an environment that has this node and nothing else.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cni-keeper"));
        command
            .args(arguments.split_whitespace())
            .env_clear()
            .env("CNI_KEEPER_CONFIG", self.config())
            .env("CNI_KEEPER_HOST_ROOT", self.root());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Outcome {
        start(&mut self.command(arguments)).end()
    }
}

/// A command that `wrapper` runs, with the command's own environment and nothing else.
pub(crate) fn behind(mut wrapper: Command, command: &Command) -> Command {
    let envs = command.get_envs();
    wrapper
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(envs.filter_map(|(name, value)| Some((name, value?))));
    wrapper
}

/// Starts a command and collects what it prints.
pub(crate) fn start(command: &mut Command) -> Running {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Running(child.unwrap())
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(self) -> Outcome {
        let pid = self.pid();
        let (done, ended) = channel();
        thread::spawn(move || done.send(self.0.wait_with_output()));
        match ended.recv_timeout(DEADLINE) {
            Ok(output) => Outcome::from(output.unwrap()),
            Err(_) => {
                let _ = kill(pid, Signal::SIGKILL);
                panic!("no end after {} s", DEADLINE.as_secs());
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// Fails with the whole output unless it ended with this code.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless this text is somewhere on stdout or stderr.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(
            self.to_string().contains(text),
            "not in the output: {text}\n{self}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn does_not_say(&self, text: &str) -> &Self {
        assert!(
            !self.to_string().contains(text),
            "in the output: {text}\n{self}"
        );
        self
    }

    /// Fails unless stdout has a line with this word, this path and this rest.
    #[track_caller]
    pub(crate) fn row(&self, word: &str, path: &str, rest: &str) -> &Self {
        let line = format!("{word} {path}  {rest}");
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = self
            .stdout
            .lines()
            .any(|had| squeezed(had).starts_with(&squeezed(&line)));
        assert!(found, "no line: {line}\n{self}");
        self
    }

    /// The JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// The lines of stderr that are for people, without those of the log.
    pub(crate) fn errors(&self) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines
            .filter_map(|line| line.strip_prefix("error: "))
            .collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "--- exit {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
