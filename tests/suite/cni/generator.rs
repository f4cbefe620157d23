//! Conflists that are right, nearly right and wrong in every way that a JSON reader can stumble over.

use fastrand::Rng;

use super::ipam::CALLERS;

/// A JSON document that may hold what no JSON library writes: duplicate keys, numbers beyond all limits, bytes that are
/// not UTF-8.
#[derive(Debug, Clone)]
enum Tree {
    /// Text that is written as it is, right or wrong.
    Token(Vec<u8>),
    List(Vec<Tree>),
    /// Keys are written between quotes and as they are.
    Object(Vec<(Vec<u8>, Tree)>),
}

const NAMES: [&str; 16] = [
    "net",
    "a.b-c_d",
    "0",
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/",
    "-a",
    ".a",
    "a b",
    "ü",
    "net\\u0000",
    "a\\n",
    "NET",
];
const TYPES: [&str; 18] = [
    "bridge",
    "portmap",
    "bandwidth",
    "host-local",
    "flannel",
    "calico-ipam",
    "tuning",
    "",
    ".",
    "..",
    "a/b",
    "/bridge",
    "a\\\\b",
    "bridge ",
    "ü",
    "a\\u0000b",
    "bridge.exe",
    "\\ud800",
];
const VERSIONS: [&str; 26] = [
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.3.1",
    "0.4.0",
    "1.0.0",
    "1.1.0",
    "1.2.0",
    "2.0.0",
    "0.5.0",
    "1.0",
    "1",
    "",
    "banana",
    "1.0.0.0",
    " 1.0.0",
    "v1.0.0",
    "1.0.0-rc1",
    "01.00.00",
    "-1.0.0",
    "+1.1.0",
    "1..0",
    "1.1.1",
    "1.0.5",
    "0.0.0",
    "9223372036854775808.0.0",
];
const FLAGS: [&str; 15] = [
    "true",
    "false",
    "\"true\"",
    "\"false\"",
    "\"TRUE\"",
    "\"False\"",
    "\"yes\"",
    "\"\"",
    "1",
    "0",
    "null",
    "[]",
    "{}",
    "\" true\"",
    "\"\u{212a}\"",
];
/// Values of every kind, for any place.
const TOKENS: [&str; 36] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1e2",
    "1E400",
    "-1e400",
    "1e-999",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "01",
    "+1",
    ".5",
    "1.",
    "0x10",
    "NaN",
    "tru",
    "nul",
    "\"\"",
    "\"1\"",
    "\"true\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\udc00\\ud800\"",
    "\"\\x\"",
    "\"\\u00e9\"",
    "\"\t\"",
    "'x'",
    "[]",
    "{}",
];
/// Keys that libcni reads, or whose spelling comes near, or that it writes itself.
const KEYS: [&str; 40] = [
    "name",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "plugins",
    "type",
    "capabilities",
    "ipam",
    "dns",
    "prevResult",
    "args",
    "runtimeConfig",
    "cni.dev/valid-attachments",
    "cni.dev/x",
    "nameservers",
    "domain",
    "search",
    "options",
    "containerID",
    "ifname",
    "mtu",
    "",
    "Type",
    "TYPE",
    "Name",
    "NAME",
    "CNIVersion",
    "cniversion",
    "IPAM",
    "DNS",
    "Plugins",
    "capabilitie\u{17f}",
    "\u{212a}ey",
    "dn\u{17f}",
    "di\u{17f}ableCheck",
    "typ\\u0065",
    "t\\u0079pe",
    "ıpam",
];

/// A conflist, or whatever became of it.
pub(super) fn conflist(rng: &mut Rng) -> Vec<u8> {
    let tree = base_list(rng);
    mutated(tree, rng)
}

/// A configuration of a single plugin, or whatever became of it.
pub(super) fn single(rng: &mut Rng) -> Vec<u8> {
    let mut members = members(base_plugin(rng));
    let fixed = [
        ("name", NAMES[rng.usize(..4)]),
        ("cniVersion", VERSIONS[rng.usize(..7)]),
    ];
    for (key, text) in fixed {
        if !one_in(rng, 6) {
            members.push((key.into(), quoted(text)));
        }
    }
    rng.shuffle(&mut members);
    mutated(Tree::Object(members), rng)
}

