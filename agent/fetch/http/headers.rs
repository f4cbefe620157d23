//! Headers of answers, and the headers that a file of the operator adds to requests.

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that are never taken from a file: those of a connection (RFC 9110, 7.6.1), those that change what a body
/// means, and those that the download sets itself.
const RESERVED: [HeaderName; 19] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The value of a header, where it is text.
pub(in crate::fetch) fn header_text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads lines of `Name: value`; `#` begins a comment line. What stands in the file never enters a message.
pub(super) fn parse_header_file(content: &[u8]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (name, mut value) =
            parse_header_line(line).map_err(|why| format!("line {}: {why}", index + 1))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn parse_header_line(line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or("it has no colon; write Name: value")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let name = HeaderName::from_bytes(name)
        .map_err(|_| "what stands before the colon is no header's name; write Name: value")?;
    if RESERVED.contains(&name) {
        return Err("this header belongs to the connection or to the download itself; take it out");
    }
    if value.is_empty() {
        return Err("there is nothing behind the colon; write Name: value");
    }
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| "what stands behind the colon holds a control character; take it out")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_headers_is_read_and_marked_as_secret() {
        let text =
            b"# for the mirror\r\n\r\nAuthorization:  Bearer a:b \r\n  X-Team: one\nx-team:two";
        let found = parse_header_file(text).unwrap();
        assert_eq!(found[header::AUTHORIZATION], "Bearer a:b");
        let teams: Vec<_> = found.get_all("x-team").iter().collect();
        assert_eq!(teams, ["one", "two"]);
        assert!(found.values().all(HeaderValue::is_sensitive));
        assert!(!format!("{found:?}").contains("Bearer"));
        assert!(parse_header_file(b"").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_alone() {
        for bad in [
            "secret",
            ": secret",
            "Bad Name: secret",
            "Name : secret",
            "Name:",
            "Name: secret\x01",
            "\u{feff}Name: secret",
            "host: secret",
            "Content-Length: 1",
            "RANGE: secret",
            "If-Range: secret",
            "Transfer-Encoding: chunked",
            "Connection: secret",
            "Proxy-Authorization: secret",
            "Accept-Encoding: secret",
        ] {
            let why = parse_header_file(format!("A: b\n\n{bad}\n").as_bytes()).unwrap_err();
            assert!(why.starts_with("line 3: "), "{bad}: {why}");
            assert!(!why.contains("secret"), "{bad}: {why}");
        }
    }
}
