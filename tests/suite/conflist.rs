//! The conflist room against the real libraries' recorded behaviour, and against arbitrary input.

mod corpus;

use cni_keeper::conflist::{
    ConfDir, Form, Libcni, LoadError, Network, Outcome, containerd, crio, load,
};
use serde_json::Value;

use corpus::{bytes, cases, drop_ins, entries, flag, lay_out, text, texts};

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

/// Loads a case's bytes as the only file of a real directory.
fn load_alone(content: &[u8], form: Form, libcni: Libcni) -> Result<Network, LoadError> {
    // One level down, since a network of the corpus is called "..".
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("net.d");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("10-case.conflist"), content).unwrap();
    load(content, form, libcni, &|name| drop_ins(&path, name))
}

fn compare_load(
    differences: &mut Differences,
    case: &Value,
    content: &[u8],
    form: Form,
) -> usize {
    let id = text(case, "/id");
    for (name, libcni) in GENERATIONS {
        let head = &case["libcni"];
        let older = &case["libcni_older"][name];
        let want = |key: &str| older.get(key).unwrap_or(&head[key]).clone();
        match load_alone(content, form, libcni) {
            Ok(network) => {
                if !flag(older, "/load_ok") {
                    differences.add(id, format_args!("{name} refuses it, we load {network:?}"));
                    continue;
                }
                if want("selected_version") != network.version.as_str() {
                    differences.add(id, format_args!("{name}: version {:?}", network.version));
                }
                if want("plugin_types") != Value::from(network.chain.clone()) {
                    differences.add(id, format_args!("{name}: chain {:?}", network.chain));
                }
                if head["name"] != Value::Null && head["name"] != network.name.as_str() {
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
    let Some(cases) = cases("conflists.jsonl") else { return };
    let mut differences = Differences::default();
    let mut compared = 0;
    for case in &cases {
        let content = bytes(case, "conflist");
        compared += compare_load(&mut differences, case, &content, Form::List);
    }
    differences.none(compared, "loads of mutated conflists");
}

#[test]
fn every_real_configuration_loads() {
    let Some(cases) = cases("realworld.jsonl") else { return };
    let mut differences = Differences::default();
    let mut compared = 0;
    for case in &cases {
        let form = match text(case, "/form") {
            "conf" => Form::Single,
            _ => Form::List,
        };
        compared += compare_load(&mut differences, case, &bytes(case, "text"), form);
    }
    differences.none(compared, "loads of real configurations");
}

#[test]
fn the_pick_is_the_runtimes_pick() {
    let Some(cases) = cases("confdirs.jsonl") else { return };
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

        let newest = containerd(&dir, Libcni::V1_3);
        let (picked, failed, network) = described(&newest.outcome);
        let want = |runtime: &str, key: &str| case[runtime][key].as_str().map(str::to_owned);
        let expected = (
            want("gocni", "picked"),
            want("gocni", "failed_file"),
            want("gocni", "network"),
        );
        if (&picked, &failed, &network) != (&expected.0, &expected.1, &expected.2) {
            differences.add(id, format_args!("containerd {expected:?}, we {:?}", newest.outcome));
        }
        if let Outcome::Picked { network, .. } = &newest.outcome
            && network.chain != texts(case, "/gocni/plugin_types")
        {
            differences.add(id, format_args!("containerd's chain, ours {:?}", network.chain));
        }

        for (name, libcni) in GENERATIONS {
            let older = containerd(&dir, libcni).outcome;
            let loads = matches!(older, Outcome::Picked { .. });
            if loads != flag(&case["gocni_older"][name], "/ok") {
                differences.add(id, format_args!("containerd with {name}, we {older:?}"));
            }
        }

        let verdict = crio(&dir, &answers);
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
fn described(outcome: &Outcome) -> (Option<String>, Option<String>, Option<String>) {
    let name = |file: &std::ffi::OsString| Some(file.to_str().unwrap().to_owned());
    match outcome {
        Outcome::Picked { file, network } => (name(file), None, Some(network.name.clone())),
        Outcome::Aborted { file, .. } => (None, name(file), None),
        Outcome::Nothing => (None, None, None),
    }
}
