//! Fault 51 with arbitrary bytes: no panic, and nothing unwanted reaches the sink.

use cni_keeper::fetch::UnpackLimits;
use cni_keeper::model::{Arch, Format};
use proptest::prelude::*;

use super::archives::{Keep, read_as, wants_bridge};
use crate::support::archive::{Tar, binary, gzip};

proptest! {
    #![proptest_config(ProptestConfig {
        // Failures are to be reproduced from the seed that is printed; no file is left in the tree.
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    /// Fault 51: arbitrary bytes, as a tar.gz, inside of one, and as a tar.
    #[test]
    fn fault_51_arbitrary_bytes_never_reach_the_sink(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        form in 0..3,
    ) {
        let mut artifact = wants_bridge();
        let packed = match form {
            0 => bytes,
            1 => gzip(&bytes),
            _ => {
                artifact.format = Format::Tar;
                bytes
            }
        };
        let mut keep = Keep::default();
        prop_assert!(read_as(artifact, &packed, &UnpackLimits::default(), &mut keep).is_err());
        prop_assert!(keep.0.is_empty());
    }

    /// Fault 51: a good tar with a few bytes of its headers changed, their checksums repaired or not.
    #[test]
    fn fault_51_changed_headers_never_smuggle(
        changes in prop::collection::vec((0_usize..512 * 6, any::<u8>()), 1..4),
        fix in any::<bool>(),
    ) {
        let mut tar = Tar::new()
            .pax(&[("path", "bridge")])
            .file("decoy", &binary(Arch::Amd64, 100))
            .file("other", b"evil")
            .bytes();
        for (place, value) in changes {
            tar[place] = value;
        }
        for block in [0, 2, 4].into_iter().filter(|_| fix) {
            let bytes = &mut tar[block * 512..][..512];
            let mut header = tar::Header::from_byte_slice(bytes).clone();
            header.set_cksum();
            bytes.copy_from_slice(header.as_bytes());
        }
        let mut artifact = wants_bridge();
        artifact.format = Format::Tar;
        let mut keep = Keep::default();
        let outcome = read_as(artifact, &tar, &UnpackLimits::default(), &mut keep);
        prop_assert!(keep.0.len() <= 1);
        for taken in keep.0.iter().filter(|taken| taken.digest.is_some()) {
            prop_assert_eq!(&taken.plugins, &["bridge"]);
        }
        if outcome.is_ok() {
            prop_assert!(keep.0.len() == 1 && keep.0[0].digest.is_some());
        }
    }
}
