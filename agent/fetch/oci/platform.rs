//! Chooses the manifest for this node from an index. Pure.

use super::manifest::{BlobDescriptor, ImageError, IndexEntry, Platform};
use crate::fetch::unpack::MAX_LISTED_NAMES;
use crate::model::{Arch, Pin, escape_name};

/// The manifest, or inner index, of `entries` for Linux on `arch`.
///
/// An index of one manifest that names no platform is that one. What stands first goes before its equals, as it does
/// for containerd.
pub(super) fn choose_manifest(
    pin: Pin,
    entries: Vec<IndexEntry>,
    arch: Arch,
) -> Result<BlobDescriptor, ImageError> {
    let rank = |entry: &IndexEntry| match &entry.platform {
        Some(platform) => rank_platform(platform, arch),
        None => None,
    };
    let best = entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| Some((rank(entry)?, entry.nested, index)))
        .min();
    let mut anonymous = (0..entries.len()).filter(|index| entries[*index].platform.is_none());
    let chosen = match (best, anonymous.next(), anonymous.next()) {
        (Some((_, _, index)), _, _) | (None, Some(index), None) => index,
        (None, _, _) => {
            let there = list_platforms(&entries);
            return Err(ImageError::Platform { pin, arch, there });
        }
    };
    let mut entries = entries;
    Ok(entries.swap_remove(chosen).manifest)
}

/// How well a platform fits; the lowest is best. `None` does not run here, or is no image: attestations of an image
/// are listed for the platform unknown/unknown.
fn rank_platform(platform: &Platform, arch: Arch) -> Option<u32> {
    if platform.os != "linux" || platform.architecture != arch.as_str() {
        return None;
    }
    let version = platform
        .variant
        .as_deref()
        .map(|variant| variant.strip_prefix('v').and_then(|v| v.parse().ok()));
    Some(match (arch, version) {
        // Every node of Kubernetes on 32-bit ARM has v7, and what is built for it is the faster.
        (Arch::Arm, Some(Some(version))) if version <= 7 => 7 - version,
        // Without a variant, Go builds for v5.
        (Arch::Arm, None) => 3,
        // Of all others the least demanding is what runs everywhere.
        (Arch::Arm, _) => 100,
        (_, None) => 0,
        (_, Some(Some(version))) => 1_u32.saturating_add(version),
        (_, Some(None)) => 100,
    })
}

fn list_platforms(entries: &[IndexEntry]) -> String {
    let mut names: Vec<String> = Vec::new();
    for platform in entries.iter().filter_map(|entry| entry.platform.as_ref()) {
        if platform.os == "unknown" {
            continue;
        }
        let variant = platform.variant.iter().map(|variant| format!("/{variant}"));
        let name = format!("{}/{}", platform.os, platform.architecture);
        let name: String = [name].into_iter().chain(variant).collect();
        let name = escape_name(&name, 40);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return "none that names its platform".to_owned();
    }
    let more = names.len().saturating_sub(MAX_LISTED_NAMES);
    names.truncate(MAX_LISTED_NAMES);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::oci::manifest::{ManifestDocument, parse_manifest};

    const PIN: Pin = Pin::Sha256([9; 32]);

    /// Picks from an index whose entries are `os/arch/variant`, or `-` for one without; gives its place.
    fn pick(platforms: &[&str], arch: Arch) -> Result<usize, String> {
        let entries: Vec<String> = platforms
            .iter()
            .enumerate()
            .map(|(index, platform)| {
                let mut parts = platform.split('/');
                let mut part = || parts.next().unwrap_or_default();
                let variant = |v: &str| match v {
                    "" => String::new(),
                    v => format!(r#","variant":"{v}""#),
                };
                let platform = match *platform {
                    "-" => String::new(),
                    _ => format!(
                        r#","platform":{{"os":"{}","architecture":"{}"{}}}"#,
                        part(),
                        part(),
                        variant(part())
                    ),
                };
                let digest = Pin::Sha256([index as u8; 32]);
                format!(r#"{{"digest":"{digest}","size":1{platform}}}"#)
            })
            .collect();
        let text = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        let ManifestDocument::Index(entries) = parse_manifest(PIN, text.as_bytes()).unwrap() else {
            panic!("not an index");
        };
        match choose_manifest(PIN, entries, arch) {
            Ok(chosen) => match chosen.pin {
                Pin::Sha256(bytes) => Ok(bytes[0].into()),
                Pin::Sha512(_) => panic!("another digest"),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_platform_is_this_nodes() {
        let many = [
            "unknown/unknown",
            "windows/amd64",
            "linux/amd64",
            "linux/arm64/v8",
            "linux/s390x",
        ];
        for (arch, place) in [(Arch::Amd64, 2), (Arch::Arm64, 3), (Arch::S390x, 4)] {
            assert_eq!(pick(&many, arch), Ok(place));
        }
        let error = pick(&many, Arch::Riscv64).unwrap_err();
        assert!(error.contains("no image for linux/riscv64"), "{error}");
        let there = "it has windows/amd64, linux/amd64, linux/arm64/v8, linux/s390x";
        assert!(error.ends_with(there), "{error}");
        assert!(
            pick(&[], Arch::Amd64)
                .unwrap_err()
                .ends_with("none that names its platform")
        );
    }

    #[test]
    fn the_best_variant_is_the_highest_of_arm_and_the_lowest_of_all_others() {
        let arm = [
            "linux/arm/v5",
            "linux/arm",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm/v8",
        ];
        assert_eq!(pick(&arm, Arch::Arm), Ok(3));
        assert_eq!(pick(&arm[..3], Arch::Arm), Ok(2));
        assert_eq!(pick(&arm[..2], Arch::Arm), Ok(0));
        let amd = [
            "linux/amd64/v3",
            "linux/amd64/v2",
            "linux/amd64",
            "linux/amd64",
        ];
        assert_eq!(pick(&amd, Arch::Amd64), Ok(2));
        assert_eq!(pick(&amd[..2], Arch::Amd64), Ok(1));
    }

    #[test]
    fn one_without_a_platform_is_taken_only_if_nothing_else_can_be_meant() {
        assert_eq!(pick(&["-"], Arch::Amd64), Ok(0));
        assert_eq!(pick(&["-", "linux/amd64"], Arch::Amd64), Ok(1));
        assert_eq!(pick(&["linux/arm64", "-"], Arch::Amd64), Ok(1));
        assert!(pick(&["-", "-"], Arch::Amd64).is_err());
    }
}
