//! The forms that single values of a plugin's configuration can have.

use serde_json::Number;

/// The longest name of an interface, in bytes (`IFNAMSIZ` less the NUL).
pub(super) const LONGEST_LINK_NAME: usize = 15;

/// The number that Go reads into an integer; none if it does not. It comes as libcni writes it: from a 64-bit float, with
/// an exponent from 1e21 on.
pub(super) fn as_go_integer(number: &Number) -> Option<i128> {
    let value = number.as_f64()?;
    (value.fract() == 0.0 && value.abs() < 1e19).then_some(value as i128)
}

/// Whether the kernel gives a new interface this name (`dev_valid_name`). It tests bytes, and takes 0xa0 for a space. A
/// percent sign asks it for a number, and the plugin then does not find the interface.
pub(super) fn is_link_name(name: &str) -> bool {
    let is_bad = |byte: u8| matches!(byte, 0 | 9..=13 | b' ' | b'/' | b':' | b'%' | 0xa0);
    !matches!(name, "" | "." | "..") && name.len() <= LONGEST_LINK_NAME && !name.bytes().any(is_bad)
}

/// Whether Go reads six bytes of it (`net.ParseMAC`) and the kernel gives them to an interface: no group address, and not
/// zero.
pub(super) fn is_mac(text: &str) -> bool {
    let (separator, digits) = match text.len() {
        17 if text.as_bytes()[2] == b'-' => ('-', 2),
        17 => (':', 2),
        14 => ('.', 4),
        _ => return false,
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let is_hex =
        |group: &&str| group.len() == digits && group.bytes().all(|b| b.is_ascii_hexdigit());
    let first = text
        .get(..2)
        .and_then(|byte| u8::from_str_radix(byte, 16).ok());
    groups.len() * digits == 12
        && groups.iter().all(is_hex)
        && first.is_some_and(|byte| byte & 1 == 0)
        && text
            .bytes()
            .any(|byte| matches!(byte, b'1'..=b'9' | b'a'..=b'f' | b'A'..=b'F'))
}

/// Whether it is the same, written with colons.
pub(super) fn is_mac_with_colons(text: &str) -> bool {
    is_mac(text) && text.contains(':')
}

/// Whether iptables takes it for the name of a chain.
pub(super) fn is_chain_name(name: &str) -> bool {
    name.len() <= 28 && !name.starts_with(['-', '!']) && !name.contains(char::is_whitespace)
}

/// Whether the dhcp plugin knows it.
pub(super) fn is_dhcp_option(text: &str, or_empty: bool) -> bool {
    const NAMES: [&str; 6] = [
        "dhcp-client-identifier",
        "subnet-mask",
        "routers",
        "host-name",
        "user-class",
        "vendor-class-identifier",
    ];
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u8>().is_ok();
    NAMES.contains(&text) || is_number || (or_empty && text.is_empty())
}

/// Whether the path of the parameter stays below `/proc/sys/net`. A dot separates, so that `..` is nothing special.
pub(super) fn is_net_sysctl(key: &str) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    let key = key.replace('.', "/");
    parts.extend(key.split('/').filter(|part| !part.is_empty()));
    parts.len() > 1 && parts[0] == "net"
}
