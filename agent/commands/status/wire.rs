//! What is read of the running agent's answers. It may be of another version than this program: what is not
//! needed is not looked at.

use serde::Deserialize;

/// `/status`.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) ready: bool,
    pub(super) agent: Agent,
    pub(super) looked: String,
    pub(super) verified: Option<String>,
    pub(super) files: Vec<File>,
    pub(super) checks: Vec<Check>,
    pub(super) directory: Option<Directory>,
    pub(super) errors: Vec<Trouble>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Agent {
    pub(super) version: String,
    pub(super) node: Option<String>,
    pub(super) started: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) standing: String,
    pub(super) expected: Option<String>,
    pub(super) actual: Option<String>,
    pub(super) origin: String,
    pub(super) drifts: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) failures: Vec<String>,
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Directory {
    pub(super) runtimes: Vec<Runtime>,
    pub(super) effective: Option<Network>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Runtime {
    pub(super) runtime: String,
    pub(super) takes: Option<String>,
    pub(super) why: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) cni_version: String,
    pub(super) chain: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Trouble {
    pub(super) at: String,
    pub(super) what: String,
    pub(super) times: u32,
}

/// `/drift`.
#[derive(Debug, Deserialize)]
pub(super) struct Drifts {
    pub(super) entries: Vec<Drift>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Drift {
    pub(super) at: String,
    pub(super) path: String,
    pub(super) what: String,
    pub(super) outcome: Outcome,
    pub(super) times: u32,
    pub(super) by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(super) enum Outcome {
    Open { waiting: Option<String> },
    Healed { how: String, seconds: f64 },
    Gone { seconds: f64 },
}
