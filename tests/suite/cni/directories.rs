//! What we say the runtimes take from a configuration directory, against what the real libraries take, on generated ones.
//! How to run one of them alone is said in `differential`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cni_keeper::cni::{
    ChoiceOutcome, ConfDir, Libcni, LibcniNetwork, LoadError, SPEC_VERSIONS, choose_as_containerd,
    choose_as_crio, load_candidates,
};
use fastrand::Rng;
use serde::Deserialize;
use serde_json::json;

use super::corpus::{drop_ins, entries};
use super::differential::{Counts, Run};
use super::generator::{self, one_in, pick};
use super::minimise::minimise;
use super::oracle::{self, Network, Oracle, Verdict, bytes_or_none};
use super::{is_same_chain, is_same_text};

/// Parts of file names, so put together that their order as bytes differs from every other order.
const STEMS: [&[u8]; 16] = [
    b"",
    b"00-x",
    b"05-x",
    b"10-a",
    b"10-b",
    b"10",
    b"9",
    b"A",
    b"a",
    b"\xc3\xa9",
    b"\xff",
    b" ",
    b".hidden",
    b"~",
    b"z\n",
    b"10-a.conf",
];
const EXTENSIONS: [&[u8]; 14] = [
    b".conflist",
    b".conflist",
    b".conflist",
    b".conf",
    b".conf",
    b".json",
    b".CONFLIST",
    b".Conf",
    b".conflist.bak",
    b".conf~",
    b"",
    b".json.conflist",
    b".conflist.",
    b".yaml",
];
/// Names of networks; those of directories are where libcni looks for drop-ins.
const NETWORKS: [&str; 10] = [
    "one",
    "two",
    "three",
    "",
    "..",
    "/",
    "10-a.conf",
    "one/../two",
    "x/y",
    "a\\u0000b",
];
const PLUGINS: [&str; 6] = ["bridge", "bridge", "old", "new", "none", "missing"];

/// A directory that can be laid out.
#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    File(Vec<u8>),
    Link(&'static str),
    Directory(Vec<Entry>),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.escape_ascii())?;
        match &self.content {
            Content::File(text) => write!(f, " = {}", text.escape_ascii()),
            Content::Link(target) => write!(f, " -> {target}"),
            Content::Directory(entries) => write!(f, "/ {}", described(entries)),
        }
    }
}

fn described(entries: &[Entry]) -> String {
    let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
    format!("[{}]", lines.join("; "))
}

/// A directory with up to six entries, no two of one name.
fn directory(rng: &mut Rng) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for _ in 0..rng.usize(..7) {
        let name = [pick(&STEMS, rng), pick(&EXTENSIONS, rng)].concat();
        let content = match rng.u32(..20) {
            0 | 1 => Content::Directory(Vec::new()),
            2..5 => Content::Link(pick(
                &[
                    "10-a.conflist",
                    "00-x.conf",
                    "../outside",
                    "missing",
                    ".",
                    "/dev/null",
                    "one",
                ],
                rng,
            )),
            _ => Content::File(file(&name, rng)),
        };
        entries.insert(name, content);
    }
    for network in ["one", "two", "three", "x"] {
        if one_in(rng, 8) {
            let content = if one_in(rng, 6) {
                Content::File(b"{}".to_vec())
            } else {
                Content::Directory(drop_in_files(rng))
            };
            entries.insert(network.into(), content);
        }
    }
    entries.remove(&Vec::new());
    let mut entries: Vec<Entry> = entries
        .into_iter()
        .map(|(name, content)| Entry { name, content })
        .collect();
    rng.shuffle(&mut entries);
    entries
}

/// What usually fits the file's name.
fn file(name: &[u8], rng: &mut Rng) -> Vec<u8> {
    let network = if one_in(rng, 4) {
        pick(&NETWORKS, rng)
    } else {
        NETWORKS[rng.usize(..3)]
    };
    let is_list = name.ends_with(b".conflist") != one_in(rng, 8);
    match (rng.u32(..10), is_list) {
        (0, _) => pick(
            &[&b""[..], b"\n", b"null", b"[]", b"{}", b"\xef\xbb\xbf{}"],
            rng,
        )
        .to_vec(),
        (1 | 2, true) => generator::conflist(rng),
        (1 | 2, false) => generator::single(rng),
        // Drop-ins alone can make a network.
        (3, true) => format!("{{\"name\": \"{network}\"}}").into_bytes(),
        (_, true) => generator::right_list(network, &PLUGINS, rng),
        (_, false) => generator::right_single(network, &PLUGINS, rng),
    }
}

