//! The messages of the CRI `Status` call (`runtime.v1`), and the JSON that containerd puts into them.
//!
//! The messages are written by hand with the fields that are used. Names and numbers are those of the CRI's `api.proto`;
//! every other field is skipped.

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;
use serde::Deserialize;

use crate::model::one_line;

/// How much of one of the runtime's own texts is kept, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 300;

/// The interface of a pod's loopback network, which containerd loads by itself.
const LOOPBACK_INTERFACE: &str = "lo";

/// What a runtime reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriStatus {
    /// The condition `RuntimeReady`.
    pub runtime: CriCondition,
    /// The condition `NetworkReady`. A kubelet derives the node's readiness from it. containerd below 2.1 checks only
    /// the conflist, so it is ready while plugins are missing.
    pub network: CriCondition,
    /// What it has loaded for CNI. Only containerd reports this.
    pub cni: Option<LoadedCni>,
}

/// One condition, as the runtime reports it to a kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CriCondition {
    pub ready: bool,
    /// Why it is not ready, in the runtime's own words; else empty.
    pub why: String,
}

/// What containerd has loaded (`cniconfig` and `lastCNILoadStatus` of its verbose status).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadedCni {
    /// Where it reads networks from.
    pub conf_dir: PathBuf,
    /// Where it looks for plugins, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// The networks that pods get, in order, without the loopback network. There is one, unless containerd was
    /// configured to use more.
    pub networks: Vec<LoadedNetwork>,
    /// Why the last attempt to load them failed, in containerd's own words; `None` if it succeeded.
    pub failure: Option<String>,
}

/// A network that the runtime has in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadedNetwork {
    pub name: String,
    /// The types of its plugins, in order.
    pub chain: Vec<String>,
    /// The text of the conflist that it was loaded from. It may hold secrets.
    pub text: String,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeCondition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
}

