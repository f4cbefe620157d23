//! Plugins out of images that real tools made: umoci for layers with links and whiteouts, skopeo for zstd.

use std::os::unix::fs::symlink;
use std::path::Path;

use cni_keeper::fetch::{
    FetchError, SharedServerHealth, SourceOptions, UnpackLimits, download, read_members,
};
use cni_keeper::model::{Format, Member, Pin, Sha256};

use crate::fetch::{TempSpool, artifact, means, settings};
use crate::support::images::{Images, manifest};
use crate::support::release::{arch, other_build, plugin};

/// Takes `(path, plugin)` out of the image in a layout, which is used as a seed.
fn take(layout: &Path, wanted: &[(&str, &str)]) -> Result<Vec<(Vec<String>, Sha256)>, FetchError> {
    let mut image = artifact(&[], Pin::sha256(&manifest(layout)).unwrap());
    image.format = Format::Image;
    image.arch = arch();
    let members = wanted.iter().map(|(path, plugin)| Member {
        path: (*path).to_owned(),
        plugin: plugin.parse().unwrap(),
        sha256: None,
    });
    image.members = members.collect();
    let (settings, health, seeds) = (
        settings(),
        SharedServerHealth::default(),
        [layout.to_owned()],
    );
    let means = SourceOptions {
        seeds: &seeds,
        ..means(&settings, &health)
    };
    let (image_files, _) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(download(&image, &means, &|| Ok(TempSpool::new())))?;
    let mut taken = Vec::new();
    let keep = |plugins: &[&Member], content: Vec<u8>| {
        let (names, digest) = (plugins.iter(), Sha256::of(&content));
        taken.push((names.map(|it| it.plugin.to_string()).collect(), digest));
        Ok(digest)
    };
    let limits = UnpackLimits::default();
    read_members(image_files, &image, &limits, || Ok(Vec::new()), keep).unwrap();
    Ok(taken)
}

/// Faults 50 and 51: links, replaced files and deleted ones, as real layers have them, in gzip and in zstd.
#[test]
fn fault_51_plugins_come_out_of_an_image_as_a_container_would_see_them() {
    let Some(mut images) = Images::new() else {
        return;
    };
    images.layer(|root| {
        let bin = root.join("opt/cni/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("install"), plugin("bridge")).unwrap();
        std::fs::hard_link(bin.join("install"), bin.join("calico")).unwrap();
        std::fs::write(bin.join("ptp"), plugin("ptp")).unwrap();
        std::fs::write(bin.join("loopback"), plugin("loopback")).unwrap();
        symlink("/opt/cni/bin", root.join("plugins")).unwrap();
        symlink("opt/cni/../cni/bin", root.join("roundabout")).unwrap();
    });
    images.layer(|root| {
        let bin = root.join("opt/cni/bin");
        std::fs::remove_file(bin.join("ptp")).unwrap();
        std::fs::write(bin.join("loopback"), other_build("loopback")).unwrap();
        symlink("../cni/bin/install", bin.join("../weave")).unwrap();
    });
    let bridge = Sha256::of(&plugin("bridge"));
    for layout in [images.layout(), images.repacked("zstd")] {
        let taken = take(
            &layout,
            &[
                ("opt/cni/bin/install", "bridge"),
                ("plugins/calico", "calico"),
                ("/opt/cni/weave", "weave"),
                ("plugins/loopback", "loopback"),
            ],
        )
        .unwrap();
        let all = ["bridge", "calico", "weave"].map(str::to_owned).to_vec();
        let newer = Sha256::of(&other_build("loopback"));
        assert_eq!(taken, [(vec!["loopback".to_owned()], newer), (all, bridge)]);

        let gone = take(&layout, &[("plugins/ptp", "ptp")]).unwrap_err();
        assert_eq!(gone.kind().as_str(), "member-missing");
        let message = gone.to_string();
        assert!(
            message.contains("has no 'plugins/ptp'; '/opt/cni/bin' holds"),
            "{message}"
        );
        let round = take(&layout, &[("roundabout/install", "bridge")]).unwrap_err();
        assert!(round.to_string().contains("down and up again"), "{round}");
    }
}
