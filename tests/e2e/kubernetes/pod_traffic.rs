//! Two pods as a deployment makes them: one pings the other and gets its page, without a pause.

use serde_json::{Value, json};

use super::kubectl::Kubectl;
use crate::archive::IMAGE;
use crate::poll::until;

/// The pod that serves.
pub(crate) const PINGED: &str = "pinged";
const PINGING: &str = "pinging";

/// Traffic between two pods.
pub(crate) struct PodTraffic;

impl PodTraffic {
    /// Starts the traffic between two nodes. The kubelets keep every line that the pods print.
    pub(crate) async fn start(kubectl: &Kubectl, from: &str, to: &str) -> Self {
        create_server(kubectl, PINGED, Some(to));
        let pinged = kubectl.until_pod_ready("default", PINGED).await;
        let ip = pinged["status"]["podIP"].as_str().unwrap();
        let page = format!("/bin/busybox wget -q -O - http://{ip}/");
        let pages = format!(
            "while true; do
               if [ \"$({page})\" = {PINGED} ]; then echo got; else echo lost; fi
               /bin/busybox sleep 0.05
             done"
        );
        let ping = format!("exec /bin/busybox ping -i 0.05 {ip}");
        create(
            kubectl,
            PINGING,
            &[container("ping", &ping), container("pages", &pages)],
            Some(from),
        );
        kubectl.until_pod_ready("default", PINGING).await;
        let talk = Self;
        talk.assert_uninterrupted(kubectl).await;
        talk
    }

    /// Waits for more traffic, checks that nothing was lost since it began, and returns how much there was.
    pub(crate) async fn assert_uninterrupted(&self, kubectl: &Kubectl) -> String {
        let (pings, pages) = (
            message(kubectl, "ping").len(),
            message(kubectl, "pages").len(),
        );
        let (pings, pages) = until("two pods to go on talking", async || {
            let (pings_now, pages_now) = (message(kubectl, "ping"), message(kubectl, "pages"));
            // The first line of ping is a heading.
            if pings_now.len() > pings + 1 && pages_now.len() > pages {
                Ok((pings_now, pages_now))
            } else {
                Err(format!("{:?} {:?}", pings_now.last(), pages_now.last()))
            }
        })
        .await;
        let answered: Vec<usize> = pings
            .iter()
            .filter_map(|line| line.split_once("seq="))
            .map(|(_, rest)| rest.split(' ').next().unwrap().parse().unwrap())
            .collect();
        let sent = 0..=answered[answered.len() - 1];
        let lost: Vec<usize> = sent.filter(|number| !answered.contains(number)).collect();
        assert!(lost.is_empty(), "of {} packets: {lost:?}", answered.len());
        let lost: Vec<&String> = pages.iter().filter(|line| *line != "got").collect();
        assert!(lost.is_empty(), "of {} pages: {lost:#?}", pages.len());
        format!(
            "{} packets and {} pages, none lost",
            answered.len(),
            pages.len()
        )
    }

    /// Removes both.
    pub(crate) fn end(self, kubectl: &Kubectl) {
        kubectl.delete(&["--grace-period=1", "pod", PINGED, PINGING]);
    }
}

/// Runs a pod that serves its name on port 80, where the scheduler puts it, and returns it once it is ready.
pub(crate) async fn run_pod(kubectl: &Kubectl, name: &str) -> Value {
    create_server(kubectl, name, None);
    kubectl.until_pod_ready("default", name).await
}

/// Runs one on that node.
pub(crate) async fn run_pod_on(kubectl: &Kubectl, name: &str, node: &str) -> Value {
    create_server(kubectl, name, Some(node));
    kubectl.until_pod_ready("default", name).await
}

/// Creates such a pod, on that node or where the scheduler puts it, and does not wait.
pub(crate) fn create_server(kubectl: &Kubectl, name: &str, node: Option<&str>) {
    let serve = format!("echo {name} >/tmp/index.html; exec /bin/busybox httpd -f -p 80 -h /tmp");
    create(kubectl, name, &[container("serve", &serve)], node);
}

/// Without a node, the scheduler chooses.
fn create(kubectl: &Kubectl, name: &str, containers: &[Value], node: Option<&str>) {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "containers": containers,
            "automountServiceAccountToken": false,
        },
    });
    kubectl.apply(&pod);
}

fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sh", "-c", script],
    })
}

/// The whole lines that a container has written.
fn message(kubectl: &Kubectl, container: &str) -> Vec<String> {
    let text = kubectl.try_run(&["logs", PINGING, container]);
    let text = text.unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}
