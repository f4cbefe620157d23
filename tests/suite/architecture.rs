//! The layout is a feature: imports run one way, between rooms and inside them, the pure rooms stay pure, and there is
//! one way to the disk.

mod modules;

use std::collections::{BTreeMap, BTreeSet};

use modules::{ModulePath, Modules};

/// The rooms from the ground up. A room may import from lower floors only, never from its own.
pub(crate) const FLOORS: &[&[&str]] = &[
    &["model"],
    &["redact", "trust"],
    &["cli", "config", "cni", "plan", "retry", "view"],
    &["page"],
    &["host"],
    &["fetch", "store", "telemetry", "watch"],
    &["kube", "probe", "runtime"],
    &["reconcile"],
    &["bundle", "daemon"],
    &["http"],
    &["commands"],
];

/// Rooms that decide and never do: no clock, no process, no network, no kernel.
const PURE: &[&str] = &[
    "model", "config", "cni", "page", "plan", "redact", "retry", "trust", "view",
];

/// What a pure room may not name.
const EFFECTS: &[&str] = &[
    "nix",
    "reqwest",
    "std::env::var",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::process",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "tokio",
];

/// What only `host` may name: the file-system calls of std, tokio and nix.
const DISK: &[&str] = &[
    "nix::dir",
    "nix::fcntl",
    "nix::sys::stat",
    "nix::unistd",
    "std::fs",
    "tokio::fs",
];

/// What lives beside the file-system calls and is none.
const NO_DISK: &str = "nix::unistd::Pid";

#[test]
fn every_room_stands_on_a_floor_and_imports_point_down() {
    let floors = FLOORS.iter().enumerate();
    let floor_of: BTreeMap<&str, usize> = floors
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    let modules = Modules::read();
    let mut wrong = Vec::new();
    for (module, uses) in modules.dependencies() {
        let Some(own) = floor_of.get(room(module)) else {
            wrong.push(format!(
                "{}: no floor is named for this room",
                shown(module)
            ));
            continue;
        };
        let others = uses.into_iter().filter(|used| room(used) != room(module));
        let upwards =
            others.filter(|used| floor_of.get(room(used)).is_none_or(|floor| floor >= own));
        wrong.extend(upwards.map(|used| format!("{} imports {}", shown(module), shown(used))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let modules = Modules::read();
    let uses = modules.dependencies();
    let reached: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = uses
        .keys()
        .map(|module| (*module, reachable(module, &uses)))
        .collect();
    let circles: BTreeSet<String> = reached
        .iter()
        .filter(|(module, reach)| reach.contains(*module))
        .map(|(module, reach)| {
            let both_ways = reach
                .iter()
                .filter(|other| reached[*other].contains(module));
            let names: Vec<String> = both_ways.map(|module| shown(module)).collect();
            names.join(", ")
        })
        .collect();
    let circles: Vec<String> = circles.into_iter().collect();
    assert!(
        circles.is_empty(),
        "files that import each other, directly or by way of others:\n{}",
        circles.join("\n")
    );
}

#[test]
fn pure_rooms_have_no_effects() {
    forbid(|room| PURE.contains(&room), EFFECTS);
}

#[test]
fn only_host_touches_the_disk() {
    forbid(|room| room != "host", DISK);
}

fn forbid(applies: impl Fn(&str) -> bool, forbidden: &[&str]) {
    let modules = Modules::read();
    let mut wrong = Vec::new();
    for (path, module) in modules.iter().filter(|(path, _)| applies(room(path))) {
        let names: BTreeSet<String> = module.names().map(|name| name.join("::")).collect();
        let bad = names.iter().filter(|name| !is_below(name, NO_DISK));
        let bad = bad.filter(|name| forbidden.iter().any(|path| is_below(name, path)));
        wrong.extend(
            bad.map(|name| format!("{} ({}): names {name}", shown(path), module.file.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything that a module uses, directly or by way of others.
fn reachable<'a>(
    module: &ModulePath,
    uses: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
) -> BTreeSet<&'a ModulePath> {
    let mut pending: Vec<&ModulePath> = uses[module].iter().copied().collect();
    let mut reached = BTreeSet::new();
    while let Some(next) = pending.pop() {
        if let Some((known, further)) = uses.get_key_value(next)
            && reached.insert(*known)
        {
            pending.extend(further);
        }
    }
    reached
}

fn room(module: &ModulePath) -> &str {
    &module[0]
}

fn shown(module: &ModulePath) -> String {
    module.join("::")
}

/// Whether a name is a path or lies below it.
fn is_below(name: &str, path: &str) -> bool {
    let rest = name.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
