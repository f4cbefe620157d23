//! An API server with what an agent needs: one node, a token, and the answers that a test sets.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::node::Node;
use super::server::{Reply, Request, Server};
use super::tls::Authority;

/// The name of the node in all of these tests.
pub(crate) const NAME: &str = "worker-1";
/// Its object.
pub(crate) const NODE: &str = "/api/v1/nodes/worker-1";
/// Its status.
pub(crate) const STATUS: &str = "/api/v1/nodes/worker-1/status";
/// Where Events are made.
pub(crate) const EVENTS: &str = "/api/v1/namespaces/default/events";

/// A secret: it must appear in no log and in no view.
pub(crate) const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.secret-of-the-serviceaccount.sig";

/// A network whose range comes from the node's object.
pub(crate) const NETWORK: &str = "\
network:
  fileName: 10-pods.conflist
  facts: [{kubernetes: node}]
  conflist:
    cniVersion: 1.0.0
    name: pod-network
    plugins:
      - type: bridge
        bridge: cni0
        ipam: {type: host-local, ranges: [[{subnet: \"${node.podCIDR}\"}]]}
";

/// A listening API server, and the files by which an agent finds it.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    dir: PathBuf,
}

impl Cluster {
    /// A server on loopback for the agent on this node, which has its token and its authority beside its declaration.
    pub(crate) fn of(node: &Node) -> Self {
        Self::at("127.0.0.1:0", node)
    }

    /// The same on another address.
    pub(crate) fn at(address: &str, node: &Node) -> Self {
        let authority = Authority::new();
        let tls = authority.server(&["127.0.0.1", "::1"]);
        let cluster = Self {
            server: Server::https_at(address, tls),
            dir: node.config().parent().unwrap().to_owned(),
        };
        fs::write(cluster.ca_file(), authority.pem()).unwrap();
        cluster.replace_token(TOKEN);
        cluster
    }

    /// Replaces the token as kubelet does: in one step.
    pub(crate) fn replace_token(&self, token: &str) {
        let new = self.dir.join("token.new");
        fs::write(&new, token).unwrap();
        fs::rename(new, self.dir.join("token")).unwrap();
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The section `kubernetes` of a configuration for this server.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "kubernetes: {{server: \"{}\", caFile: {}, tokenFile: {}{more}}}\n",
            self.url(),
            self.ca_file().display(),
            self.dir.join("token").display(),
        )
    }

    /// Its address, as an operator writes it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// Sets the node's object from now on.
    pub(crate) fn set_node(&self, node: &Value) {
        self.server
            .on(NODE, [Reply::ok(node.to_string().as_bytes())]);
    }

    /// Makes every kind of change succeed.
    pub(crate) fn accept_changes(&self) {
        for path in [STATUS, EVENTS] {
            self.server.on(path, [Reply::ok(b"{}")]);
        }
    }

    /// The bodies that were sent to a path by this method, in order.
    pub(crate) fn bodies(&self, method: &str, path: &str) -> Vec<Value> {
        let requests = self.server.requests().into_iter();
        requests
            .filter(|request: &Request| request.method == method && request.path == path)
            .map(|request| serde_json::from_slice(&request.body).unwrap())
            .collect()
    }
}

/// A node with this range, or with none.
pub(crate) fn node_with(cidr: Option<&str>) -> Value {
    let mut node = json!({
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": NAME, "resourceVersion": "7", "labels": {"rack": "r1"}},
        "spec": {"providerID": "x"},
        "status": {"conditions": [{"type": "Ready", "status": "False"}], "images": []},
    });
    if let Some(cidr) = cidr {
        node["spec"]["podCIDR"] = cidr.into();
        node["spec"]["podCIDRs"] = json!([cidr]);
    }
    node
}

/// The program as it runs in a pod of that node.
pub(crate) fn in_cluster(node: &Node, arguments: &str) -> Command {
    let mut command = node.command(arguments);
    command.env("CNI_KEEPER_NODE_NAME", NAME);
    command
}
