//! One gRPC call over a connection of its own: a request and an answer, a message each.
//!
//! The agent makes one call to one method. HTTP/2 is `h2`'s; what gRPC puts on top is a prefix of five bytes and
//! a trailer (gRPC over HTTP/2, "PROTOCOL-HTTP2"), which is less than a client library would add to the program.

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::NoAnswer;
use super::answer::one_line;

/// How much of an answer is read, in bytes. containerd's has about ten thousand, most of them its configuration.
pub(super) const LARGEST_ANSWER: usize = 256 * 1024;

/// The longest header or trailer, in bytes.
const LARGEST_HEAD: u32 = 16 * 1024;

/// Compressed or not (one byte) and the message's length (four bytes, the highest first).
const PREFIX: usize = 5;

/// `UNIMPLEMENTED`: the service or the method is not there.
const UNIMPLEMENTED: &str = "12";

/// Sends one message to `method` and returns the one that comes back.
pub(super) async fn call<S>(
    stream: S,
    method: &'static str,
    patience: Duration,
    message: &[u8],
) -> Result<Bytes, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(LARGEST_HEAD)
        .handshake(stream)
        .await
        .map_err(NoAnswer::Broken)?;
    let mut exchange = pin!(exchange(sender, request(method, patience), framed(message)));
    // The connection moves only while it is polled; nothing goes on once this returns.
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        // Ends first where the peer closes it: then the exchange ends as well, with the reason.
        _ = connection => {}
    }
    exchange.await
}

fn request(method: &'static str, patience: Duration) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // The runtime need not go on with what nobody waits for.
    if let Ok(timeout) = HeaderValue::try_from(format!("{}m", patience.as_millis())) {
        headers.insert("grpc-timeout", timeout);
    }
    request
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<Bytes, NoAnswer> {
    let mut sender = sender.ready().await.map_err(NoAnswer::Broken)?;
    let (answer, mut body) = sender
        .send_request(request, false)
        .map_err(NoAnswer::Broken)?;
    body.send_data(message, true).map_err(NoAnswer::Broken)?;
    let (head, body) = answer.await.map_err(NoAnswer::Broken)?.into_parts();
    if !is_grpc(head.status, &head.headers) {
        return Err(NoAnswer::NotGrpc(head.status));
    }
    // An error without a message comes in one piece: its status is then in the head.
    if head.headers.contains_key("grpc-status") {
        outcome(&head.headers)?;
    }
    unframed(&whole(body).await?)
}

fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    status == StatusCode::OK && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The body, if its trailer says that the call went well.
async fn whole(mut body: RecvStream) -> Result<BytesMut, NoAnswer> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(NoAnswer::Broken)?;
        if bytes.len() + chunk.len() > PREFIX + LARGEST_ANSWER {
            return Err(NoAnswer::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
        let window = body.flow_control();
        window
            .release_capacity(chunk.len())
            .map_err(NoAnswer::Broken)?;
    }
    let trailers = body.trailers().await.map_err(NoAnswer::Broken)?;
    outcome(&trailers.unwrap_or_default())?;
    Ok(bytes)
}

/// What `grpc-status` says.
fn outcome(headers: &HeaderMap) -> Result<(), NoAnswer> {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        one_line(&String::from_utf8_lossy(value.unwrap_or_default()))
    };
    match text("grpc-status") {
        code if code == "0" => Ok(()),
        code if code == UNIMPLEMENTED => Err(NoAnswer::NoCri),
        code => Err(NoAnswer::Failed {
            code,
            message: text("grpc-message"),
        }),
    }
}

/// The message with gRPC's prefix, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The one message behind the prefix. Nobody may compress for a client that did not offer to read it.
fn unframed(frame: &[u8]) -> Result<Bytes, NoAnswer> {
    match frame.split_first_chunk::<PREFIX>() {
        Some(([0, length @ ..], message))
            if usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len()) =>
        {
            Ok(Bytes::copy_from_slice(message))
        }
        _ => Err(NoAnswer::NotAnAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_plain_message_of_the_length_it_says() {
        for message in [b"".as_slice(), b"x", &[7; 70_000]] {
            assert_eq!(unframed(&framed(message)).unwrap(), message);
        }
        for bad in [
            b"".as_slice(),
            b"\0\0\0\0",
            b"\x01\0\0\0\x01x",
            b"\0\0\0\0\x02x",
            b"\0\0\0\0\0x",
            b"\0\xff\xff\xff\xffx",
        ] {
            assert!(
                matches!(unframed(bad), Err(NoAnswer::NotAnAnswer)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_status_other_than_zero_is_an_error_in_the_runtimes_words() {
        let said = |status: &[(&'static str, &'static str)]| {
            let headers = status
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            outcome(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(said(&[("grpc-status", "0")]), Ok(()));
        assert_eq!(
            said(&[("grpc-status", "2"), ("grpc-message", "no\tbudget")]),
            Err("answered with gRPC status 2: no budget".to_owned())
        );
        assert!(
            said(&[("grpc-status", "12")])
                .unwrap_err()
                .contains("CRI v1")
        );
        assert!(
            said(&[]).is_err(),
            "a call without a status has not ended well"
        );
    }
}
