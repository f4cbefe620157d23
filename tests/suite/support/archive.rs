//! Archives for tests, valid and malicious.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use cni_keeper::model::Arch;

/// A tar that is being written. Paths are written as given: the `tar` crate would refuse the malicious ones.
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The members that a real upstream archive has beside its plugins.
    pub(crate) fn like_upstream() -> Self {
        Self::new()
            .entry(EntryType::Directory, "./", b"")
            .file("./README.md", b"read me")
            .file("./LICENSE", b"you may")
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, content)
    }

    /// An entry of any kind; links point to `/etc/shadow`.
    pub(crate) fn entry(self, kind: EntryType, path: &str, content: &[u8]) -> Self {
        self.claiming(kind, path, content.len() as u64, content)
    }

    /// An entry whose header claims a size of its own.
    pub(crate) fn claiming(
        mut self,
        kind: EntryType,
        path: &str,
        size: u64,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        // As in the archives of 1.4.1 to 1.5.1, and set-uid as well: the agent must ignore all of it.
        header.set_mode(0o4777);
        header.set_uid(1001);
        header.set_gid(1001);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name_literal("/etc/shadow").unwrap();
        }
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        self.records(EntryType::XHeader, records)
    }

    /// PAX records for all following entries.
    pub(crate) fn global_pax(self, records: &[(&str, &str)]) -> Self {
        self.records(EntryType::XGlobalHeader, records)
    }

    /// A GNU long name for the next entry.
    pub(crate) fn long_name(self, name: &str) -> Self {
        let name = format!("{name}\0");
        self.entry(EntryType::GNULongName, "././@LongLink", name.as_bytes())
    }

    fn records(self, kind: EntryType, records: &[(&str, &str)]) -> Self {
        let mut builder = Builder::new(Vec::new());
        let pairs = records.iter().map(|(key, value)| (*key, value.as_bytes()));
        builder.append_pax_extensions(pairs).unwrap();
        // The crate writes header and records; only the records are wanted here.
        let written = builder.into_inner().unwrap();
        let length = Header::from_byte_slice(&written[..512])
            .entry_size()
            .unwrap();
        let content = written[512..][..usize::try_from(length).unwrap()].to_vec();
        self.entry(kind, "pax", &content)
    }

    /// The finished tar.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// The finished tar, gzipped.
    pub(crate) fn gz(self) -> Vec<u8> {
        gzip(&self.bytes())
    }
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A file that looks like a binary of an architecture: the header, then bytes that do not compress well.
pub(crate) fn binary(arch: Arch, size: usize) -> Vec<u8> {
    let (bits, little, machine): (u8, bool, u16) = match arch {
        Arch::Amd64 => (64, true, 0x3e),
        Arch::Arm => (32, true, 0x28),
        Arch::Arm64 => (64, true, 0xb7),
        Arch::Mips64le => (64, true, 0x08),
        Arch::Ppc64le => (64, true, 0x15),
        Arch::Riscv64 => (64, true, 0xf3),
        Arch::S390x => (64, false, 0x16),
    };
    let mut head = vec![0x7f, b'E', b'L', b'F', bits / 32, 2 - u8::from(little), 1];
    head.resize(16, 0);
    head.extend(if little { [2, 0] } else { [0, 2] });
    head.extend(if little {
        machine.to_le_bytes()
    } else {
        machine.to_be_bytes()
    });
    let mut state = 0x9e37_79b9_u32 ^ u32::try_from(size).unwrap();
    head.extend((head.len()..size).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    }));
    head
}
