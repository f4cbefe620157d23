//! Digests as `sha256sum` and `sha512sum` print them: `<hex>  <name>`, or `<hex> *<name>`.

use super::error::{LineProblem, VerificationError};
use crate::model::{DigestError, Pin};

/// The number of hexadecimal digits of a SHA-512 digest. A digest of another length is read as a SHA-256.
const SHA512_DIGITS: usize = 128;

/// Finds the digest of a file in a list. If the list has a SHA-256 and a SHA-512, the SHA-256 is used.
///
/// Every line must be valid. A list with a broken line is not used at all.
///
/// # Errors
/// When a line is not valid, or the list has no digest for the file or two different ones.
pub fn find_listed_digest(list: &[u8], file: &str) -> Result<Pin, VerificationError> {
    let text = str::from_utf8(list).map_err(|_| VerificationError::NotText)?;
    let mut found: [Option<Pin>; 2] = [None, None];
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (pin, name) = parse_line(line).map_err(|problem| VerificationError::Line {
            line: number + 1,
            problem,
        })?;
        if name.strip_prefix("./").unwrap_or(name) != file {
            continue;
        }
        let kind = &mut found[usize::from(matches!(pin, Pin::Sha512(_)))];
        if let Some(one) = kind.replace(pin).filter(|one| *one != pin) {
            return Err(VerificationError::Contradiction {
                file: file.to_owned(),
                one: one.to_string(),
                other: pin.to_string(),
            });
        }
    }
    let [sha256, sha512] = found;
    sha256
        .or(sha512)
        .ok_or_else(|| VerificationError::NotListed {
            file: file.to_owned(),
        })
}

/// The digest in a checksum file, which has one line. If the line has a name, it must be the file's.
///
/// # Errors
/// When the file has another form.
pub fn parse_checksum_file(text: &[u8], file: &str) -> Result<Pin, VerificationError> {
    let no = |problem: &str| VerificationError::NoChecksum {
        file: file.to_owned(),
        problem: problem.to_owned(),
    };
    let text = str::from_utf8(text).map_err(|_| no("it is not text"))?;
    let text = text.trim();
    if text.lines().count() != 1 {
        return Err(no("it does not have exactly one line"));
    }
    if !text.contains(char::is_whitespace) {
        return parse_digest(text).map_err(|error| no(&error.to_string()));
    }
    let (pin, name) = parse_line(text).map_err(|problem| no(&problem.to_string()))?;
    if name.strip_prefix("./").unwrap_or(name) != file {
        return Err(no("it is for a file of another name"));
    }
    Ok(pin)
}

/// One line: the digest and the name.
fn parse_line(line: &str) -> Result<(Pin, &str), LineProblem> {
    if line.starts_with('\\') {
        return Err(LineProblem::Escaped);
    }
    let (hex, rest) = line.split_once(' ').ok_or(LineProblem::Shape)?;
    let name = rest.strip_prefix([' ', '*']).ok_or(LineProblem::Shape)?;
    if name.is_empty() {
        return Err(LineProblem::Shape);
    }
    let pin = parse_digest(hex).map_err(LineProblem::Digest)?;
    Ok((pin, name))
}

fn parse_digest(hex: &str) -> Result<Pin, DigestError> {
    match hex.len() {
        SHA512_DIGITS => Pin::sha512(hex),
        _ => Pin::sha256(hex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    #[test]
    fn the_line_of_the_file_is_found_in_either_mode_and_for_either_digest() {
        let long = "ab".repeat(64);
        let list = format!(
            "{}  other.tgz\n{} *p.tgz\n\n{}  ./in-here.tgz\r\n{long}  big.tgz\n{long}  p.tgz\n",
            of(1),
            of(2),
            of(3)
        );
        let found = |file| {
            find_listed_digest(list.as_bytes(), file)
                .unwrap()
                .to_string()
        };
        assert_eq!(found("other.tgz"), format!("sha256:{}", of(1)));
        assert_eq!(found("p.tgz"), format!("sha256:{}", of(2)));
        assert_eq!(found("in-here.tgz"), format!("sha256:{}", of(3)));
        assert_eq!(found("big.tgz"), format!("sha512:{long}"));
        let again = format!("{0}  p\n{0}  p\n", of(1));
        assert!(
            find_listed_digest(again.as_bytes(), "p").is_ok(),
            "the same line twice"
        );
    }

    #[test]
    fn missing_and_repeated_list_entries_are_different_errors() {
        let twice = format!("{}  p\n{}  ./p\n", of(1), of(2));
        let reported = |list: &[u8]| find_listed_digest(list, "p").unwrap_err();
        assert!(matches!(
            reported(twice.as_bytes()),
            VerificationError::Contradiction { .. }
        ));
        for near in ["p2", "dir/p", "P", "p "] {
            let list = format!("{}  {near}\n", of(1));
            assert!(
                matches!(
                    reported(list.as_bytes()),
                    VerificationError::NotListed { .. }
                ),
                "{near}"
            );
        }
        assert!(matches!(reported(b""), VerificationError::NotListed { .. }));
        assert_eq!(reported(b"\xff\n"), VerificationError::NotText);
    }

    #[test]
    fn a_list_is_not_taken_by_halves() {
        let good = format!("{}  p\n", of(1));
        for (bad, problem) in [
            (format!("\\{}  a\\nb", of(2)), LineProblem::Escaped),
            (of(2), LineProblem::Shape),
            (format!("{} a", of(2)), LineProblem::Shape),
            (format!("{}  ", of(2)), LineProblem::Shape),
            ("SHA256 (p) = 00".to_owned(), LineProblem::Shape),
            (
                format!("{}  p", &of(2)[1..]),
                LineProblem::Digest(DigestError::Length {
                    algorithm: "sha256",
                    want: 64,
                    got: 63,
                }),
            ),
        ] {
            let list = format!("{good}{bad}\n");
            assert_eq!(
                find_listed_digest(list.as_bytes(), "p"),
                Err(VerificationError::Line { line: 2, problem }),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_checksum_file_is_one_line_for_that_file() {
        for good in [
            of(1),
            format!("{}\n", of(1)),
            format!("{}  p.tgz\n", of(1)),
            format!("{} *p.tgz", of(1)),
        ] {
            assert_eq!(
                parse_checksum_file(good.as_bytes(), "p.tgz"),
                Ok(Pin::Sha256([1; 32]))
            );
        }
        for bad in [
            String::new(),
            "<html>".to_owned(),
            "<html> <head>".to_owned(),
            of(1)[..10].to_owned(),
            format!("{}  q.tgz", of(1)),
            format!("{0}  p.tgz\n{0}  p.tgz\n", of(1)),
        ] {
            let error = parse_checksum_file(bad.as_bytes(), "p.tgz").unwrap_err();
            assert!(
                matches!(error, VerificationError::NoChecksum { .. }),
                "{bad}"
            );
        }
    }
}
