//! Durations and sizes as an operator writes them.

use std::time::Duration;

/// Reads `500ms`, `10s`, `5m` or `1h`: a whole number over zero and one unit.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "'{text}' is not a duration; write a whole number and ms, s, m or h, such as 30s"
            ));
        }
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(millis))
    {
        Some(0) => {
            Err("a duration of zero would never let anything happen; write at least 1ms".to_owned())
        }
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err(format!(
            "'{text}' is not a duration; write a whole number and ms, s, m or h, such as 30s"
        )),
    }
}

/// Reads a number of bytes: `1024`, `512KiB`, `256MiB` or `1GiB`.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let scale: Option<u64> = match unit {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(scale)
        .and_then(|(n, scale)| n.checked_mul(scale))
        .ok_or_else(|| {
            format!("'{text}' is not a size; write a whole number of bytes, or one with KiB, MiB or GiB, such as 512MiB")
        })
}

/// The leading digits and the rest.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "5S",
            "1h30m",
            "0s",
            "99999999999999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_is_in_bytes_or_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("512KiB", 524_288),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "5MB", "5 MiB", "-1", "1e3", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
