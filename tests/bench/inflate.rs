//! The lower bound of an install: inflates one archive, and does nothing with the result.
//!
//! `scripts/bench` runs it beside the agent, which uses the same library.
#![allow(clippy::disallowed_types)]

use std::fs::File;
use std::io::{self, BufReader, Read as _};

fn main() -> io::Result<()> {
    // Cargo itself passes `--bench`.
    let archive = std::env::args().skip(1).find(|arg| arg != "--bench");
    let archive = archive.ok_or_else(|| io::Error::other("usage: inflate ARCHIVE"))?;
    let file = BufReader::with_capacity(256 * 1024, File::open(archive)?);
    let mut inflated = flate2::read::MultiGzDecoder::new(file);
    let mut buffer = vec![0; 256 * 1024];
    while inflated.read(&mut buffer)? > 0 {}
    Ok(())
}
