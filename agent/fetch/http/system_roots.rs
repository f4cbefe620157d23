//! The authorities that this machine trusts, without those of `fetch.caFile`.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` take the place of the system's own, as for OpenSSL and Go. Their files are read as
//! every file that somebody names: a device or a pipe is refused, and so is what is too large.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::HttpError;
use crate::fetch::local_files::{FileSource as _, LocalFiles};

/// The largest file with authorities that is read, in bytes; the system's whole bundle has about 200 KiB.
pub(super) const LARGEST_CA_FILE: u64 = 4 << 20;

const FILE: &str = "SSL_CERT_FILE";
const DIR: &str = "SSL_CERT_DIR";

/// Loads them. A single bad certificate among them is skipped, as everywhere, and so is a file that is not there.
///
/// # Errors
/// When the environment names a file that cannot be read.
pub(super) fn load_system_roots() -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let (file, dirs) = (env::var_os(FILE), env::var_os(DIR));
    if file.is_none() && dirs.is_none() {
        return Ok(rustls_native_certs::load_native_certs().certs);
    }
    let mut certificates = Vec::new();
    if let Some(file) = file {
        read_authorities(FILE, &from_here(file.into()), &mut certificates)?;
    }
    let dirs = dirs.iter().flat_map(env::split_paths);
    for dir in dirs.filter(|dir| !dir.as_os_str().is_empty()) {
        let dir = from_here(dir);
        let listed = LocalFiles.list_files(&dir);
        for path in skip_absent(DIR, &dir, listed)?.unwrap_or_default() {
            read_authorities(DIR, &path, &mut certificates)?;
        }
    }
    Ok(certificates)
}

/// A relative path as the program that sets it means it.
fn from_here(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Adds the certificates of a file. A directory has each under two names, and often all of them in a bundle as well.
fn read_authorities(
    variable: &'static str,
    path: &Path,
    certificates: &mut Vec<CertificateDer<'static>>,
) -> Result<(), HttpError> {
    let content = LocalFiles.read(path, LARGEST_CA_FILE);
    let Some(content) = skip_absent(variable, path, content)? else {
        return Ok(());
    };
    for certificate in CertificateDer::pem_slice_iter(&content).flatten() {
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
    }
    Ok(())
}

/// `None` for what is not there: images set the variables for files that not all of them have. A link in a directory may
/// lead to something that is no file.
fn skip_absent<T>(
    variable: &'static str,
    path: &Path,
    read: io::Result<T>,
) -> Result<Option<T>, HttpError> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if variable == DIR && error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(HttpError::SystemAuthorities {
            variable,
            path: path.display().to_string(),
            why: error.to_string(),
        }),
    }
}
