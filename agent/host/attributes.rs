//! What a file has beside content, mode and owner: file capabilities, an access ACL, and flags.
//!
//! Where a file system knows none of them, there is nothing to see and nothing to remove.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use rustix::fs::{IFlags, fgetxattr, fremovexattr, ioctl_getflags, ioctl_setflags};

use crate::model::FileAttributes;

const CAPABILITIES: &str = "security.capability";
const ACCESS_ACL: &str = "system.posix_acl_access";
/// The largest value of an extended attribute, in bytes (`XATTR_SIZE_MAX` of the kernel).
const LARGEST_VALUE: usize = 64 << 10;
/// A file with one of them can be neither changed nor replaced.
const LOCKS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// Reads all of them.
pub(super) fn read_attributes(file: &File) -> FileAttributes {
    FileAttributes {
        has_capabilities: has_attribute(file, CAPABILITIES),
        acl_grants_writing: acl_grants_writing(file),
        is_locked: is_locked(file),
    }
}

/// Removes the immutable and the append-only flag.
///
/// # Errors
/// When this process may not do that: it lacks `CAP_LINUX_IMMUTABLE`.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    let Ok(flags) = ioctl_getflags(file) else {
        return Ok(());
    };
    if !flags.intersects(LOCKS) {
        return Ok(());
    }
    ioctl_setflags(file, flags - LOCKS).map_err(|error| {
        if error.raw_os_error() != Errno::EPERM as i32 {
            return error.into();
        }
        io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is immutable or append-only (lsattr), and the agent may not change that; run chattr -i -a on it, or \
             give the agent CAP_LINUX_IMMUTABLE",
        )
    })
}

/// Removes an access ACL that lets others write. The caller sets the mode afterwards.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn remove_acl(file: &File) -> io::Result<()> {
    match acl_grants_writing(file) {
        true => Ok(fremovexattr(file, ACCESS_ACL)?),
        false => Ok(()),
    }
}

/// Whether the file has capabilities. A change of its owner removes them, also to the owner that it has.
pub(super) fn has_capabilities(file: &File) -> bool {
    has_attribute(file, CAPABILITIES)
}

fn is_locked(file: &File) -> bool {
    ioctl_getflags(file).is_ok_and(|flags| flags.intersects(LOCKS))
}

fn has_attribute(file: &File, name: &str) -> bool {
    // With an empty buffer, the kernel answers with the size.
    let mut nothing: [u8; 0] = [];
    fgetxattr(file, name, &mut nothing).is_ok()
}

fn acl_grants_writing(file: &File) -> bool {
    if !has_attribute(file, ACCESS_ACL) {
        return false;
    }
    let mut value = vec![0; LARGEST_VALUE];
    match fgetxattr(file, ACCESS_ACL, value.as_mut_slice()) {
        Ok(size) => grants_writing(value.get(..size).unwrap_or_default()),
        Err(_) => false,
    }
}

/// Whether an ACL in the kernel's form (`posix_acl_xattr.h`: a version of 4 bytes, then entries of tag, permissions and
/// id) has an entry for a group or a named user with the permission to write. An entry that the mask suspends counts as
/// well: the next chmod puts it in force.
fn grants_writing(acl: &[u8]) -> bool {
    const USER: u16 = 0x02;
    const GROUP_OF_FILE: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const WRITE: u16 = 0x02;
    let entries = acl.get(4..).unwrap_or_default().chunks_exact(8);
    let mut entries = entries.map(|entry| {
        (
            u16::from_le_bytes([entry[0], entry[1]]),
            u16::from_le_bytes([entry[2], entry[3]]),
        )
    });
    entries.any(|(tag, rights)| matches!(tag, USER | GROUP_OF_FILE | GROUP) && rights & WRITE != 0)
}

#[cfg(test)]
mod tests {
    use super::grants_writing;

    #[test]
    fn an_acl_that_grants_writing() {
        let acl = |entries: &[(u16, u16)]| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, rights) in entries {
                bytes.extend(tag.to_le_bytes());
                bytes.extend(rights.to_le_bytes());
                bytes.extend(1000_u32.to_le_bytes());
            }
            bytes
        };
        // The owner, a named user, the group, a named group, the mask, everybody.
        let [owner, user, group, named, mask, others] = [1, 2, 4, 8, 0x10, 0x20];
        for (entries, expected) in [
            (&[(owner, 7), (group, 5), (others, 5)][..], false),
            (&[(owner, 7), (user, 5), (group, 5), (mask, 7)], false),
            (&[(owner, 7), (user, 7), (mask, 5)], true),
            (&[(owner, 7), (group, 6), (mask, 4)], true),
            (&[(owner, 7), (named, 2), (mask, 7)], true),
        ] {
            assert_eq!(grants_writing(&acl(entries)), expected, "{entries:?}");
        }
        for broken in [&b""[..], b"\x02\0\0", b"\x02\0\0\0\x02\0\x07"] {
            assert!(!grants_writing(broken));
        }
    }
}