fn drop_in_files(rng: &mut Rng) -> Vec<Entry> {
    let names: [&[u8]; 7] = [
        b"10.conf",
        b"20.conf",
        b".conf",
        b"30.json",
        b"40.conflist",
        b"5.conf",
        b"x.conf",
    ];
    let mut names = names.to_vec();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(..4));
    let entry = |name: &[u8]| Entry {
        name: name.to_vec(),
        content: match name {
            b"x.conf" => Content::Directory(Vec::new()),
            b"5.conf" => Content::Link(pick(&["10.conf", "missing", "."], rng)),
            _ if one_in(rng, 4) => Content::File(generator::single(rng)),
            _ => Content::File(generator::right_single("one", &PLUGINS, rng)),
        },
    };
    names.into_iter().map(entry).collect()
}

fn lay_out(entries: &[Entry], directory: &Path) {
    fs::create_dir(directory).unwrap();
    for entry in entries {
        let path = directory.join(OsString::from_vec(entry.name.clone()));
        match &entry.content {
            Content::File(text) => fs::write(path, text).unwrap(),
            Content::Link(target) => symlink(target, path).unwrap(),
            Content::Directory(entries) => lay_out(entries, &path),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    first: Loaded,
    two: Loaded,
    all: Loaded,
    crio: Option<Picked>,
}

#[derive(Deserialize)]
struct Loaded {
    #[serde(flatten)]
    verdict: Verdict,
    networks: Option<Vec<Network>>,
}

#[derive(Deserialize)]
struct Picked {
    #[serde(deserialize_with = "bytes_or_none")]
    file: Option<Vec<u8>>,
    network: Network,
}

/// The libraries, and a place for directories of theirs.
struct Runtimes {
    libraries: [(Libcni, Oracle); 3],
    path: PathBuf,
    _parent: tempfile::TempDir,
}

impl Runtimes {
    fn start() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let list =
            br#"{"name": "outside", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#;
        fs::write(parent.path().join("outside"), list).unwrap();
        Self {
            libraries: Libcni::ALL.map(|libcni| (libcni, Oracle::start(libcni))),
            path: parent.path().join("net.d"),
            _parent: parent,
        }
    }

    /// Where we say something else about this directory than the libraries.
    fn difference(&mut self, files: &[Entry], counts: &mut Counts) -> Option<String> {
        lay_out(files, &self.path);
        let found = self.compare(counts);
        fs::remove_dir_all(&self.path).unwrap();
        found
    }

    fn compare(&mut self, counts: &mut Counts) -> Option<String> {
        let path = self.path.clone();
        let entries = entries(&path);
        let dir = ConfDir {
            entries: &entries,
            drop_ins: &|name| drop_ins(&path, name),
        };
        let question = json!({"dir": path, "answers": answers()});
        self.libraries.iter_mut().find_map(|(libcni, oracle)| {
            let answer: Answer = oracle.ask(&question);
            let outcome = choose_as_containerd(&dir, *libcni).outcome;
            let all = load_candidates(&dir, *libcni);
            let two = &all[..all.len().min(2)];
            count_outcome(&outcome, *libcni, counts);
            first_difference(&outcome, &answer.first, &path)
                .or_else(|| all_difference(two, &answer.two, &path))
                .or_else(|| all_difference(&all, &answer.all, &path))
                .or_else(|| crio_difference(&dir, &answer).filter(|_| *libcni == Libcni::V1_3))
                .map(|difference| format!("{libcni:?}: {difference}"))
        })
    }
}

/// The versions that each plugin answers; one is missing.
fn answers() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("bridge", SPEC_VERSIONS.to_vec()),
        ("old", SPEC_VERSIONS[..4].to_vec()),
        ("new", SPEC_VERSIONS[5..].to_vec()),
        ("none", Vec::new()),
    ])
}

fn count_outcome(outcome: &ChoiceOutcome, libcni: Libcni, counts: &mut Counts) {
    if libcni == Libcni::V1_3 {
        counts.count(match outcome {
            ChoiceOutcome::Picked { .. } => "containerd takes one",
            ChoiceOutcome::Aborted { .. } => "containerd fails",
            ChoiceOutcome::Nothing => "containerd finds none",
        });
    }
}

