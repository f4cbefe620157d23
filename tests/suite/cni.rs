//! The `cni` room against the recorded behaviour of the real libraries, and against arbitrary input.
// clippy.toml allows these in tests, but clippy does not count helpers of tests as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod corpus;
mod differential;
mod directories;
mod generator;
mod ipam;
mod minimise;
mod oracle;
mod plugin_generator;
mod properties;
mod reference_plugins;
mod stricter;

use std::path::PathBuf;

use cni_keeper::cni::{
    ChoiceOutcome, ConfDir, ConfForm, DropIns, Libcni, LibcniNetwork, LoadError, SPEC_VERSIONS,
    check_name_is_free, check_plugins, choose_as_containerd, choose_as_crio, load_as_libcni,
    validate_conflist,
};
use serde_json::{Value, json};

use corpus::{bytes, cases, drop_ins, entries, flag, lay_out, text, texts};
use stricter::STRICTER;

/// The generations by the names that the corpus gives them.
const GENERATIONS: [(&str, Libcni); 3] = [
    ("v1.1.2", Libcni::V1_1),
    ("v1.2.3", Libcni::V1_2),
    ("v1.3.0", Libcni::V1_3),
];

/// Collects every difference before failing, so that one run shows them all.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn add(&mut self, id: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{id}: {what}"));
    }

    fn none(self, compared: usize, what: &str) {
        eprintln!("compared {compared} {what}");
        assert!(
            self.0.is_empty(),
            "{} differences in {compared} {what}:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}

/// A real directory with the one file that every case of the corpus was loaded from.
struct Alone {
    _parent: tempfile::TempDir,
    directory: PathBuf,
}

impl Alone {
    fn new() -> Self {
        // One level down, since a network of the corpus is called "..".
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("net.d");
        std::fs::create_dir(&directory).unwrap();
        // No drop-in has that extension, so what is in it does not matter.
        std::fs::write(directory.join("10-case.conflist"), "").unwrap();
        Self {
            _parent: parent,
            directory,
        }
    }

    fn load(
        &self,
        content: &[u8],
        form: ConfForm,
        libcni: Libcni,
    ) -> Result<LibcniNetwork, LoadError> {
        load_as_libcni(content, form, libcni, &|name| {
            drop_ins(&self.directory, name)
        })
    }
}

/// Whether a text is the same as libcni's, as far as it is kept: of a long one the agent keeps the beginning.
fn is_same_text(ours: &str, theirs: &str) -> bool {
    let is_beginning =
        |kept: &str| kept.len() > 200 && theirs.len() > 255 && theirs.starts_with(kept);
    ours == theirs || ours.strip_suffix('…').is_some_and(is_beginning)
}

/// The same for all texts of a list.
fn is_same_chain(ours: &[String], theirs: &[String]) -> bool {
    let same = |(ours, theirs): (&String, &String)| is_same_text(ours, theirs);
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
}

/// The same for a text, or a list of texts, of the corpus.
fn is_same_json(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::String(ours), Value::String(theirs)) => is_same_text(ours, theirs),
        (Value::Array(ours), Value::Array(theirs)) => {
            let same = |(ours, theirs): (&Value, &Value)| is_same_json(ours, theirs);
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
        }
        _ => ours == theirs,
    }
}

fn compare_load(
    differences: &mut Differences,
    alone: &Alone,
    case: &Value,
    content: &[u8],
    form: ConfForm,
) -> usize {
    let id = text(case, "/id");
    for (name, libcni) in GENERATIONS {
        let head = &case["libcni"];
        let older = &case["libcni_older"][name];
        let want = |key: &str| older.get(key).unwrap_or(&head[key]).clone();
        match alone.load(content, form, libcni) {
            Ok(network) => {
                if !flag(older, "/load_ok") {
                    differences.add(id, format_args!("{name} refuses it, we load {network:?}"));
                    continue;
                }
                if !is_same_json(&network.version.as_str().into(), &want("selected_version")) {
                    differences.add(id, format_args!("{name}: version {:?}", network.version));
                }
                if !is_same_json(&Value::from(network.chain.clone()), &want("plugin_types")) {
                    differences.add(id, format_args!("{name}: chain {:?}", network.chain));
                }
                if head["name"] != Value::Null
                    && !is_same_json(&network.name.as_str().into(), &head["name"])
                {
                    differences.add(id, format_args!("{name}: network {:?}", network.name));
                }
            }
            Err(error) if flag(older, "/load_ok") => {
                differences.add(id, format_args!("{name} loads it, we say {error}"));
            }
            Err(_) => {}
        }
    }
    GENERATIONS.len()
}

