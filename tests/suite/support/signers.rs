//! Signatures by the real minisign and the real openssl.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Whether the tools are installed; prints which one is missing.
pub(crate) fn has_tools() -> bool {
    let missing = ["minisign", "openssl"].into_iter().find(|tool| {
        let there = Command::new(tool).arg("-v").output();
        there.is_err()
    });
    if let Some(tool) = missing {
        super::skipped(&format!("{tool} is not installed"));
    }
    missing.is_none()
}

/// A minisign key.
pub(crate) struct ListSigner(TempDir);

impl ListSigner {
    pub(crate) fn new() -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        let mut generate = Command::new("minisign");
        generate.arg("-GWf").arg("-p").arg(signer.file("pub"));
        run(generate.arg("-s").arg(signer.file("sec")));
        signer
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The line that begins with RW.
    pub(crate) fn public_key(&self) -> String {
        let file = fs::read_to_string(self.file("pub")).unwrap();
        file.lines().last().unwrap().to_owned()
    }

    pub(crate) fn sign(&self, list: &str) -> Vec<u8> {
        self.signed(list, &[])
    }

    /// Signs as minisign before 0.10 did: over the list itself.
    pub(crate) fn sign_as_before_0_10(&self, list: &str) -> Vec<u8> {
        self.signed(list, &["-l"])
    }

    fn signed(&self, list: &str, flags: &[&str]) -> Vec<u8> {
        fs::write(self.file("list"), list).unwrap();
        let mut sign = Command::new("minisign");
        sign.arg("-S").args(flags).arg("-s").arg(self.file("sec"));
        sign.args(["-t", "a trusted comment"]);
        sign.arg("-x").arg(self.file("sig"));
        run(sign.arg("-m").arg(self.file("list")));
        fs::read(self.file("sig")).unwrap()
    }
}

/// A key for artifacts.
pub(crate) struct BlobSigner(TempDir);

impl BlobSigner {
    /// As `cosign generate-key-pair` makes them.
    pub(crate) fn new() -> Self {
        Self::of(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    /// Of any kind that openssl knows.
    pub(crate) fn of(kind: &[&str]) -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        let mut generate = Command::new("openssl");
        generate.arg("genpkey").args(kind);
        run(generate.arg("-out").arg(signer.file("key")));
        signer
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// In PEM, each line behind so many blanks.
    pub(crate) fn public_key(&self, indent: usize) -> String {
        let mut print = Command::new("openssl");
        let pem = run(print.args(["pkey", "-pubout", "-in"]).arg(self.file("key")));
        let lines = pem.lines();
        lines
            .map(|line| format!("{}{line}\n", " ".repeat(indent)))
            .collect()
    }

    /// In base64, as cosign writes it to a file.
    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        fs::write(self.file("blob"), bytes).unwrap();
        let mut sign = Command::new("openssl");
        sign.args(["dgst", "-sha256", "-sign"])
            .arg(self.file("key"));
        run(sign
            .arg("-out")
            .arg(self.file("der"))
            .arg(self.file("blob")));
        let mut encode = Command::new("openssl");
        run(encode.args(["base64", "-A", "-in"]).arg(self.file("der")))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
