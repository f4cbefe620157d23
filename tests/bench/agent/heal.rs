//! Damages files, and measures how long the damage lasts.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::figures::Sample;
use super::running::{Node, PATIENCE};

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Damage {
    /// It is removed.
    Delete,
    /// It gets another content, as `echo > FILE` does it.
    Overwrite,
    /// One byte of it is changed in place.
    Corrupt,
}

/// How long the damage lasted, seen from outside and by the agent's own account.
#[derive(Debug, Default)]
pub(super) struct Healed {
    /// From the return of the damaging call until the right file was there.
    pub(super) outside: Sample,
    /// From the first event to the durable repair.
    pub(super) own: Sample,
}

impl Damage {
    fn inflict(self, file: &Path) -> io::Result<()> {
        match self {
            Self::Delete => fs::remove_file(file),
            Self::Overwrite => fs::write(file, "{}\n"),
            Self::Corrupt => {
                let open = fs::OpenOptions::new().read(true).write(true).open(file)?;
                let (middle, mut byte) = (open.metadata()?.size() / 2, [0]);
                open.read_exact_at(&mut byte, middle)?;
                open.write_all_at(&[!byte[0]], middle)
            }
        }
    }
}

/// What the disk alone takes: a small file written, made durable and renamed.
pub(super) fn by_hand(dir: &Path, count: usize) -> io::Result<Sample> {
    let (temp, name) = (dir.join("by-hand.tmp"), dir.join("by-hand"));
    let mut times = Sample::default();
    for _ in 0..count {
        let began = Instant::now();
        let mut file = fs::File::create(&temp)?;
        file.write_all(&[b' '; 512])?;
        file.sync_all()?;
        fs::rename(&temp, &name)?;
        times.push(began.elapsed());
        fs::remove_file(&name)?;
        // As far apart as the repairs are.
        thread::sleep(Duration::from_millis(50));
    }
    Ok(times)
}

/// Damages files until there are that many measurements, each file once in the life of an agent: the agent waits
/// before it repairs a file again that somebody keeps undoing, and that is not what is measured.
pub(super) fn heal(
    node: &Node,
    files: &[PathBuf],
    damage: Damage,
    count: usize,
) -> io::Result<Healed> {
    let mut healed = Healed::default();
    while healed.outside.len() < count {
        let agent = node.start_and_settle()?;
        for file in files.iter().take(count - healed.outside.len()) {
            healed.outside.push(damaged_for(file, damage)?);
            agent.wait_until_idle()?;
        }
        healed.own.extend(agent.repairs()?);
    }
    Ok(healed)
}

fn damaged_for(file: &Path, damage: Damage) -> io::Result<Duration> {
    let (right, mode) = (fs::read(file)?, fs::metadata(file)?.mode());
    // The agent puts another file in its place. After a deletion that may well get the number of the old one.
    let damaged = match damage {
        Damage::Delete => None,
        Damage::Overwrite | Damage::Corrupt => Some(fs::metadata(file)?.ino()),
    };
    damage.inflict(file)?;
    let began = Instant::now();
    loop {
        if fs::symlink_metadata(file).is_ok_and(|there| Some(there.ino()) != damaged) {
            break;
        }
        // The agent may share a processor with us.
        thread::yield_now();
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!(
                "{} is not healed",
                file.display()
            )));
        }
    }
    let took = began.elapsed();
    if fs::read(file)? != right || fs::metadata(file)?.mode() != mode {
        return Err(io::Error::other(format!(
            "{} is healed wrongly",
            file.display()
        )));
    }
    Ok(took)
}
