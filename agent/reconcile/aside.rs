//! The names of foreign conflists that are set aside, so that no runtime reads them.

use super::foreign_files::LARGEST_CONFLIST;
use crate::host::{Dir, HostError};
use crate::model::{FileName, FileState};
use crate::store::Ledger;

/// The suffix for a foreign conflist that is set aside. No runtime reads files with this extension.
const ASIDE: &str = ".cni-keeper-disabled";

/// The longest name of a file, in bytes.
const LONGEST_NAME: usize = 255;

/// How many files are kept aside at most. The ledger names each of them, and must not grow larger than what is read.
const MOST_FILES: usize = 4096;

/// The name that a foreign conflist gets. A writer that creates the same file again and again must not fill the directory
/// with copies: the same content gets the same name.
///
/// # Errors
/// When too many files are aside, or a file cannot be examined.
pub(super) fn choose_aside_name(
    ledger: &Ledger,
    conf: &Dir,
    name: &FileName,
) -> Result<FileName, HostError> {
    if let Some(same) = find_same_file(ledger, conf, name)? {
        return Ok(same);
    }
    if ledger.set_aside_files().len() >= MOST_FILES {
        let reason =
            format!("{MOST_FILES} files were set aside already; remove those that nobody needs");
        let source = std::io::Error::other(reason);
        return Err(HostError::new("set aside", conf.path_of(name), source));
    }
    let mut number = 1;
    loop {
        let suffix = match number {
            1 => ASIDE.to_owned(),
            _ => format!("{ASIDE}-{number}"),
        };
        // A name that would become too long is cut. The ledger knows the whole one.
        let longest = LONGEST_NAME - suffix.len();
        let end = name.as_str().floor_char_boundary(longest);
        let candidate = FileName::fixed(&format!("{}{suffix}", &name.as_str()[..end]));
        let mut taken = ledger.set_aside_files().iter();
        if !taken.any(|aside| aside.name == candidate) && conf.file_metadata(&candidate)?.is_none()
        {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// The name of a file with the same content that was set aside from the same name before.
fn find_same_file(
    ledger: &Ledger,
    conf: &Dir,
    name: &FileName,
) -> Result<Option<FileName>, HostError> {
    let size = |name| {
        conf.file_metadata(name)
            .map(|found| found.map(|found| found.size))
    };
    let now = size(name)?;
    let asides = ledger.set_aside_files().iter();
    for aside in asides.filter(|aside| aside.original == *name) {
        if size(&aside.name)? == now
            && let FileState::Regular(file) = conf.observe_file(name, LARGEST_CONFLIST)
            && conf.observe_file(&aside.name, LARGEST_CONFLIST) == FileState::Regular(file)
        {
            return Ok(Some(aside.name.clone()));
        }
    }
    Ok(None)
}

/// Forgets the files that are not aside any more, because somebody has removed or renamed them.
///
/// # Errors
/// When a file cannot be examined.
pub(super) fn forget_lost_files(ledger: &mut Ledger, conf: &Dir) -> Result<(), HostError> {
    for aside in ledger.set_aside_files().to_vec() {
        if conf.file_metadata(&aside.name)?.is_none() {
            ledger.forget_set_aside(&aside.name);
        }
    }
    Ok(())
}
