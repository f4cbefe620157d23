//! `kubectl` and Helm, as an operator uses them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::namespace::find_program;
use crate::poll::until_within;

/// The namespace of all that belongs to the agent.
pub(crate) const NAMESPACE: &str = "cni-keeper";
/// For what takes several programs of a cluster to agree; reached only where something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// `kubectl` for one user.
pub(crate) struct Kubectl {
    config: PathBuf,
}

impl Kubectl {
    /// For the user of this kubeconfig.
    pub(crate) fn new(config: &Path) -> Self {
        Self {
            config: config.to_owned(),
        }
    }

    /// Runs Helm for the same user; the error says why it fails.
    pub(crate) fn helm(&self, args: &[&str]) -> Result<(), String> {
        let helm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/helm.py");
        // Debian's own python3: Debian's packages of modules belong to it.
        let output = Command::new("/usr/bin/python3")
            .arg(helm)
            .args(args)
            .arg("--kubeconfig")
            .arg(&self.config)
            .output()
            .unwrap();
        let message = || String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or_else(message)
    }

    /// What it prints, or what it says went wrong.
    pub(crate) fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(find_program("kubectl").unwrap())
            .arg("--kubeconfig")
            .arg(&self.config)
            .args(args)
            .output()
            .unwrap();
        let message = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(message(&output.stdout))
        } else {
            Err(message(&output.stderr))
        }
    }

    /// What it prints; fails unless it succeeds.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        match self.try_run(args) {
            Ok(text) => text,
            Err(error) => panic!("kubectl {}: {error}", args.join(" ")),
        }
    }

    /// Creates an object or brings it to what it should be.
    pub(crate) fn apply(&self, object: &Value) {
        let mut kubectl = Command::new(find_program("kubectl").unwrap())
            .arg("--kubeconfig")
            .arg(&self.config)
            .args(["apply", "--filename", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = kubectl.stdin.take().unwrap();
        write!(stdin, "{object}").unwrap();
        drop(stdin);
        assert!(kubectl.wait().unwrap().success(), "{object:#}");
    }

    /// An object, or a list.
    pub(crate) fn get(&self, args: &[&str]) -> Result<Value, String> {
        let args: Vec<&str> = ["get", "--output", "json"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let text = self.try_run(&args)?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// Waits until `judge` accepts an object; fails with the last reason that it gave.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        object: &[&str],
        judge: impl Fn(&Value) -> Result<T, String>,
    ) -> T {
        until_within(PATIENCE, what, async || judge(&self.get(object)?)).await
    }

    /// Waits for a pod of `namespace` to be ready and returns it.
    pub(crate) async fn until_pod_ready(&self, namespace: &str, name: &str) -> Value {
        let object = ["--namespace", namespace, "pod", name];
        self.until(&format!("pod {name}"), &object, |pod| {
            match condition(pod, "Ready") {
                Some(ready) if ready["status"] == "True" => Ok(pod.clone()),
                _ => Err(format!("{:#}", pod["status"])),
            }
        })
        .await
    }

    /// Waits for a pod whose node was switched off and on to run again, and returns it.
    pub(crate) async fn until_pod_restarted(&self, name: &str) -> Value {
        self.until(&format!("pod {name} to run again"), &["pod", name], |pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let is_new = container["restartCount"].as_u64() > Some(0);
            (is_new && container["ready"] == true)
                .then(|| pod.clone())
                .ok_or(pod["status"].to_string())
        })
        .await
    }

    /// Waits until every pod of the DaemonSet is the new one and ready.
    pub(crate) fn roll_out(&self) {
        let object = format!("daemonset/{NAMESPACE}");
        let kubectl = |args: &[&str]| self.try_run(&[&["--namespace", NAMESPACE], args].concat());
        if let Err(error) = kubectl(&["rollout", "status", "--timeout=120s", &object]) {
            panic!(
                "{error}\n{:?}\n{:?}",
                kubectl(&["describe", "daemonsets,pods"]),
                kubectl(&["logs", &object])
            );
        }
    }

    /// The page that a pod gets from an address.
    pub(crate) fn page(&self, pod: &str, address: &str) -> Result<String, String> {
        let url = format!("http://{address}/");
        self.try_run(&[
            "exec",
            pod,
            "--",
            "/bin/busybox",
            "wget",
            "-q",
            "-O",
            "-",
            &url,
        ])
    }

    /// Deletes and waits until it is gone.
    pub(crate) fn delete(&self, args: &[&str]) {
        let args: Vec<&str> = ["delete", "--wait", "--timeout=120s"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        self.run(&args);
    }
}

/// A condition of an object, by its type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}