/// A conflist of this network that libcni loads, with plugins that are usually among `plugins`.
pub(super) fn right_list(network: &str, plugins: &[&str], rng: &mut Rng) -> Vec<u8> {
    let chain = (0..=rng.usize(..2))
        .map(|_| object([("type", quoted(pick(plugins, rng)))]))
        .collect();
    let list = object([
        ("name", quoted(network)),
        ("cniVersion", quoted(VERSIONS[rng.usize(..7)])),
        ("plugins", Tree::List(chain)),
    ]);
    written(&list, rng)
}

/// The same as the configuration of a single plugin.
pub(super) fn right_single(network: &str, plugins: &[&str], rng: &mut Rng) -> Vec<u8> {
    let plugin = object([
        ("name", quoted(network)),
        ("cniVersion", quoted(VERSIONS[rng.usize(..7)])),
        ("type", quoted(pick(plugins, rng))),
    ]);
    written(&plugin, rng)
}

/// A conflist with one plugin that has host-local as its IPAM plugin, rightly configured or not.
pub(super) fn with_host_local(rng: &mut Rng) -> Vec<u8> {
    let mut ipam = vec![("type".into(), quoted("host-local"))];
    if !one_in(rng, 4) {
        let sets = (0..[0, 1, 1, 1, 1, 2, 2, 3][rng.usize(..8)])
            .map(|_| range_set(rng))
            .collect();
        ipam.push(("ranges".into(), Tree::List(sets)));
    }
    if one_in(rng, 3) {
        ipam.extend(members(range(rng)));
    }
    if one_in(rng, 3) {
        let routes = (0..rng.usize(..3)).map(|_| route(rng)).collect();
        ipam.push(("routes".into(), Tree::List(routes)));
    }
    for key in ["dataDir", "resolvConf", "name", "subnets", "x"] {
        if one_in(rng, 12) {
            let value = if rng.bool() {
                quoted("x")
            } else {
                any_value(rng)
            };
            ipam.push((key.into(), value));
        }
    }
    let mut tree = Tree::Object(ipam);
    for _ in 0..[0, 0, 0, 1, 2][rng.usize(..5)] {
        let nodes = count_nodes(&tree);
        change_range(&mut tree, &mut rng.usize(..nodes), rng);
    }
    let plugin = object([("type", quoted(pick(&CALLERS, rng))), ("ipam", tree)]);
    let list = object([
        ("name", quoted("net")),
        ("cniVersion", quoted(VERSIONS[rng.usize(..7)])),
        ("plugins", Tree::List(vec![plugin])),
    ]);
    written(&list, rng)
}

const SUBNETS: [&str; 27] = [
    "10.1.0.0/24",
    "10.1.0.0/25",
    "10.1.0.128/25",
    "10.1.1.0/24",
    "10.1.0.0/16",
    "10.1.0.0/30",
    "10.1.0.4/30",
    "0.0.0.0/0",
    "255.255.255.252/30",
    "fd00::/64",
    "fd00::/126",
    "fd00:0:0:1::/64",
    "::/0",
    "10.1.0.0/31",
    "10.1.0.0/32",
    "fd00::/127",
    "10.1.0.5/24",
    "fd00::5/64",
    "10.1.0.0",
    "10.1.0/24",
    "",
    "010.1.0.0/24",
    "10.1.0.0/024",
    "::ffff:10.1.0.0/120",
    "fd00::%1/64",
    "usePodCidr",
    "10.1.0.0/+24",
];
const ADDRESSES: [&str; 24] = [
    "10.1.0.0",
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.10",
    "10.1.0.127",
    "10.1.0.128",
    "10.1.0.254",
    "10.1.0.255",
    "10.1.1.1",
    "255.255.255.253",
    "255.255.255.255",
    "fd00::",
    "fd00::1",
    "fd00::2",
    "fd00::3",
    "fd00::ffff",
    "fd00:0:0:1::1",
    "::ffff:10.1.0.7",
    "",
    "10.1.0",
    "010.1.0.1",
    "fd00::1%eth0",
    "x",
];

fn range_set(rng: &mut Rng) -> Tree {
    let count = [0, 1, 1, 1, 1, 2, 2, 3][rng.usize(..8)];
    Tree::List((0..count).map(|_| range(rng)).collect())
}

