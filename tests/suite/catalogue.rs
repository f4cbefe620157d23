//! The catalogue of faults in `tests/README.md` agrees with the tests that are named after its numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that test a fault, by its number.
type Holders = BTreeMap<u32, BTreeSet<String>>;

fn tests_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The rows `| number | fault and outcome | modules |` of the page.
fn catalogued() -> Holders {
    let page = fs::read_to_string(tests_directory().join("README.md")).unwrap();
    let mut rows = Holders::new();
    for line in page.lines() {
        let Some((number, rest)) = line
            .strip_prefix("| ")
            .and_then(|row| row.split_once(" | "))
        else {
            continue;
        };
        let Ok(number) = number.parse() else {
            continue;
        };
        let (text, modules) = rest.rsplit_once(" | ").expect("three columns");
        assert!(!text.trim().is_empty(), "fault {number} is not described");
        let modules = modules.split('`').skip(1).step_by(2);
        let known = rows.insert(number, modules.map(str::to_owned).collect());
        assert!(known.is_none(), "fault {number} has two rows");
    }
    rows
}

/// Every Rust file below `tests`, with the name of its module and its text.
fn test_files() -> Vec<(String, String)> {
    let root = tests_directory();
    let mut pending = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = module_of(path.strip_prefix(&root).unwrap());
                files.push((module, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// `suite/daemon/fight.rs` is `daemon::fight`; the files of other test programs keep their first part.
fn module_of(inside: &Path) -> String {
    let inside = inside.strip_prefix("suite").unwrap_or(inside);
    let parts: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    parts.join("::")
}

/// The numbers in the name of a test: `fault_29_…`, `faults_1_2_3_…` or `faults_44_to_46_…`.
fn numbers_of(name: &str) -> Vec<u32> {
    let Some(words) = name
        .strip_prefix("fault_")
        .or_else(|| name.strip_prefix("faults_"))
    else {
        return Vec::new();
    };
    let mut numbers: Vec<u32> = Vec::new();
    let mut is_range = false;
    for word in words.split('_') {
        match word.parse() {
            Ok(last) if is_range => {
                numbers.extend(numbers.last().map_or(last, |first| first + 1)..=last);
                is_range = false;
            }
            Ok(number) => numbers.push(number),
            Err(_) if word == "to" && !numbers.is_empty() => is_range = true,
            Err(_) => break,
        }
    }
    numbers
}

/// The name of the function that a line declares.
fn function_of(line: &str) -> Option<&str> {
    let (_, declared) = line.trim_start().split_once("fn ")?;
    Some(declared.split(['(', '<']).next().unwrap())
}

/// The faults that are tested by functions of their name.
fn tested() -> Holders {
    let mut holders = Holders::new();
    for (module, text) in test_files() {
        for number in text.lines().filter_map(function_of).flat_map(numbers_of) {
            holders.entry(number).or_default().insert(module.clone());
        }
    }
    holders
}

/// The first number that a comment mentions as `Fault 29` or `Faults 40 to 43`, wherever in the line.
fn mentioned(line: &str) -> Option<u32> {
    let (_, comment) = line.split_once("//")?;
    let comment = comment.to_lowercase();
    let (_, after) = comment
        .split_once("fault ")
        .or_else(|| comment.split_once("faults "))?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn every_fault_of_the_catalogue_has_a_test_and_every_such_test_a_row() {
    let (rows, tested) = (catalogued(), tested());
    assert!(rows.len() >= 60, "the catalogue was not found");
    let numbers: BTreeSet<&u32> = rows.keys().chain(tested.keys()).collect();
    let wrong: Vec<String> = numbers
        .into_iter()
        .filter(|number| rows.get(number) != tested.get(number))
        .map(|number| {
            let expected: Vec<String> = tested
                .get(number)
                .into_iter()
                .flatten()
                .map(|module| format!("`{module}`"))
                .collect();
            format!(
                "fault {number}: tests/README.md must name {}",
                expected.join(", ")
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn comments_mention_no_fault_that_is_not_in_the_catalogue() {
    let rows = catalogued();
    for (module, text) in test_files() {
        for number in text.lines().filter_map(mentioned) {
            assert!(
                rows.contains_key(&number),
                "{module} mentions fault {number}, which has no row in tests/README.md"
            );
        }
    }
}

#[test]
fn numbers_are_read_from_names() {
    assert_eq!(numbers_of("fault_29_a_fight"), [29]);
    assert_eq!(numbers_of("fault_09_a_bundle"), [9]);
    assert_eq!(numbers_of("faults_1_2_3_a_kill"), [1, 2, 3]);
    assert_eq!(numbers_of("faults_44_to_46_are_the_same"), [44, 45, 46]);
    assert_eq!(numbers_of("a_fault_29"), [0; 0]);
    assert_eq!(function_of("    async fn it<T>(a: T) {"), Some("it"));
    assert_eq!(mentioned("/// Faults 31 and 32: told"), Some(31));
    assert_eq!(
        module_of(Path::new("suite/daemon/fight.rs")),
        "daemon::fight"
    );
    assert_eq!(module_of(Path::new("e2e/daemon.rs")), "e2e::daemon");
}
