//! The kinds of failures of a download, as metrics, logs and machine-readable outputs label them.

use super::label_enum;

label_enum! {
    /// Why an artifact could not be fetched, verified or unpacked. Each kind has one stable label: [`Self::as_str`].
    pub enum FailureKind {
        /// The host name does not resolve; at boot that is often a matter of seconds.
        Dns = "dns",
        /// No TCP connection: refused, unreachable.
        Connect = "connect",
        /// A time limit passed: connecting, silence within the answer, or the attempt as a whole.
        Timeout = "timeout",
        /// The connection broke.
        Reset = "reset",
        /// The answer is not valid HTTP.
        Protocol = "protocol",
        /// The body ended before its announced end.
        Truncated = "truncated",
        /// The throughput was below the minimum for a whole window.
        TooSlow = "too-slow",
        /// An answer with this status, which is not the requested file.
        Status(u16) = "http-status",
        /// The server's certificate was not issued by an authority that is trusted here.
        TlsUnknownCa = "tls-unknown-ca",
        /// The server's certificate is not valid at this time.
        TlsExpired = "tls-expired",
        /// The server's certificate is for another name.
        TlsName = "tls-name",
        /// TLS failed in another way.
        Tls = "tls",
        /// A redirect that is not followed.
        Redirect = "redirect",
        /// More bytes than the limit allows.
        TooLarge = "too-large",
        /// All bytes arrived, and their digest is not the pinned one.
        Digest = "digest",
        /// The source is not a URL that can be fetched.
        Url = "url",
        /// A `file://` source cannot be read, or the operating system refused something else.
        Io = "io",
        /// A seed does not hold the blob.
        NotInSeed = "not-in-seed",
        /// The extra certificate authorities of the configuration cannot be used.
        CaFile = "ca-file",
        /// The server asks for credentials that it was not given, or refuses those that it was given.
        Auth = "auth",
        /// No connection to the proxy, or none through it.
        Proxy = "proxy",
        /// The proxy asks for credentials that it was not given, or refuses those that it was given.
        ProxyAuth = "proxy-auth",
        /// The environment names a proxy that cannot be used.
        ProxySetting = "proxy-setting",
        /// The content under the pinned digest is not an image that can be used here.
        Image = "image",
        /// A signature is missing, or is not by the declared key over these bytes.
        Signature = "signature",
        /// A list of pins cannot be read, or does not list the artifact.
        PinList = "pin-list",
        /// A checksum file does not hold the artifact's checksum.
        Checksum = "checksum",
        /// The downloaded bytes cannot be stored on this node.
        Spool = "spool",
        /// The archive is damaged, or not of its declared format.
        Archive = "archive",
        /// The archive unpacks to more than a limit allows.
        ArchiveTooLarge = "archive-too-large",
        /// The archive can be read in two ways.
        ArchiveAmbiguous = "archive-ambiguous",
        /// A wanted member is not a regular file.
        MemberType = "member-type",
        /// A wanted member is there more than once.
        MemberTwice = "member-twice",
        /// A wanted member is not there.
        MemberMissing = "member-missing",
        /// The path of a wanted member leads through too many links.
        MemberLinks = "member-links",
        /// A wanted member cannot run on this node.
        MemberNotAPlugin = "member-not-a-plugin",
        /// A wanted member does not match its own pin.
        MemberDigest = "member-digest",
        /// A layer of an image is neither a tar nor a file with a name.
        LayerNameless = "layer-nameless",
        /// The node cannot start a thread.
        Thread = "thread",
    }
}