fn range(rng: &mut Rng) -> Tree {
    let mut range = Vec::new();
    if !one_in(rng, 20) {
        let usual = if one_in(rng, 5) { SUBNETS.len() } else { 13 };
        range.push(("subnet".into(), quoted(SUBNETS[rng.usize(..usual)])));
    }
    for key in ["rangeStart", "rangeEnd", "gateway"] {
        if one_in(rng, 4) {
            let usual = if one_in(rng, 8) { ADDRESSES.len() } else { 20 };
            range.push((key.into(), quoted(ADDRESSES[rng.usize(..usual)])));
        }
    }
    Tree::Object(range)
}

fn route(rng: &mut Rng) -> Tree {
    let mut route = Vec::new();
    if !one_in(rng, 10) {
        route.push(("dst".into(), quoted(pick(&SUBNETS, rng))));
    }
    if one_in(rng, 3) {
        route.push(("gw".into(), quoted(pick(&ADDRESSES, rng))));
    }
    for key in ["mtu", "advmss", "priority", "table", "scope"] {
        if one_in(rng, 8) {
            let number = [
                "0",
                "1400",
                "-1",
                "1e3",
                "1.5",
                "1e20",
                "9223372036854775807",
                "\"1\"",
                "null",
            ];
            route.push((key.into(), token(pick(&number, rng))));
        }
    }
    Tree::Object(route)
}

/// Changes the node with this number, with what is usual in ranges more often than with anything.
fn change_range(tree: &mut Tree, number: &mut usize, rng: &mut Rng) {
    if one_in(rng, 2) {
        change_node(tree, number, rng);
    } else if let Tree::Object(members) = tree
        && !members.is_empty()
    {
        let at = rng.usize(..members.len());
        members[at].1 = match rng.u32(..6) {
            0 => quoted(pick(&SUBNETS, rng)),
            1 => quoted(pick(&ADDRESSES, rng)),
            2 => range(rng),
            3 => range_set(rng),
            4 => Tree::List(vec![range_set(rng)]),
            _ => token(pick(
                &[
                    "null", "{}", "[]", "[[]]", "[{}]", "[null]", "[[null]]", "7",
                ],
                rng,
            )),
        };
    }
}

fn base_list(rng: &mut Rng) -> Tree {
    let mut list = vec![
        ("name".into(), quoted(NAMES[rng.usize(..3)])),
        ("cniVersion".into(), quoted(VERSIONS[rng.usize(..7)])),
    ];
    if one_in(rng, 3) {
        list.push(("cniVersions".into(), some_versions(rng)));
    }
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        if one_in(rng, 5) {
            list.push((key.into(), token(FLAGS[rng.usize(..2)])));
        }
    }
    let plugins = (0..=rng.usize(..3)).map(|_| base_plugin(rng)).collect();
    list.push(("plugins".into(), Tree::List(plugins)));
    if one_in(rng, 4) {
        rng.shuffle(&mut list);
    }
    Tree::Object(list)
}

fn some_versions(rng: &mut Rng) -> Tree {
    let count = rng.usize(..4);
    Tree::List(
        (0..count)
            .map(|_| quoted(VERSIONS[rng.usize(..9)]))
            .collect(),
    )
}

fn base_plugin(rng: &mut Rng) -> Tree {
    let mut plugin = vec![("type".into(), quoted(TYPES[rng.usize(..7)]))];
    if one_in(rng, 2) {
        let subnet = object([("subnet", quoted("10.244.0.0/24"))]);
        let ranges = Tree::List(vec![Tree::List(vec![subnet])]);
        plugin.push((
            "ipam".into(),
            object([("type", quoted("host-local")), ("ranges", ranges)]),
        ));
    }
    if one_in(rng, 3) {
        plugin.push((
            "capabilities".into(),
            object([("portMappings", token(FLAGS[rng.usize(..2)]))]),
        ));
    }
    if one_in(rng, 5) {
        let servers = Tree::List(vec![quoted("10.96.0.10")]);
        plugin.push((
            "dns".into(),
            object([("nameservers", servers), ("domain", quoted("x"))]),
        ));
    }
    if one_in(rng, 3) {
        plugin.push(("mtu".into(), token("1450")));
    }
    Tree::Object(plugin)
}

