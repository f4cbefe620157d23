//! What a shell hands over without a file of its own: standard input, and the pipe of `<(…)`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::HostError;

/// One of the process's own descriptors, open for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputStream(u32);

impl InputStream {
    /// The descriptor that a path stands for: `-`, `/dev/stdin`, `/dev/fd/N` or `/proc/self/fd/N`. `None` for all other
    /// paths, which are files.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        if text == "-" || text == "/dev/stdin" {
            return Some(Self(0));
        }
        let number = text
            .strip_prefix("/dev/fd/")
            .or_else(|| text.strip_prefix("/proc/self/fd/"))?;
        Some(Self(number.parse().ok()?))
    }

    /// Reads it to its end. Blocks until the writer has closed it.
    ///
    /// # Errors
    /// When it is not open for reading, or has more than `cap` bytes.
    pub fn read_to_vec(self, cap: u64) -> Result<Vec<u8>, HostError> {
        let mut bytes = Vec::new();
        let read = File::open(format!("/proc/self/fd/{}", self.0)).and_then(|stream| {
            stream.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > cap {
                let message = format!("it is larger than the {cap} bytes allowed");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            Ok(())
        });
        match read {
            Ok(()) => Ok(bytes),
            Err(error) => Err(HostError::new("read", self.describe(), error)),
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn describe(self) -> String {
        match self.0 {
            0 => "stdin".to_owned(),
            number => format!("/dev/fd/{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptors_are_streams() {
        for (path, want) in [
            ("-", Some(0)),
            ("/dev/stdin", Some(0)),
            ("/dev/fd/63", Some(63)),
            ("/proc/self/fd/3", Some(3)),
            ("./-", None),
            ("/dev/fd/", None),
            ("/dev/fd/x", None),
            ("/dev/fd/1/2", None),
            ("/dev/null", None),
            ("config.yaml", None),
        ] {
            let stream = InputStream::from_path(Path::new(path));
            assert_eq!(stream, want.map(InputStream), "{path}");
        }
    }
}
