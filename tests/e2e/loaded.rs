//! What containerd has loaded, in its own words: read apart from the agent's own reading of them.

use serde_json::Value;

use crate::cri::{Cri, RuntimeCondition, StatusRequest};
use crate::node::NETWORK;

/// A verbose CRI Status, as far as it is about the network of pods.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// `NetworkReady`.
    pub(crate) condition: RuntimeCondition,
    /// The network that pods get, if any: the first of those that are loaded.
    pub(crate) network: Option<String>,
    /// How many are loaded.
    pub(crate) networks: usize,
    /// Where plugins are looked for.
    pub(crate) bin_dirs: Vec<String>,
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
        let networks: Vec<String> = config["Networks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|network| network["IFName"] != "lo")
            .map(|network| network["Config"]["Name"].as_str().unwrap().to_owned())
            .collect();
        let bin_dirs = config["PluginDirs"].as_array().into_iter().flatten();
        Ok(Self {
            condition: conditions
                .find(|condition| condition.kind == "NetworkReady")
                .unwrap(),
            network: networks.first().cloned(),
            networks: networks.len(),
            bin_dirs: bin_dirs
                .map(|dir| dir.as_str().unwrap().to_owned())
                .collect(),
            last: answer.info.remove("lastCNILoadStatus").unwrap(),
        })
    }

    /// Whether pods get the declared network as far as it can tell. It does not look at plugins.
    pub(crate) fn is_ours(&self) -> bool {
        self.condition.status && self.network.as_deref() == Some(NETWORK) && self.last == "OK"
    }
}
