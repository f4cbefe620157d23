//! A conversation with the real CNI libraries: the program of `tests/peers/oracle`, which answers one line for each line.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cni_keeper::cni::Libcni;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::support::skipped;

/// The modules that build it, each with another generation of the libraries.
const MODULES: [(Libcni, &str); 3] = [
    (Libcni::V1_1, "oracle-libcni-1.1"),
    (Libcni::V1_2, "oracle-libcni-1.2"),
    (Libcni::V1_3, "oracle"),
];

/// One running oracle.
pub(super) struct Oracle {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Where `scripts/peers` put what it built from this module: a directory that is named after the module and a digest.
pub(super) fn built(module: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let built = std::fs::read_dir(target.join("peers")).ok()?;
    built
        .map(|entry| entry.unwrap())
        .find(|entry| {
            let name = entry.file_name();
            let digest = name
                .to_str()
                .and_then(|name| name.strip_prefix(module)?.strip_prefix('-'));
            digest.is_some_and(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        })
        .map(|entry| entry.path())
}

fn program(module: &str) -> Option<PathBuf> {
    Some(built(module)?.join(module))
}

/// Whether the oracles are built. If not, the test is skipped, and its name said.
pub(super) fn are_built(test: &str) -> bool {
    let modules = MODULES.map(|(_, module)| module);
    let all = modules.iter().all(|module| program(module).is_some());
    if !all {
        let modules = modules.join(" ");
        skipped(&format!(
            "{test} asks the real CNI libraries; build them: scripts/peers {modules}"
        ));
    }
    all
}

impl Oracle {
    pub(super) fn start(libcni: Libcni) -> Self {
        let (_, module) = MODULES
            .into_iter()
            .find(|(generation, _)| *generation == libcni)
            .unwrap();
        let mut child = Command::new(program(module).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            questions,
            answers,
        }
    }

    pub(super) fn ask<T: DeserializeOwned>(&mut self, question: &Value) -> T {
        let questions = self.questions.as_mut().unwrap();
        questions
            .write_all(format!("{question}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{error}: {answer:?} to {question}"))
    }
}

/// Without questions it ends, and removes what it wrote.
impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// An error's text, or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Verdict {
    #[serde(deserialize_with = "bytes_or_none")]
    pub(super) error: Option<Vec<u8>>,
}

impl Verdict {
    pub(super) fn text(&self) -> String {
        let error = self.error.as_deref().unwrap_or(b"accepted");
        String::from_utf8_lossy(error).into_owned()
    }
}

/// A network as the libraries hold it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) chain: Vec<String>,
    pub(super) capabilities: Option<std::collections::BTreeMap<String, bool>>,
}

/// The answer about one file alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FileAnswer {
    pub(super) load: Verdict,
    pub(super) network: Option<Network>,
    /// What ADD says with plugins that take everything; nothing where it does not load.
    pub(super) add: Option<Verdict>,
}

pub(super) fn bytes_or_none<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let decode = |text| BASE64_STANDARD.decode(text);
    text.map(decode)
        .transpose()
        .map_err(serde::de::Error::custom)
}