/// What a value at this key may be: usually one that nearly fits.
fn value_for(key: &[u8], rng: &mut Rng) -> Tree {
    if one_in(rng, 3) {
        return any_value(rng);
    }
    match key.to_ascii_lowercase().as_slice() {
        b"name" | b"domain" => quoted(pick(&NAMES, rng)),
        b"cniversion" => quoted(pick(&VERSIONS, rng)),
        b"cniversions" => {
            let count = rng.usize(..15);
            Tree::List((0..count).map(|_| quoted(pick(&VERSIONS, rng))).collect())
        }
        b"type" => quoted(pick(&TYPES, rng)),
        b"disablecheck" | b"disablegc" | b"loadonlyinlinedplugins" => token(pick(&FLAGS, rng)),
        b"plugins" => Tree::List((0..rng.usize(..3)).map(|_| base_plugin(rng)).collect()),
        b"nameservers" | b"search" | b"options" | b"cni.dev/valid-attachments" => {
            Tree::List(vec![any_value(rng)])
        }
        b"capabilities" | b"ipam" | b"dns" | b"prevresult" | b"args" | b"runtimeconfig" => {
            let key = pick(&KEYS, rng);
            object([(key, any_value(rng))])
        }
        _ => any_value(rng),
    }
}

fn any_value(rng: &mut Rng) -> Tree {
    match rng.u32(..24) {
        0 => Tree::List(vec![any_value(rng)]),
        1 => object([(pick(&KEYS, rng), any_value(rng))]),
        2 => Tree::Token(b"\"\xff\xfe\"".to_vec()),
        3 => Tree::Token([b"\"", "x".repeat(160 + rng.usize(..40)).as_bytes(), b"\""].concat()),
        4 if one_in(rng, 8) => nested(rng),
        _ => token(pick(&TOKENS, rng)),
    }
}

/// Around our own limit of nesting, and sometimes around Go's.
fn nested(rng: &mut Rng) -> Tree {
    let depth = if one_in(rng, 4) {
        9_980 + rng.usize(..30)
    } else {
        55 + rng.usize(..15)
    };
    let (open, close) = if rng.bool() {
        ("[", "]")
    } else {
        ("{\"a\":", "}")
    };
    token(&format!("{}0{}", open.repeat(depth), close.repeat(depth)))
}

/// The document after some changes to its tree and, sometimes, to its bytes.
fn mutated(mut tree: Tree, rng: &mut Rng) -> Vec<u8> {
    for _ in 0..[0, 1, 1, 1, 2, 3][rng.usize(..6)] {
        let nodes = count_nodes(&tree);
        change_node(&mut tree, &mut rng.usize(..nodes), rng);
    }
    let mut text = written(&tree, rng);
    if one_in(rng, 5) {
        change_bytes(&mut text, rng);
    }
    text
}

fn count_nodes(tree: &Tree) -> usize {
    1 + match tree {
        Tree::Token(_) => 0,
        Tree::List(elements) => elements.iter().map(count_nodes).sum(),
        Tree::Object(members) => members.iter().map(|(_, value)| count_nodes(value)).sum(),
    }
}

/// Changes the node with this number, counted from the root.
fn change_node(tree: &mut Tree, number: &mut usize, rng: &mut Rng) -> bool {
    if *number == 0 {
        change(tree, rng);
        return true;
    }
    *number -= 1;
    match tree {
        Tree::Token(_) => false,
        Tree::List(elements) => elements.iter_mut().any(|one| change_node(one, number, rng)),
        Tree::Object(members) => members
            .iter_mut()
            .any(|(_, value)| change_node(value, number, rng)),
    }
}

fn change(tree: &mut Tree, rng: &mut Rng) {
    match tree {
        Tree::Object(members) if !members.is_empty() && !one_in(rng, 8) => {
            change_member(members, rng);
        }
        Tree::List(elements) if !elements.is_empty() && !one_in(rng, 4) => {
            let at = rng.usize(..elements.len());
            match rng.u32(..4) {
                0 => drop(elements.remove(at)),
                1 => elements.push(elements[at].clone()),
                2 => elements[at] = any_value(rng),
                _ => elements.push(any_value(rng)),
            }
        }
        other => *other = any_value(rng),
    }
}

