//! containerd with a configuration of its own, started and stopped as a child.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::archive::{IMAGE, busybox_image};
use crate::cri::Cri;
use crate::namespace::{find_program, run};
use crate::poll::until;

/// Where it serves the CRI.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Debian's default looks for plugins in `/usr/lib/cni`; a node's looks where the agent installs.
///
/// The log is at `debug` for the lines about the configuration directory. `restrict_oom_score_adj` lets runc
/// run without CAP_SYS_RESOURCE; AppArmor is off because its profile would outlive the test in the kernel.
const CONFIG: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[debug]
  level = "debug"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "/etc/cni/net.d"
"#;

/// Where it looks for plugins, as a setting about CNI that every version knows.
pub(crate) const BIN_DIR_SETTING: &str = "    bin_dir = \"/opt/cni/bin\"\n";

/// A running containerd.
pub(crate) struct Containerd {
    process: Child,
    log: PathBuf,
}

impl Containerd {
    /// Starts it with such settings about CNI, waits until its CRI answers, and gives it the one image.
    pub(crate) async fn start(dir: &Path, cni: &str) -> (Self, Cri) {
        let config = dir.join("containerd.toml");
        fs::write(&config, CONFIG.replace("IMAGE", IMAGE) + cni).unwrap();
        let log = dir.join("containerd.log");
        let output = File::create(&log).unwrap();
        let process = Command::new(find_program("containerd").unwrap())
            .arg("--config")
            .arg(&config)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut containerd = Self { process, log };
        let cri = until("containerd's CRI to answer", async || {
            containerd.assert_running();
            let cri = Cri::connect(Path::new(SOCKET))
                .await
                .map_err(|error| error.to_string())?;
            match cri.status(Default::default()).await {
                Ok(_) => Ok(cri),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        let image = dir.join("image.tar");
        let busybox = find_program("busybox").unwrap();
        fs::write(&image, busybox_image(&busybox)).unwrap();
        run(
            "ctr",
            &[
                "--address",
                SOCKET,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                image.to_str().unwrap(),
            ],
        );
        (containerd, cri)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Its process is the one that was started; fails with the end of its log where it has exited.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("containerd has exited ({status}):\n{}", self.log_tail());
        }
    }

    /// The changes in the configuration directory that made it load the network anew, in order.
    ///
    /// It logs one line for each event that it acts on; the ones that it ignores have another text.
    pub(crate) fn reloads(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines()
            .filter_map(|line| line.split_once("receiving change event from cni conf dir: "))
            .map(|(_, event)| event.to_owned())
            .collect()
    }

    /// The last lines of its log, for a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        until("containerd to end", async || {
            match self.process.try_wait().unwrap() {
                Some(_) => Ok(()),
                None => Err("it still runs".to_owned()),
            }
        })
        .await;
    }
}