#[test]
fn what_loads_is_what_libcni_loads() {
    let Some(cases) = cases("conflists.jsonl") else {
        return;
    };
    let alone = Alone::new();
    let mut differences = Differences::default();
    let mut compared = 0;
    for case in &cases {
        let content = bytes(case, "conflist");
        compared += compare_load(&mut differences, &alone, case, &content, ConfForm::List);
    }
    differences.none(compared, "loads of mutated conflists");
}

#[test]
fn every_real_configuration_loads() {
    let Some(cases) = cases("realworld.jsonl") else {
        return;
    };
    let alone = Alone::new();
    let mut differences = Differences::default();
    let mut compared = 0;
    for case in &cases {
        let form = match text(case, "/form") {
            "conf" => ConfForm::Single,
            _ => ConfForm::List,
        };
        compared += compare_load(&mut differences, &alone, case, &bytes(case, "text"), form);
    }
    differences.none(compared, "loads of real configurations");
}

#[test]
fn the_pick_is_the_runtimes_pick() {
    let Some(cases) = cases("confdirs.jsonl") else {
        return;
    };
    let meta = corpus::meta();
    let answers = |plugin: &str| corpus::answer(&meta, plugin);
    let mut differences = Differences::default();
    let mut compared = 0;
    for case in &cases {
        let id = text(case, "/id");
        // Under that name, since a network of the corpus is called "../net.d/sub".
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("net.d");
        std::fs::create_dir(&path).unwrap();
        lay_out(case["files"].as_array().unwrap(), &path);
        let entries = entries(&path);
        let list = |name: &str| drop_ins(&path, name);
        let dir = ConfDir {
            entries: &entries,
            drop_ins: &list,
        };

        let newest = choose_as_containerd(&dir, Libcni::V1_3);
        let (picked, failed, network) = described(&newest.outcome);
        let want = |runtime: &str, key: &str| case[runtime][key].as_str().map(str::to_owned);
        let expected = (
            want("gocni", "picked"),
            want("gocni", "failed_file"),
            want("gocni", "network"),
        );
        if (&picked, &failed, &network) != (&expected.0, &expected.1, &expected.2) {
            differences.add(
                id,
                format_args!("containerd {expected:?}, we {:?}", newest.outcome),
            );
        }
        if let ChoiceOutcome::Picked { network, .. } = &newest.outcome
            && network.chain != texts(case, "/gocni/plugin_types")
        {
            differences.add(
                id,
                format_args!("containerd's chain, ours {:?}", network.chain),
            );
        }

        for (name, libcni) in GENERATIONS {
            let older = choose_as_containerd(&dir, libcni).outcome;
            let loads = matches!(older, ChoiceOutcome::Picked { .. });
            if loads != flag(&case["gocni_older"][name], "/ok") {
                differences.add(id, format_args!("containerd with {name}, we {older:?}"));
            }
        }

        let verdict = choose_as_crio(&dir, &answers);
        let (picked, _, network) = described(&verdict.outcome);
        let expected = (want("ocicni", "picked"), want("ocicni", "network"));
        if (&picked, &network) != (&expected.0, &expected.1) {
            differences.add(id, format_args!("CRI-O {expected:?}, we {verdict:?}"));
        }
        compared += 1;
    }
    differences.none(compared, "configuration directories");
}

/// Picked file, failed file, network.
fn described(outcome: &ChoiceOutcome) -> (Option<String>, Option<String>, Option<String>) {
    let name = |file: &std::ffi::OsString| Some(file.to_str().unwrap().to_owned());
    match outcome {
        ChoiceOutcome::Picked { file, network } => (name(file), None, Some(network.name.clone())),
        ChoiceOutcome::Aborted { file, .. } => (None, name(file), None),
        ChoiceOutcome::Nothing => (None, None, None),
    }
}

/// Whether every supported runtime loads it and ADD works; `None` if that depends on a plugin.
fn works(case: &Value) -> Option<bool> {
    let generations = GENERATIONS.map(|(name, _)| &case["libcni_older"][name]);
    if !flag(case, "/libcni/load_ok") || generations.iter().any(|older| !flag(older, "/load_ok")) {
        return Some(false);
    }
    let head = text(case, "/libcni/selected_version");
    let mut versions = generations
        .iter()
        .map(|older| older["selected_version"].as_str().unwrap_or(head));
    // What no plugin supports fails with every plugin.
    if !versions.all(|version| version.is_empty() || SPEC_VERSIONS.contains(&version)) {
        return Some(false);
    }
    if flag(case, "/add_time/add/ok") {
        return Some(true);
    }
    let error = text(case, "/add_time/add/error");
    let hangs_on_plugin = error.contains("failed to find plugin")
        || texts(case, "/libcni/plugin_types")
            .iter()
            .any(|plugin| ["oldplugin", "newplugin", "brokenplugin"].contains(&plugin.as_str()));
    if hangs_on_plugin { None } else { Some(false) }
}

