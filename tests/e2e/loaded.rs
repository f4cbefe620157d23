//! What containerd has loaded, in its own words: read apart from the agent's own reading of them.

use serde_json::Value;

use crate::cri::{Cri, RuntimeCondition, StatusRequest};
use crate::node::NETWORK;

/// A verbose CRI Status, as far as it is about the network of pods.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// `NetworkReady`.
    pub(crate) condition: RuntimeCondition,
    /// The network that pods get, if any.
    pub(crate) network: Option<String>,
    /// `OK`, or why the last load failed.
    pub(crate) last: String,
}

impl Loaded {
    /// Asks for it.
    pub(crate) async fn ask(cri: &Cri) -> Result<Self, tonic::Status> {
        let mut answer = cri.status(StatusRequest { verbose: true }).await?;
        let mut conditions = answer.status.unwrap().conditions.into_iter();
        let config: Value = serde_json::from_str(&answer.info["cniconfig"]).unwrap();
        // The loopback network is there in any case.
        let network = config["Networks"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|network| network["IFName"] == "eth0")
            .map(|network| network["Config"]["Name"].as_str().unwrap().to_owned());
        Ok(Self {
            condition: conditions
                .find(|condition| condition.kind == "NetworkReady")
                .unwrap(),
            network,
            last: answer.info.remove("lastCNILoadStatus").unwrap(),
        })
    }

    /// Whether pods get the declared network as far as it can tell. It does not look at plugins.
    pub(crate) fn is_ours(&self) -> bool {
        self.condition.status && self.network.as_deref() == Some(NETWORK) && self.last == "OK"
    }
}
