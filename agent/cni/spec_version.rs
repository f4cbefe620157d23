//! Versions of the CNI specification, compared as libcni compares them.

/// Every version of the specification. A plugin's answer to VERSION names some of them.
pub const SPEC_VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// What an absent or empty `cniVersion` means to libcni and to every plugin (`version.ParseVersion`).
pub(super) const UNDECLARED: &str = "0.1.0";

/// The newest version of the specification. libcni 1.1 takes no result of it.
pub(super) const NEWEST: &str = "1.1.0";

/// The newest version that libcni 1.2 and later support. They skip newer entries of `cniVersions`.
const CURRENT: SpecVersion = (1, 1, 0);

type SpecVersion = (i64, i64, i64);

/// Reads a version as `version.ParseVersion` does: one to three integers, signs and leading zeros included.
fn parse_version(text: &str) -> Option<SpecVersion> {
    if text.is_empty() {
        return Some((0, 1, 0));
    }
    let mut parts = text.split('.').map(|part| part.parse::<i64>().ok());
    let number = (
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
        parts.next().unwrap_or(Some(0))?,
    );
    parts.next().is_none().then_some(number)
}

/// Whether one version is older than the other. What is no version is older than every one.
pub(super) fn precedes(one: &str, other: &str) -> bool {
    parse_version(one) < parse_version(other)
}

/// Whether it is a version of the specification.
pub(super) fn is_spec_version(text: &str) -> bool {
    SPEC_VERSIONS.contains(&text)
}

/// What libcni 1.2 and later do with an entry of `cniVersions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionEntry {
    /// It can be selected.
    Candidate,
    /// It is newer than libcni supports, so it is skipped.
    Newer,
    /// It is not a version, so the whole conflist is refused.
    Unreadable,
}

pub(super) fn classify_version(text: &str) -> VersionEntry {
    match parse_version(text) {
        None => VersionEntry::Unreadable,
        Some(number) if number > CURRENT => VersionEntry::Newer,
        Some(_) => VersionEntry::Candidate,
    }
}

/// The version that libcni 1.2 and later select from `cniVersions` and `cniVersion`: the highest one that they support.
/// Among equal ones (`1` and `1.0.0`), the first listed one. If they support none, `cniVersion` itself.
pub(super) fn select_version<'a>(listed: &[&'a str], declared: &'a str) -> &'a str {
    let declared_too = Some(declared).filter(|version| !version.is_empty());
    let mut best: Option<(SpecVersion, &str)> = None;
    for text in listed.iter().copied().chain(declared_too) {
        if let Some(number) = parse_version(text).filter(|number| *number <= CURRENT)
            && best.is_none_or(|(highest, _)| number > highest)
        {
            best = Some((number, text));
        }
    }
    best.map_or(declared, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_loosely_as_libcni_reads_them() {
        assert_eq!(parse_version("1"), Some((1, 0, 0)));
        assert_eq!(parse_version("1.0"), Some((1, 0, 0)));
        assert_eq!(parse_version("-1.+2.007"), Some((-1, 2, 7)));
        for bad in [
            "banana", " 1.0.0", "1.0.0.0", "1..0", "１.0.0", "1.0.0+b", "v1",
        ] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_highest_spoken_version_is_selected() {
        assert_eq!(select_version(&["1.0.0", "1.1.0"], "1.0.0"), "1.1.0");
        assert_eq!(select_version(&["0.3.1"], "0.4.0"), "0.4.0");
        assert_eq!(select_version(&["9.9.9"], ""), "");
        assert_eq!(select_version(&["9.9.9"], "2.0.0"), "2.0.0");
        assert_eq!(select_version(&["1", "1.0.0"], "1.0"), "1");
        assert_eq!(classify_version("1.1.1"), VersionEntry::Newer);
    }
}