#[test]
fn what_we_accept_works_and_what_works_we_accept() {
    let Some(cases) = cases("conflists.jsonl") else {
        return;
    };
    let mut differences = Differences::default();
    let alone = Alone::new();
    let mut stricter = vec![0; STRICTER.len()];
    let (mut compared, mut left_out) = (0, 0);
    for case in &cases {
        let id = text(case, "/id");
        let content = bytes(case, "conflist");
        let report = validate_conflist(&content);
        if let Some(summary) = &report.summary {
            let message = json!({
                "name": summary.name,
                "selected_version": summary.version,
                "plugin_types": summary.chain,
                "capabilities": summary.capabilities,
            });
            for (key, ours) in message.as_object().unwrap() {
                let none = json!([]);
                let theirs = case["libcni"].get(key).unwrap_or(&none);
                if flag(case, "/libcni/load_ok") && !is_same_json(ours, theirs) {
                    differences.add(id, format_args!("{key} is {theirs}, we say {ours}"));
                }
            }
        }
        let mut errors: Vec<_> = report.errors().cloned().collect();
        if let Some(error) = errors
            .iter()
            .find(|error| error.problem.contains("would refuse it"))
        {
            differences.add(id, format_args!("no rule of validate says why: {error}"));
        }
        if let Ok(network) =
            load_as_libcni(&content, ConfForm::List, Libcni::V1_1, &|_| DropIns::Absent)
        {
            let list = |name: &str| drop_ins(&alone.directory, name);
            let dir = ConfDir {
                entries: &entries(&alone.directory),
                drop_ins: &list,
            };
            let ours = "10-case.conflist".parse().unwrap();
            errors.extend(check_name_is_free(&network.name, &ours, &dir, &|_| false));
        }
        match works(case) {
            None => left_out += 1,
            Some(false) => {
                compared += 1;
                if errors.is_empty() {
                    differences.add(
                        id,
                        format_args!("{}: no error from us", text(case, "/mutation")),
                    );
                }
            }
            Some(true) => {
                compared += 1;
                for error in errors {
                    let error = error.to_string();
                    match STRICTER.iter().position(|(part, _)| error.contains(part)) {
                        Some(index) => stricter[index] += 1,
                        None => differences.add(
                            id,
                            format_args!("{} works, we say {error}", text(case, "/mutation")),
                        ),
                    }
                }
            }
        }
    }
    for ((part, _), count) in STRICTER.iter().zip(&stricter) {
        eprintln!("{count} times stricter: {part}");
        if *count == 0 {
            differences.add("STRICTER", format_args!("'{part}' no longer differs"));
        }
    }
    eprintln!("left out {left_out} that hang on a plugin");
    differences.none(compared, "verdicts on mutated conflists");
}

/// In the names of kube-router's configurations, which k0s and kops ship too. They have no range, because its daemon
/// writes it into the file. As files that the agent keeps as they are, they fail at every ADD.
const FILLED_IN_LATER: &str = "router";

/// What of the real configurations cannot work as a file of the agent, though it is no conflist that libcni refuses: a part
/// of the name, a part of what we say, and why.
const CANNOT_WORK: [(&str, &str, &str); 4] = [
    (FILLED_IN_LATER, "gets no range", "its daemon adds it"),
    (
        "talos-vm-bridge",
        "static has no address",
        "Talos gives the address at each call, which no Kubernetes runtime does",
    ),
    (
        "podman-cirrus-99",
        "cannot be the name of an interface",
        "it is there to fail if somebody uses it",
    ),
    (
        "podman-ipam-static",
        "it is a list, which static refuses",
        "the documentation has a bracket too many",
    ),
];

#[test]
fn no_real_configuration_is_called_broken() {
    let Some(cases) = cases("realworld.jsonl") else {
        return;
    };
    let mut differences = Differences::default();
    for case in &cases {
        let mut content = bytes(case, "text");
        if text(case, "/form") == "conf" {
            let plugin: Value = serde_json::from_slice(&content).unwrap();
            // Two of them are a plugin's documentation and have no name.
            let name = plugin.get("name").cloned().unwrap_or(json!("net"));
            let version = plugin.get("cniVersion").cloned().unwrap_or(json!(""));
            let list = json!({"name": name, "cniVersion": version, "plugins": [plugin]});
            content = list.to_string().into_bytes();
        }
        let conflist = serde_json::from_slice(&content).unwrap();
        let report = validate_conflist(&content);
        let of_plugins = check_plugins(&conflist);
        let of_plugins = of_plugins.iter().filter(|finding| finding.is_error());
        for error in report.errors().chain(of_plugins) {
            let id = text(case, "/id");
            let is_known = |(name, part, _): &(&str, &str, &str)| {
                id.contains(name) && error.problem.contains(part)
            };
            if !CANNOT_WORK.iter().any(is_known) {
                differences.add(text(case, "/id"), error);
            }
        }
    }
    differences.none(cases.len(), "real configurations");
}
