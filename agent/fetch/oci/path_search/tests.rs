//! Compares the search with cases written by hand, and with a naive model that applies all layers in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One entry of a layer: a kind by its first letter (`f`ile, `d`irectory, `s`ymlink, `h`ard link, `c`haracter device,
/// `w`hiteout as written), the path, and what a link points to.
type Entry<'a> = (char, &'a str, &'a str);

fn kind<'a>(letter: char, target: &'a str) -> TarEntryKind<'a> {
    match letter {
        'd' => TarEntryKind::Directory,
        's' => TarEntryKind::Symlink(target.as_bytes()),
        'h' => TarEntryKind::HardLink(target.as_bytes()),
        'c' => TarEntryKind::Other("a device"),
        _ => TarEntryKind::File,
    }
}

/// Searches `layers`, the topmost first; tells the layer and the path, or `None` where no layer has it.
fn search(
    wanted: &str,
    layers: &[Vec<Entry<'_>>],
) -> Result<Option<(usize, String)>, ArchiveError> {
    let mut search = PathSearch::new(wanted);
    loop {
        let Some(layer) = layers.get(search.layer()) else {
            return Ok(None);
        };
        for (letter, path, target) in layer {
            search.add_entry(path, kind(*letter, target))?;
        }
        match search.end_layer()? {
            SearchStep::Open => {}
            SearchStep::Found(found) => return Ok(Some((found.layer, found.path))),
            SearchStep::Missing => return Ok(None),
        }
    }
}

#[track_caller]
fn found(wanted: &str, layers: &[Vec<Entry<'_>>], layer: usize, path: &str) {
    let found = search(wanted, layers).unwrap();
    assert_eq!(found, Some((layer, path.to_owned())));
}

#[track_caller]
fn missing(wanted: &str, layers: &[Vec<Entry<'_>>]) {
    assert_eq!(search(wanted, layers).unwrap(), None);
}

#[track_caller]
fn refused(wanted: &str, layers: &[Vec<Entry<'_>>]) -> &'static str {
    match search(wanted, layers).unwrap_err() {
        ArchiveError::NotAFile { kind, .. } => kind,
        ArchiveError::Ambiguous(what) => what,
        ArchiveError::Twice(_) => "twice",
        ArchiveError::Links(_) => "links",
        other => panic!("{other}"),
    }
}

#[test]
fn the_uppermost_file_counts() {
    let low = vec![('f', "bin/a", ""), ('f', "bin/b", "")];
    let layers = [vec![('f', "etc/x", "")], vec![('f', "bin/a", "")], low];
    found("/bin/a", &layers, 1, "bin/a");
    found("bin/b", &layers, 2, "bin/b");
    missing("bin/c", &layers);
    missing("bin/../bin/a", &layers);
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_beside_them() {
    let low = vec![('d', "opt", ""), ('f', "opt/bin/a", "")];
    for hides in [
        "opt/bin/.wh.a",
        "opt/.wh.bin",
        ".wh.opt",
        "opt/bin/.wh..wh..opq",
        ".wh..wh..opq",
    ] {
        missing("opt/bin/a", &[vec![('w', hides, "")], low.clone()]);
        // Wherever it stands in its own layer.
        for beside in [
            vec![('w', hides, ""), ('f', "opt/bin/a", "")],
            vec![('f', "opt/bin/a", ""), ('w', hides, "")],
        ] {
            found("opt/bin/a", &[beside, low.clone()], 0, "opt/bin/a");
        }
    }
    for spares in [
        "opt/bin/.wh.b",
        "opt/bin/.wh.",
        "opt/bin/a/.wh..wh..opq",
        ".wh.bin",
        "opt/.wh..wh.plnk",
        ".wh.opt/bin",
    ] {
        found(
            "opt/bin/a",
            &[vec![('w', spares, "")], low.clone()],
            1,
            "opt/bin/a",
        );
    }
}

#[test]
fn links_are_followed_in_the_image_as_it_is_at_last() {
    let low = vec![
        ('f', "usr/lib/a", ""),
        ('s', "lib", "usr/lib"),
        ('s', "lib64", "/usr/../lib"),
    ];
    found("lib/a", std::slice::from_ref(&low), 0, "usr/lib/a");
    // A newer file behind an older link.
    let layers = [vec![('f', "usr/lib/a", "")], low.clone()];
    found("lib/a", &layers, 0, "usr/lib/a");
    // What is replaced by a directory leads nowhere any more.
    missing("lib/a", &[vec![('d', "lib", "")], low.clone()]);
    assert_eq!(refused("lib64/a", &[low]), "a link leads down and up again");
}

/// Fault 51: out of the image's root there is no way.
#[test]
fn fault_51_a_link_stays_in_the_image() {
    let layers = [vec![
        ('s', "bin/a", "../../../../etc/a"),
        ('s', "bin/b", "/etc/a"),
        ('s', "bin/c", "/"),
        ('h', "bin/d", "../../etc/a"),
        ('f', "etc/a", ""),
    ]];
    found("bin/a", &layers, 0, "etc/a");
    found("bin/b", &layers, 0, "etc/a");
    assert_eq!(refused("bin/c", &layers), "a directory");
    assert_eq!(refused("bin/d", &layers), "a hard link out of the image");
}

/// Fault 51: loops end.
#[test]
fn fault_51_loops_end() {
    let layers = [vec![
        ('s', "a", "b"),
        ('s', "b", "a"),
        ('h', "c", "c"),
        ('s', "d", "d/d"),
        ('s', "e", "../../e"),
    ]];
    for looping in ["a", "a/x", "c", "d/x", "e"] {
        assert_eq!(refused(looping, &layers), "links", "{looping}");
    }
}

#[test]
fn a_hard_link_means_what_was_there_when_its_layer_was_laid() {
    let layers = [
        vec![('f', "a", "")],
        vec![
            ('h', "b", "a"),
            ('h', "late", "only-above"),
            ('h', "s2", "s"),
        ],
        vec![('f', "a", ""), ('s', "s", "a")],
    ];
    found("b", &layers, 2, "a");
    missing(
        "late",
        &[
            vec![('f', "only-above", "")],
            layers[1].clone(),
            layers[2].clone(),
        ],
    );
    // The other name of a symbolic link is one, and is read in the image as it is at last.
    found("s2", &layers, 0, "a");
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link_under_another_name() {
    let layers = [vec![
        ('f', "a/a", ""),
        ('s', "b", "a"),
        ('h', "c", "b"),
        ('f', "x/a/a", ""),
        ('h', "x/c", "b"),
        ('h', "d", "a/a"),
    ]];
    found("c/a", &layers, 0, "a/a");
    found("x/c/a", &layers, 0, "x/a/a");
    missing("d/a", &layers);
    // What the target of the link is, the image as it is at last decides; which link it is, its layer.
    let newer = vec![('f', "b", ""), ('f', "a/a", "")];
    found("c/a", &[newer, layers[0].clone()], 0, "a/a");
    missing("c/a", &[vec![('d', "c", "")], layers[0].clone()]);
}

/// Fault 51: what is there and is no file, and what is there in two ways.
#[test]
fn fault_51_other_kinds_and_contradictions_are_refused() {
    let low = vec![('f', "bin/a", "")];
    assert_eq!(
        refused("bin/a", &[vec![('d', "bin/a", "")], low.clone()]),
        "a directory"
    );
    assert_eq!(
        refused("bin/a", &[vec![('c', "bin/a", "")], low.clone()]),
        "a device"
    );
    missing("bin/a", &[vec![('f', "bin", "")], low.clone()]);
    missing("bin/a", &[vec![('c', "bin", "")], low]);
    for both in [
        [('f', "bin/a", ""), ('f', "bin/a", "")],
        [('s', "bin", "x"), ('d', "bin", "")],
        [('f', "bin/a", ""), ('d', "bin/a", "")],
    ] {
        assert_eq!(refused("bin/a", &[both.to_vec()]), "twice");
    }
    let below_a_link = vec![('s', "bin", "sbin"), ('f', "bin/a", "")];
    assert_eq!(
        refused("bin/a", &[below_a_link]),
        "something lies below a link"
    );
    let twice = vec![('d', "bin", ""), ('d', "bin", ""), ('f', "bin/a", "")];
    found("bin/a", &[twice], 0, "bin/a");
}

/// What the naive model has at a path.
#[derive(Clone, Debug)]
enum Node {
    Directory(BTreeMap<String, Node>),
    /// Which layer brought it, from the bottom, and under which path.
    File(usize, String),
    Symlink(String),
    /// A hard link to nothing.
    Broken,
}

/// A layer as a builder makes one: every directory is named, and each path once.
#[derive(Clone, Debug, Default)]
struct Laid {
    whiteouts: Vec<String>,
    /// By path, so that directories come before what is in them.
    entries: BTreeMap<String, (char, String)>,
}

fn directory<'a>(root: &'a mut Node, path: &[&str]) -> Option<&'a mut BTreeMap<String, Node>> {
    let Node::Directory(children) = root else {
        return None;
    };
    match path {
        [] => Some(children),
        [first, rest @ ..] => directory(children.get_mut(*first)?, rest),
    }
}

/// Follows the parents of `path`, and what it is itself only if `last`.
fn walk(root: &Node, path: &str, last: bool) -> Option<Node> {
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut trail: Vec<Node> = vec![root.clone()];
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part.is_empty() || part == "." {
            continue;
        }
        if part == ".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        let Node::Directory(children) = trail.last()? else {
            return None;
        };
        match children.get(&part)?.clone() {
            Node::Symlink(target) if last || !left.is_empty() => {
                links += 1;
                if links > 40 {
                    return None;
                }
                if target.starts_with('/') {
                    trail.truncate(1);
                }
                left.extend(target.split('/').rev().map(str::to_owned));
            }
            node => trail.push(node),
        }
    }
    trail.pop()
}

fn lay(root: &mut Node, number: usize, layer: &Laid) {
    for path in &layer.whiteouts {
        let parts: Vec<&str> = path.split('/').collect();
        let (name, parent) = parts.split_last().unwrap();
        let Some(children) = directory(root, parent) else {
            continue;
        };
        match *name {
            OPAQUE => children.clear(),
            name => drop(children.remove(&name[WHITEOUT.len()..])),
        }
    }
    let (links, others): (Vec<_>, Vec<_>) = layer.entries.iter().partition(|(_, e)| e.0 == 'h');
    // What a link takes the place of goes before any link is made: a link to it would be one to nothing.
    for (path, _) in &links {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
        if let Some(children) = directory(root, &parent) {
            children.remove(name);
        }
    }
    for (path, (letter, target)) in others.into_iter().chain(links) {
        let node = match letter {
            'd' => Node::Directory(BTreeMap::new()),
            's' => Node::Symlink(target.clone()),
            'h' => match walk(root, target, false) {
                Some(Node::Directory(_)) | None => Node::Broken,
                Some(node) => node,
            },
            _ => Node::File(number, path.clone()),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let (name, parent) = parts.split_last().unwrap();
        let children = directory(root, parent).unwrap();
        if !(*letter == 'd' && matches!(children.get(*name), Some(Node::Directory(_)))) {
            children.insert((*name).to_owned(), node);
        }
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|parts| parts.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    (
        prop::sample::select(&["", "/", "../", "../../", "./"][..]),
        path(),
    )
        .prop_map(|(lead, path)| format!("{lead}{path}"))
}

fn layer() -> impl Strategy<Value = Laid> {
    let entry = (
        prop::sample::select(&['f', 'f', 'd', 's', 'h'][..]),
        path(),
        target(),
        path(),
    );
    let whiteout = (path(), any::<bool>());
    let entries = prop::collection::vec(entry, 0..5);
    (entries, prop::collection::vec(whiteout, 0..3)).prop_map(|(entries, whiteouts)| {
        let mut layer = Laid::default();
        for (letter, path, target, hard) in entries {
            let target = if letter == 'h' { hard } else { target };
            add(&mut layer, &path, letter, &target);
        }
        // Whether a link to another is made before or after it: builders know, the search does not ask.
        let kinds = layer.entries.clone();
        layer.entries.retain(|_, (letter, target)| {
            *letter != 'h' || kinds.get(target).is_none_or(|(kind, _)| *kind != 'h')
        });
        for (path, opaque) in whiteouts {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let name = if opaque {
                OPAQUE.to_owned()
            } else {
                format!("{WHITEOUT}{name}")
            };
            // What deletes names its directory as well.
            if parent.is_empty() {
                layer.whiteouts.push(name);
            } else if add(&mut layer, parent, 'd', "") {
                layer.whiteouts.push(format!("{parent}/{name}"));
            }
        }
        layer
    })
}

/// Adds what can be there beside what is there already.
fn add(layer: &mut Laid, path: &str, letter: char, target: &str) -> bool {
    let parents: Vec<&str> = path
        .match_indices('/')
        .map(|(end, _)| &path[..end])
        .collect();
    let is_directory = |path: &str| layer.entries.get(path).is_none_or(|(kind, _)| *kind == 'd');
    let is_free = match layer.entries.get(path) {
        None => true,
        Some((kind, _)) => *kind == 'd' && letter == 'd',
    };
    if !is_free || !parents.iter().all(|parent| is_directory(parent)) {
        return false;
    }
    for parent in parents {
        layer
            .entries
            .insert(parent.to_owned(), ('d', String::new()));
    }
    layer
        .entries
        .insert(path.to_owned(), (letter, target.to_owned()));
    true
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(3000)
    })]

    /// Fault 51: whatever links, whiteouts and replacements there are, what is found is what a container would see.
    #[test]
    fn fault_51_the_search_finds_what_the_layers_make_together(
        layers in prop::collection::vec(layer(), 1..5),
        wanted in path(),
    ) {
        let mut root = Node::Directory(BTreeMap::new());
        for (number, layer) in layers.iter().enumerate() {
            lay(&mut root, number, layer);
        }
        let expected = match walk(&root, &wanted, true) {
            Some(Node::File(number, path)) => Some((layers.len() - 1 - number, path)),
            _ => None,
        };
        let shown: Vec<Vec<Entry<'_>>> = layers
            .iter()
            .rev()
            .map(|layer| {
                let whiteouts = layer.whiteouts.iter().map(|path| ('w', path.as_str(), ""));
                let entries = layer.entries.iter();
                entries
                    .map(|(path, (letter, target))| (*letter, path.as_str(), target.as_str()))
                    .chain(whiteouts)
                    .collect()
            })
            .collect();
        let found = search(&wanted, &shown).unwrap_or(None);
        prop_assert_eq!(found, expected);
    }
}
