//! The pages of the repository: their links lead somewhere, their configurations are valid, and the code that they name
//! is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::architecture::FLOORS;
use crate::support::release::arch;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, by its path.
fn pages() -> Vec<PathBuf> {
    let mut pending = vec![repository()];
    let mut pages = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() >= 8, "the pages were not found");
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The targets of the links `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The anchors of a page's headings, as they are made for links: lower case, blanks as hyphens, no punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The blocks of code that are marked with a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    text.split(&start)
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect()
}

/// The texts between single backquotes, outside of blocks.
fn code_spans(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in links(&text).filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let leads = path.exists()
                && (anchor.is_empty() || anchors(&read(&path)).iter().any(|one| one == anchor));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A page names code as `agent/room/`, `agent/room/file.rs` or `agent/room/file.rs::name`.
#[test]
fn the_code_that_a_page_names_is_there() {
    let mut missing = Vec::new();
    for page in pages() {
        let text = read(&page);
        let spans = code_spans(&text);
        for span in spans.iter().filter(|span| span.starts_with("agent/")) {
            let mut parts = span.split("::");
            let path = repository().join(parts.next().unwrap());
            let code = match path.is_dir() {
                true => String::new(),
                false => fs::read_to_string(&path).unwrap_or_default(),
            };
            let is_there = path.exists() && parts.all(|name| declares(&code, name));
            if !is_there {
                missing.push(format!("{}: {span}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Whether code declares a function, type or constant of this name.
fn declares(code: &str, name: &str) -> bool {
    let kinds = [
        "fn", "struct", "enum", "trait", "const", "static", "type", "mod",
    ];
    kinds.iter().any(|kind| {
        let declaration = format!("{kind} {name}");
        code.match_indices(&declaration).any(|(at, _)| {
            let next = code[at + declaration.len()..].chars().next();
            next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    })
}

#[test]
fn every_configuration_that_a_page_shows_is_valid() {
    let mut shown = 0;
    for page in ["README.md", "agent/config/README.md"] {
        let text = read(&repository().join(page));
        let examples = blocks(&text, "yaml")
            .into_iter()
            .filter(|block| block.contains("kind: NodeNetwork"));
        for example in examples {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), example).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_cni-keeper"))
                .arg("validate")
                .arg(file.path())
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{page} on {}:\n{example}\n{errors}",
                arch()
            );
            shown += 1;
        }
    }
    assert!(shown >= 3, "the examples were not found");
}

#[test]
fn the_first_page_stays_short() {
    let lines = read(&repository().join("README.md")).lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}

#[test]
fn names_and_anchors_are_read_rightly() {
    assert!(declares("pub fn install(a: u8) {}", "install"));
    assert!(!declares("pub fn install_all() {}", "install"));
    assert_eq!(
        anchors("## Who is `fighting` me?\n"),
        ["who-is-fighting-me"]
    );
    assert_eq!(
        links("[a](b.md#c) and [d](e)").collect::<Vec<_>>(),
        ["b.md#c", "e"]
    );
    assert_eq!(code_spans("a `b` c\n```sh\n`d`\n```\n`e`"), ["b", "e"]);
    assert_eq!(blocks("```yaml\na: 1\n```\n", "yaml"), ["a: 1"]);
}

/// The rows of the page are `| floor | \`agent/room/\` | … |`, with floors numbered from one.
#[test]
fn the_architecture_page_has_every_room_on_its_floor() {
    let text = read(&repository().join("agent/ARCHITECTURE.md"));
    let mut wrong = Vec::new();
    for (floor, rooms) in (1..).zip(FLOORS) {
        for room in *rooms {
            let rows = [
                format!("| {floor} | `agent/{room}/` |"),
                format!("| {floor} | `agent/{room}.rs` |"),
            ];
            if !rows.iter().any(|row| text.contains(row)) {
                wrong.push(format!("no row {}", rows.join(" or ")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "agent/ARCHITECTURE.md: {}",
        wrong.join("\n")
    );
}

/// The rows of the helpers are `| words | modules | meaning |`.
#[test]
fn the_words_of_the_helpers_are_in_their_modules() {
    let text = read(&repository().join("tests/README.md"));
    let table = text.split("| word | module | meaning |").nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("| "));
    let mut missing = Vec::new();
    let mut count = 0;
    for row in rows {
        let mut columns = row.split(" | ");
        let words = code_spans(columns.next().unwrap());
        let modules = code_spans(columns.next().unwrap());
        let code: String = modules
            .iter()
            .map(|module| repository().join(format!("tests/suite/support/{module}.rs")))
            .map(|file| read(&file))
            .collect();
        for word in words {
            if !declares(&code, word.trim_end_matches("()")) {
                missing.push(format!("no {word} in {}", modules.join(", ")));
            }
        }
        count += 1;
    }
    assert!(count > 10, "the table of helpers was not found");
    assert!(
        missing.is_empty(),
        "tests/README.md: {}",
        missing.join("\n")
    );
}