fn change_member(members: &mut Vec<(Vec<u8>, Tree)>, rng: &mut Rng) {
    let at = rng.usize(..members.len());
    let key = members[at].0.clone();
    match rng.u32(..9) {
        0 => drop(members.remove(at)),
        // Twice, in one spelling or in two.
        1 => members.push((key.clone(), value_for(&key, rng))),
        2 => members.push((respelled(&key, rng), value_for(&key, rng))),
        3 => members.insert(0, (respelled(&key, rng), value_for(&key, rng))),
        4 => members[at].0 = respelled(&key, rng),
        5 => members[at].0 = pick(&KEYS, rng).into(),
        6 => {
            let key = pick(&KEYS, rng).as_bytes();
            members.push((key.to_vec(), value_for(key, rng)));
        }
        _ => members[at].1 = value_for(&key, rng),
    }
}

/// The key in another case, or with a character that Go folds into the same.
fn respelled(key: &[u8], rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..5) {
        0 => key.to_ascii_uppercase(),
        1 => key.to_ascii_lowercase(),
        2 => {
            let flip = |byte: u8| {
                if rng.bool() {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                }
            };
            key.iter().copied().map(flip).collect()
        }
        3 => {
            let text = String::from_utf8_lossy(key);
            text.replace('s', "\u{17f}")
                .replace('k', "\u{212a}")
                .into_bytes()
        }
        _ => key
            .iter()
            .flat_map(|byte| format!("\\u{byte:04x}").into_bytes())
            .collect(),
    }
}

fn change_bytes(text: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..=text.len());
    let end = (at + rng.usize(..20)).min(text.len());
    match rng.u32(..10) {
        0 => text.truncate(at),
        1 => drop(text.drain(at..end)),
        2 => {
            let piece = text[at..end].to_vec();
            text.splice(at..at, piece);
        }
        3 => drop(text.splice(..0, *b"\xef\xbb\xbf")),
        4 => text.insert(at, rng.u8(..)),
        5 if at < text.len() => text[at] = rng.u8(..),
        6 => text.push(pick(&[0, b'\n', b' ', b'x', b'}', 0xff, 0x1a, 0x0c], rng)),
        7 => text.insert(at, pick(b",:{}[]\"\\/#\x00\x0b\x0c\x7f\xa0\xff", rng)),
        8 => drop(text.splice(at..at, *b"// x\n")),
        _ => text.insert(0, pick(b" \t\r\n\x0b\x0c\x00\xa0", rng)),
    }
}

fn written(tree: &Tree, rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::new();
    let space = pick(&["", " ", "\n  ", "\t\r\n"], rng);
    write(tree, space.as_bytes(), &mut text);
    text
}

fn write(tree: &Tree, space: &[u8], text: &mut Vec<u8>) {
    match tree {
        Tree::Token(token) => text.extend_from_slice(token),
        Tree::List(elements) => {
            text.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                text.extend_from_slice(if index == 0 { b"" } else { b"," });
                text.extend_from_slice(space);
                write(element, space, text);
            }
            text.push(b']');
        }
        Tree::Object(members) => {
            text.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                text.extend_from_slice(if index == 0 { b"" } else { b"," });
                text.extend_from_slice(space);
                text.extend_from_slice(&[b"\"", key.as_slice(), b"\":"].concat());
                write(value, space, text);
            }
            text.push(b'}');
        }
    }
}

fn object<const N: usize>(members: [(&str, Tree); N]) -> Tree {
    Tree::Object(members.map(|(key, value)| (key.into(), value)).into())
}

fn members(tree: Tree) -> Vec<(Vec<u8>, Tree)> {
    match tree {
        Tree::Object(members) => members,
        other => vec![(b"x".to_vec(), other)],
    }
}

fn token(text: &str) -> Tree {
    Tree::Token(text.into())
}

fn quoted(text: &str) -> Tree {
    token(&format!("\"{text}\""))
}

pub(super) fn pick<T: Copy>(from: &[T], rng: &mut Rng) -> T {
    from[rng.usize(..from.len())]
}

pub(super) fn one_in(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}