fn is_same(ours: &LibcniNetwork, theirs: &Network) -> bool {
    is_same_text(&ours.name, &theirs.name)
        && is_same_text(&ours.version, &theirs.version)
        && is_same_chain(&ours.chain, &theirs.chain)
}

fn first_difference(outcome: &ChoiceOutcome, theirs: &Loaded, path: &Path) -> Option<String> {
    let ours = match outcome {
        ChoiceOutcome::Picked { file, network } => vec![(file.clone(), Ok(network.clone()))],
        ChoiceOutcome::Aborted { file, error } => vec![(file.clone(), Err(error.clone()))],
        ChoiceOutcome::Nothing => Vec::new(),
    };
    all_difference(&ours, theirs, path)
}

/// Compares what is loaded in order, up to the first failure.
fn all_difference(
    ours: &[(OsString, Result<LibcniNetwork, LoadError>)],
    theirs: &Loaded,
    path: &Path,
) -> Option<String> {
    let failed = ours.iter().find(|(_, loaded)| loaded.is_err());
    let agrees = match (&theirs.verdict.error, failed) {
        (None, None) => {
            let networks = theirs.networks.as_deref().unwrap_or_default();
            let same = |((_, ours), theirs): (&(_, Result<_, _>), _)| {
                ours.as_ref().is_ok_and(|ours| is_same(ours, theirs))
            };
            !ours.is_empty() && ours.len() == networks.len() && ours.iter().zip(networks).all(same)
        }
        (Some(error), Some((file, _))) => {
            // "…/10-a.conflist: …" or "…/10-a.conf to CNI config list: …"
            let name = path.join(file);
            [&b": "[..], b" to CNI "].iter().any(|end| {
                let named = [name.as_os_str().as_bytes(), end].concat();
                error.windows(named.len()).any(|part| part == named)
            })
        }
        (Some(_), None) => {
            ours.is_empty() && theirs.verdict.text().contains("no network config found")
        }
        (None, Some(_)) => false,
    };
    (!agrees).then(|| {
        format!(
            "containerd: {} {:?}, we: {ours:?}",
            theirs.verdict.text(),
            theirs.networks
        )
    })
}

fn crio_difference(dir: &ConfDir<'_>, answer: &Answer) -> Option<String> {
    let versions = answers();
    let supported = |plugin: &str| {
        let versions = versions.get(plugin)?.iter();
        Some(versions.map(ToString::to_string).collect())
    };
    let ours = choose_as_crio(dir, &supported).outcome;
    let agrees = match (&ours, &answer.crio) {
        (ChoiceOutcome::Picked { file, network }, Some(theirs)) => {
            Some(file.as_bytes()) == theirs.file.as_deref() && is_same(network, &theirs.network)
        }
        (ChoiceOutcome::Nothing, None) => true,
        _ => false,
    };
    let theirs = answer.crio.as_ref().map(|picked| {
        (
            picked
                .file
                .as_ref()
                .map(|name| name.escape_ascii().to_string()),
            &picked.network,
        )
    });
    (!agrees).then(|| format!("CRI-O: {theirs:?}, we: {ours:?}"))
}

#[test]
fn generated_directories_are_read_as_the_runtimes_read_them() {
    if !oracle::are_built("generated_directories_are_read_as_the_runtimes_read_them") {
        return;
    }
    let run = Run::asked(4);
    let counts = run.judge(Runtimes::start, |runtimes, rng, counts| {
        let files = directory(rng);
        runtimes.difference(&files, counts)?;
        let mut ignored = Counts::default();
        let mut files = minimise(files, |files| {
            runtimes.difference(files, &mut ignored).is_some()
        });
        for index in 0..files.len() {
            let Content::File(text) = files[index].content.clone() else {
                continue;
            };
            let mut with = files.clone();
            let text = minimise(text, |text| {
                with[index].content = Content::File(text.to_vec());
                runtimes.difference(&with, &mut ignored).is_some()
            });
            files[index].content = Content::File(text);
        }
        let said = runtimes
            .difference(&files, &mut ignored)
            .unwrap_or_default();
        Some(format!("{said}: {}", described(&files)))
    });
    if run.is_long() {
        for kind in [
            "containerd takes one",
            "containerd fails",
            "containerd finds none",
        ] {
            assert!(
                counts.share_of(kind, run) > 5,
                "few directories where {kind}"
            );
        }
    }
}
