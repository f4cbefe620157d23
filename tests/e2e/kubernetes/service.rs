//! A Service, made by kube-proxy's rules.

use serde_json::json;

use super::cluster::Cluster;
use super::pod_traffic::{PINGED, create_server};
use crate::http::get;
use crate::poll::until;

impl Cluster {
    /// Every node and a pod on each, also the one that serves, gets a page by the address of a Service.
    pub(crate) async fn reach_service(&self) {
        let kubectl = &self.kubectl;
        kubectl.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": PINGED},
            "spec": {"selector": {"app": PINGED}, "ports": [{"port": 80}]},
        }));
        let service = kubectl.get(&["service", PINGED]).unwrap();
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        let socket = format!("{address}:80").parse().unwrap();
        let served = format!("{PINGED}\n");
        let visitors: Vec<String> = self
            .machines()
            .map(|machine| format!("visitor-of-{}", machine.name()))
            .collect();
        for (machine, visitor) in self.machines().zip(&visitors) {
            create_server(kubectl, visitor, Some(&machine.name()));
        }
        for (machine, visitor) in self.machines().zip(&visitors) {
            until("a node to reach the Service", async || {
                let answer = machine.in_network(|| get(socket, "/"));
                let page = answer.map_err(|error| error.to_string())?.body;
                (page == served).then_some(()).ok_or(page)
            })
            .await;
            kubectl.until_pod_ready("default", visitor).await;
            assert_eq!(kubectl.page(visitor, address), Ok(served.clone()));
        }
        assert_eq!(kubectl.page(PINGED, address), Ok(served));
        kubectl.delete(&["service", PINGED]);
        let visitors = visitors.iter().map(String::as_str);
        let visitors: Vec<&str> = ["--grace-period=1", "pod"]
            .into_iter()
            .chain(visitors)
            .collect();
        kubectl.delete(&visitors);
        self.tell("all nodes and their pods reach a Service");
    }
}
