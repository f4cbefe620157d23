//! The kinds of failures of a download, as metrics, logs and machine-readable outputs label them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why an artifact could not be fetched, verified or unpacked. Each kind has one stable label: [`Self::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The host name does not resolve; at boot that is often a matter of seconds.
    Dns,
    /// No TCP connection: refused, unreachable.
    Connect,
    /// A time limit passed: connecting, silence within the answer, or the attempt as a whole.
    Timeout,
    /// The connection broke.
    Reset,
    /// What answered does not speak HTTP properly.
    Protocol,
    /// The body ended before its announced end.
    Truncated,
    /// Less than the least throughput over a whole window.
    TooSlow,
    /// An answer with this status, which is not the one asked for.
    Status(u16),
    /// The server's certificate leads to no authority that is trusted here.
    TlsUnknownCa,
    /// The server's certificate is not valid at this time.
    TlsExpired,
    /// The server's certificate is for another name.
    TlsName,
    /// TLS failed in another way.
    Tls,
    /// A redirect that is not followed.
    Redirect,
    /// More bytes than the limit allows.
    TooLarge,
    /// All bytes came and they are not the pinned ones.
    Digest,
    /// The source is not a URL that can be fetched.
    Url,
    /// A `file://` source cannot be read, or the operating system refused something else.
    Io,
    /// A seed does not hold the blob.
    NotInSeed,
    /// The extra certificate authorities of the configuration cannot be used.
    CaFile,
    /// The server asks for credentials that it was not given, or refuses those that it was given.
    Auth,
    /// No connection to the proxy, or none through it.
    Proxy,
    /// The proxy asks for credentials that it was not given, or refuses those that it was given.
    ProxyAuth,
    /// The environment names a proxy that cannot be used.
    ProxySetting,
    /// What a registry gave under the pinned digest is no image that can be used here.
    Image,
    /// A signature is missing, or is not by the declared key over these bytes.
    Signature,
    /// A list of pins cannot be read, or does not list the artifact.
    PinList,
    /// A checksum file does not hold the artifact's checksum.
    Checksum,
    /// The downloaded bytes cannot be kept on this node.
    Spool,
    /// The archive is damaged, or not of its declared format.
    Archive,
    /// The archive unpacks to more than a limit allows.
    ArchiveTooLarge,
    /// The archive can be read in two ways.
    ArchiveAmbiguous,
    /// A wanted member is not a regular file.
    MemberType,
    /// A wanted member is there more than once.
    MemberTwice,
    /// A wanted member is not there.
    MemberMissing,
    /// The path of a wanted member leads through too many links.
    MemberLinks,
    /// A wanted member cannot run on this node.
    MemberNotAPlugin,
    /// A wanted member does not match its own pin.
    MemberDigest,
    /// A layer of an image is neither a tar nor a file with a name.
    LayerNameless,
    /// The node gives no thread.
    Thread,
}

impl FailureKind {
    /// The stable label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Truncated => "truncated",
            Self::TooSlow => "too-slow",
            Self::Status(_) => "http-status",
            Self::TlsUnknownCa => "tls-unknown-ca",
            Self::TlsExpired => "tls-expired",
            Self::TlsName => "tls-name",
            Self::Tls => "tls",
            Self::Redirect => "redirect",
            Self::TooLarge => "too-large",
            Self::Digest => "digest",
            Self::Url => "url",
            Self::Io => "io",
            Self::NotInSeed => "not-in-seed",
            Self::CaFile => "ca-file",
            Self::Auth => "auth",
            Self::Proxy => "proxy",
            Self::ProxyAuth => "proxy-auth",
            Self::ProxySetting => "proxy-setting",
            Self::Image => "image",
            Self::Signature => "signature",
            Self::PinList => "pin-list",
            Self::Checksum => "checksum",
            Self::Spool => "spool",
            Self::Archive => "archive",
            Self::ArchiveTooLarge => "archive-too-large",
            Self::ArchiveAmbiguous => "archive-ambiguous",
            Self::MemberType => "member-type",
            Self::MemberTwice => "member-twice",
            Self::MemberMissing => "member-missing",
            Self::MemberLinks => "member-links",
            Self::MemberNotAPlugin => "member-not-a-plugin",
            Self::MemberDigest => "member-digest",
            Self::LayerNameless => "layer-nameless",
            Self::Thread => "thread",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FailureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
