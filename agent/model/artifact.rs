//! What an operator declares to be fetched: artifacts, the plugins in them, and the architecture.

use std::str::FromStr;

use super::{Pin, PluginName, Sha256, label_enum};

label_enum! {
    /// A CPU architecture by the name that Go, Kubernetes and the upstream releases use.
    pub enum Arch {
        /// x86-64.
        Amd64 = "amd64",
        /// 32-bit ARM, little-endian.
        Arm = "arm",
        /// 64-bit ARM.
        Arm64 = "arm64",
        /// 64-bit MIPS, little-endian.
        Mips64le = "mips64le",
        /// 64-bit POWER, little-endian.
        Ppc64le = "ppc64le",
        /// 64-bit RISC-V.
        Riscv64 = "riscv64",
        /// IBM Z, big-endian.
        S390x = "s390x",
    }
}

/// The text is not the name of an architecture for which upstream publishes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an architecture; known are amd64, arm, arm64, mips64le, ppc64le, riscv64, s390x"
)]
pub struct UnknownArch(pub String);

impl Arch {
    /// The architecture that this program was built for, which is the node's.
    ///
    /// # Errors
    /// When this program was built for an architecture without upstream releases.
    pub fn of_this_program() -> Result<Self, UnknownArch> {
        match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
            ("x86_64", _) => Ok(Self::Amd64),
            ("arm", true) => Ok(Self::Arm),
            ("aarch64", true) => Ok(Self::Arm64),
            ("mips64", true) => Ok(Self::Mips64le),
            ("powerpc64", true) => Ok(Self::Ppc64le),
            ("riscv64", _) => Ok(Self::Riscv64),
            ("s390x", _) => Ok(Self::S390x),
            (other, _) => Err(UnknownArch(other.to_owned())),
        }
    }
}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(text: &str) -> Result<Self, UnknownArch> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.as_str() == text)
            .ok_or_else(|| UnknownArch(text.to_owned()))
    }
}

label_enum! {
    /// How an artifact's bytes are packed.
    pub enum Format {
        /// A tar archive, gzipped (`.tgz`, `.tar.gz`).
        TarGz = "tar.gz",
        /// A plain tar archive.
        Tar = "tar",
        /// The plugin itself.
        Raw = "raw",
        /// A container image or OCI artifact: members are files of its file system, whichever layer they come from.
        Image = "image",
    }
}

impl Format {
    /// The formats that a file can have. An image is recognised by its source.
    pub const OF_FILES: [Self; 3] = [Self::TarGz, Self::Tar, Self::Raw];
}

label_enum! {
    /// What to do if a plugin of that name exists already and is not ours.
    #[derive(Default)]
    pub enum IfPresent {
        /// Put the declared one in its place.
        #[default]
        Replace = "replace",
        /// Keep the node image's own file. Place only what is missing.
        Keep = "keep",
    }
}

/// One plugin of an artifact: which archive member it is, and the name it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member's path in the archive or image, without a leading `./` or `/`; not used for [`Format::Raw`].
    pub path: String,
    /// The name that it gets in the bin directory.
    pub plugin: PluginName,
    /// A pin for the unpacked file, if the operator gave one.
    pub sha256: Option<Sha256>,
}

/// A small file beside an artifact that is declared by its URL and has no pin of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Companion {
    /// The URL as declared. A seed finds the file by it.
    pub url: String,
    /// Where it is downloaded from, in order: mirrors, then the URL itself.
    pub sources: Vec<String>,
}

/// An artifact as declared, with `{version}`, `{arch}` and `{os}` already filled in for this node.
///
/// By default its digest is known, so that it may be downloaded. In the configuration the digest may be one that a
/// signed list gives: see [`crate::trust::DeclaredPin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact<P = Pin> {
    /// The operator's name for it, unique in a configuration.
    pub name: String,
    /// The version, for people. The pin decides what is accepted.
    pub version: String,
    /// The architecture that its binaries must have.
    pub arch: Arch,
    /// The digest of the artifact as downloaded. For an image: of the index or manifest that its reference names.
    pub pin: P,
    /// `https://`, `http://` or `file://` URLs, in the order in which they are tried. For an image:
    /// `oci://REGISTRY/REPOSITORY@DIGEST`.
    pub sources: Vec<String>,
    /// How it is packed.
    pub format: Format,
    /// What happens to a plugin that is there already.
    pub if_present: IfPresent,
    /// The plugins wanted from it, never empty.
    pub members: Vec<Member>,
}

impl<P> Artifact<P> {
    /// The same artifact with another pin.
    #[must_use]
    pub fn with_pin<Q>(&self, pin: Q) -> Artifact<Q> {
        Artifact {
            name: self.name.clone(),
            version: self.version.clone(),
            arch: self.arch,
            pin,
            sources: self.sources.clone(),
            format: self.format,
            if_present: self.if_present,
            members: self.members.clone(),
        }
    }
}
