//! Where we are stricter than the runtimes on purpose.

/// What we refuse although every runtime accepts it: a part of the message, and the reason.
pub(super) const STRICTER: &[(&str, &str)] = &[
    (
        "the key is there twice",
        "Go takes the last one without a word; whoever reads the file may take the first",
    ),
    (
        "and libcni ignores case",
        "the spelling decides which one libcni takes, and each plugin decides for itself",
    ),
    (
        "it overrides the version",
        "a null overrides nothing, but then the key says nothing either",
    ),
    (
        "beyond 2^53",
        "libcni passes numbers on as 64-bit floats, so the plugin gets another one",
    ),
    (
        "not UTF-8",
        "Go puts U+FFFD in its place, which nobody meant",
    ),
    (
        "half of a \\u surrogate pair",
        "Go puts U+FFFD in its place, which nobody meant",
    ),
    (
        "it nests deeper",
        "nothing real does, and a plugin's own JSON reader may not follow",
    ),
    (
        "ADD can fail with a name of",
        "175 to 185 bytes work with eth0, but not with the longest interface names",
    ),
    (
        "read it as the result of an earlier plugin",
        "the recorded plugins ignore prevResult; real ones believe it",
    ),
];

/// The same, where only generated files show it.
pub(super) const STRICTER_STILL: &[(&str, &str)] = &[
    (
        "is a directory reference",
        "libcni leaves ipam.type to the plugin, which finds no such binary",
    ),
    (
        "it has no dst",
        "host-local drops such a route without a word with CNI versions before 0.3.0, and with IPv4 only",
    ),
    (
        "a name is one path component",
        "the same; and no binary that anybody ships has control characters in its name",
    ),
    (
        "which the kernel refuses",
        "host-local takes such a route, and the plugin that calls it then cannot set it",
    ),
    ("the kernel refuses such a route", "the same"),
    ("the kernel refuses this scope", "the same"),
    (
        "]: it is null, which host-local refuses",
        "host-local takes it, and the plugin that calls it crashes",
    ),
    (
        "ptp needs another gateway",
        "host-local gives both, and ptp then cannot set the second",
    ),
    (
        "host-local ignores case",
        "of two spellings host-local takes the one that sorts last",
    ),
];
