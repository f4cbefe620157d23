//! Images as real tools make them, in OCI layouts on the disk: no registry, no daemon, no container storage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The tools that make these images.
const TOOLS: [&str; 2] = ["umoci", "skopeo"];

/// A directory of images.
pub(crate) struct Images {
    directory: TempDir,
    bundles: usize,
}

impl Images {
    /// `None`, with a printed reason, if a tool is missing.
    pub(crate) fn new() -> Option<Self> {
        for tool in TOOLS {
            if Command::new(tool).arg("--version").output().is_err() {
                super::skipped(&format!("{tool} is not installed"));
                return None;
            }
        }
        let images = Self {
            directory: tempfile::tempdir().unwrap(),
            bundles: 0,
        };
        images.run("umoci", &["init", "--layout", "made"]);
        images.run("umoci", &["new", "--image", "made:image"]);
        Some(images)
    }

    /// Adds a layer: what `change` does to the root directory.
    pub(crate) fn layer(&mut self, change: impl FnOnce(&Path)) {
        self.bundles += 1;
        let bundle = format!("bundle-{}", self.bundles);
        let image = ["--image", "made:image", &bundle];
        self.run("umoci", &[&["unpack", "--rootless"], &image[..]].concat());
        change(&self.directory.path().join(&bundle).join("rootfs"));
        self.run("umoci", &[&["repack"], &image[..]].concat());
    }

    /// Copies the image to another layout with its layers packed anew; returns the layout.
    pub(crate) fn repacked(&self, compression: &str) -> PathBuf {
        let to = format!("oci:{compression}:image");
        self.run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "--dest-compress",
                "--dest-compress-format",
                compression,
                "oci:made:image",
                &to,
            ],
        );
        self.directory.path().join(compression)
    }

    /// The layout that umoci made, its layers gzipped.
    pub(crate) fn layout(&self) -> PathBuf {
        self.directory.path().join("made")
    }

    fn run(&self, tool: &str, arguments: &[&str]) {
        let output = Command::new(tool)
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?}: {message}");
    }
}

/// The digest, in hexadecimal digits, of the only manifest in a layout.
pub(crate) fn manifest(layout: &Path) -> String {
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    digest.strip_prefix("sha256:").unwrap().to_owned()
}