/// `cniconfig`, named as Go names fields without tags. Go writes an empty list as `null`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CniConfig {
    plugin_dirs: Option<Vec<PathBuf>>,
    plugin_conf_dir: PathBuf,
    networks: Option<Vec<ConfNetwork>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfNetwork {
    config: NetworkConfList,
    #[serde(rename = "IFName")]
    interface: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkConfList {
    name: String,
    plugins: Option<Vec<NetworkConf>>,
    #[serde(default)]
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkConf {
    network: PluginConf,
}

/// Unlike the others, this one has tags in Go.
#[derive(Deserialize)]
struct PluginConf {
    #[serde(rename = "type")]
    kind: String,
}

/// The request for the conditions and the JSON.
pub(super) fn encode_request() -> Vec<u8> {
    StatusRequest { verbose: true }.encode_to_vec()
}

/// Decodes a `StatusResponse`; `None` if it is not one. JSON in it that cannot be read counts as missing.
pub(super) fn decode_status(message: &[u8]) -> Option<CriStatus> {
    let StatusResponse { status, info } = StatusResponse::decode(message).ok()?;
    let conditions = status?.conditions;
    Some(CriStatus {
        runtime: find_condition(&conditions, "RuntimeReady")?,
        network: find_condition(&conditions, "NetworkReady")?,
        cni: parse_loaded_cni(&info),
    })
}

fn find_condition(all: &[RuntimeCondition], kind: &str) -> Option<CriCondition> {
    let found = all.iter().find(|condition| condition.kind == kind)?;
    let words = [&found.message, &found.reason];
    let words = words.into_iter().find(|words| !words.is_empty());
    Some(CriCondition {
        ready: found.status,
        why: words
            .map(|words| one_line(words, MAX_TEXT_BYTES))
            .unwrap_or_default(),
    })
}

fn parse_loaded_cni(info: &HashMap<String, String>) -> Option<LoadedCni> {
    let config: CniConfig = serde_json::from_str(info.get("cniconfig")?).ok()?;
    let networks = config.networks.unwrap_or_default().into_iter();
    let networks = networks
        .filter(|network| network.interface != LOOPBACK_INTERFACE)
        .map(|network| {
            let plugins = network.config.plugins.unwrap_or_default();
            LoadedNetwork {
                name: network.config.name,
                chain: plugins
                    .into_iter()
                    .map(|plugin| plugin.network.kind)
                    .collect(),
                text: network.config.source,
            }
        });
    let last = info.get("lastCNILoadStatus");
    Some(LoadedCni {
        conf_dir: config.plugin_conf_dir,
        bin_dirs: config.plugin_dirs.unwrap_or_default(),
        networks: networks.collect(),
        failure: last
            .filter(|last| *last != "OK")
            .map(|last| one_line(last, MAX_TEXT_BYTES)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of containerd 1.6.20 with a network of bridge and portmap.
    const READY: &[u8] = include_bytes!("../../tests/suite/runtime/containerd-1.6-ready.bin");

    /// Its answer after net.d was deleted, created again and filled again.
    const BLIND: &[u8] = include_bytes!("../../tests/suite/runtime/containerd-1.6-blind.bin");

    fn answer(info: &[(&str, &str)]) -> CriStatus {
        let condition = |kind: &str| RuntimeCondition {
            kind: kind.to_owned(),
            status: true,
            ..RuntimeCondition::default()
        };
        let info = info
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        let response = StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![condition("NetworkReady"), condition("RuntimeReady")],
            }),
            info: info.collect(),
        };
        decode_status(&response.encode_to_vec()).unwrap()
    }

    #[test]
    fn containerd_tells_what_it_has_loaded() {
        let answer = decode_status(READY).unwrap();
        assert!(answer.runtime.ready && answer.network.ready);
        let cni = answer.cni.unwrap();
        assert_eq!(cni.conf_dir, PathBuf::from("/etc/cni/net.d"));
        assert_eq!(cni.bin_dirs, [PathBuf::from("/opt/cni/bin")]);
        assert_eq!(cni.failure, None);
        let [network] = cni.networks.as_slice() else {
            panic!(
                "the loopback network is not one of ours: {:?}",
                cni.networks
            )
        };
        assert_eq!(network.name, "pod-network");
        assert_eq!(network.chain, ["bridge", "portmap"]);
        assert!(network.text.starts_with("{\n  \"cniVersion\": \"1.0.0\""));
    }

    #[test]
    fn containerd_tells_why_it_has_loaded_nothing() {
        let answer = decode_status(BLIND).unwrap();
        assert!(answer.runtime.ready);
        assert_eq!(
            answer.network,
            CriCondition {
                ready: false,
                why: "Network plugin returns error: cni plugin not initialized".to_owned()
            }
        );
        let cni = answer.cni.unwrap();
        assert_eq!(cni.networks, []);
        assert_eq!(
            cni.failure.as_deref(),
            Some(
                "cni config load failed: no network config found in /etc/cni/net.d: cni plugin not initialized: failed to load cni config"
            )
        );
    }

    /// CRI-O tells its configuration and no networks; another containerd may tell them in another way.
    #[test]
    fn what_is_not_reported_is_not_known() {
        for info in [
            &[][..],
            &[("config", "{}")],
            &[("cniconfig", "null"), ("lastCNILoadStatus", "OK")],
            &[("cniconfig", "{\"PluginConfDir\": 7}")],
            &[("lastCNILoadStatus", "bad")],
        ] {
            assert_eq!(answer(info).cni, None, "{info:?}");
        }
        let none = r#"{"PluginDirs":null,"PluginConfDir":"/etc/cni/net.d","Networks":null}"#;
        let cni = answer(&[("cniconfig", none)]).cni.unwrap();
        assert_eq!((cni.bin_dirs.len(), cni.networks.len()), (0, 0));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(decode_status(b""), None);
        assert_eq!(decode_status(b"<html></html>"), None);
        for end in 0..READY.len() {
            // No length makes it panic; what is left is not an answer, or a shorter one.
            let _ = decode_status(&READY[..end]);
        }
    }
}
