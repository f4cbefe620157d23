//! Single values as an operator writes them: durations, sizes, counts and addresses.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::config_value::ConfigValue;

/// Reads a duration such as `500ms`, `30s` or `1h`.
pub(super) fn read_duration(value: ConfigValue<'_>) -> Option<Duration> {
    value.accept(parse_duration(value.number_or_text()?))
}

/// Reads a duration that may be zero.
pub(super) fn read_duration_or_zero(value: ConfigValue<'_>) -> Option<Duration> {
    match value.number_or_text()? {
        "0" | "0s" => Some(Duration::ZERO),
        text => value.accept(parse_duration(text)),
    }
}

/// Reads a number of bytes.
pub(super) fn read_size(value: ConfigValue<'_>) -> Option<u64> {
    value.accept(parse_size(value.number_or_text()?))
}

/// Reads a number of bytes greater than zero.
pub(super) fn read_size_limit(value: ConfigValue<'_>) -> Option<u64> {
    match read_size(value)? {
        0 => {
            value.reject("a limit of zero would refuse every artifact; write a size such as 512MiB")
        }
        bytes => Some(bytes),
    }
}

/// Reads a number of attempts.
pub(super) fn read_attempts(value: ConfigValue<'_>) -> Option<NonZeroU32> {
    let text = value.number_or_text()?;
    value.accept(text.parse().map_err(|_| {
        format!("'{text}' is not a number of attempts; write a whole number, at least 1")
    }))
}

/// Reads an address to listen on. It must be an IP address, because a name would need a resolver before there is a
/// network.
pub(super) fn read_listen_address(value: ConfigValue<'_>) -> Option<SocketAddr> {
    let text = value.number_or_text()?;
    value.accept(text.parse().map_err(|_| {
        format!("'{text}' is not an address to listen on; write an IP address and a port, such as 127.0.0.1:9742")
    }))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    // humantime reads `M` as months, but an operator may mean minutes, so `M` is refused.
    let parsed = humantime::parse_duration(text).ok();
    match parsed.filter(|_| !text.contains('M')) {
        Some(duration) if duration < Duration::from_millis(1) => {
            Err("the duration must be longer than zero; write at least 1ms".to_owned())
        }
        Some(duration) => Ok(duration),
        None => Err(format!(
            "'{text}' is not a duration; write a number and a unit (ms, s, m or h), such as 30s"
        )),
    }
}

/// Reads `1024`, `512KiB`, `256MiB` or `1GiB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let scale: Option<u64> = match unit {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().zip(scale);
    let bytes = number.and_then(|(number, scale)| number.checked_mul(scale));
    bytes.ok_or_else(|| {
        format!("'{text}' is not a size; write a whole number of bytes, or one with KiB, MiB or GiB, such as 512MiB")
    })
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
            ("1h 30m", 5_400_000),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-5s",
            "5S",
            "5M",
            "0s",
            "1us",
            "99999999999999999999h",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
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
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "5MB", "5 MiB", "-1", "1e3", "99999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
