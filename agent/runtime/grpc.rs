//! One unary gRPC call over a connection of its own.
//!
//! The agent makes one call to one method. HTTP/2 comes from `h2`. What gRPC adds to it is a prefix of five bytes and a
//! trailer (gRPC's PROTOCOL-HTTP2.md), which is less than a client library would add to the binary.

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::cri_messages::MAX_TEXT_BYTES;
use super::error::{MAX_ANSWER_BYTES, StatusCallError};
use crate::model::one_line;

/// The longest header or trailer, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// The prefix of a message: compressed or not (one byte), then its length (four bytes, big endian).
const PREFIX_BYTES: usize = 5;

/// `UNIMPLEMENTED`: the service or the method is not there.
const UNIMPLEMENTED: &str = "12";

/// Sends one message to `method` and returns the answer.
pub(super) async fn call_unary<S>(
    stream: S,
    method: &'static str,
    deadline: Duration,
    message: &[u8],
) -> Result<Bytes, StatusCallError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_BYTES)
        .handshake(stream)
        .await
        .map_err(StatusCallError::Broken)?;
    let mut exchange = pin!(send_and_receive(
        sender,
        build_request(method, deadline),
        encode_frame(message)
    ));
    // Both futures make progress only while they are polled here, and nothing goes on once this returns. Cancel-safe:
    // the exchange is only borrowed, so it continues below if the connection ends first.
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        // The connection ends first if the peer closes it. Then the exchange ends as well, with the reason.
        _ = connection => {}
    }
    exchange.await
}

fn build_request(method: &'static str, deadline: Duration) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // With this header, the runtime stops working on a request that nobody waits for.
    if let Ok(timeout) = HeaderValue::try_from(format!("{}m", deadline.as_millis())) {
        headers.insert("grpc-timeout", timeout);
    }
    request
}

async fn send_and_receive(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<Bytes, StatusCallError> {
    let mut sender = sender.ready().await.map_err(StatusCallError::Broken)?;
    let (answer, mut body) = sender
        .send_request(request, false)
        .map_err(StatusCallError::Broken)?;
    body.send_data(message, true)
        .map_err(StatusCallError::Broken)?;
    let (head, body) = answer.await.map_err(StatusCallError::Broken)?.into_parts();
    if !is_grpc(head.status, &head.headers) {
        return Err(StatusCallError::NotGrpc(head.status));
    }
    // An error without a message has its status in the headers ("Trailers-Only").
    if head.headers.contains_key("grpc-status") {
        check_grpc_status(&head.headers)?;
    }
    decode_frame(&read_body(body).await?)
}

fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    status == StatusCode::OK && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The body, if its trailer says that the call succeeded.
async fn read_body(mut body: RecvStream) -> Result<BytesMut, StatusCallError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(StatusCallError::Broken)?;
        if bytes.len() + chunk.len() > PREFIX_BYTES + MAX_ANSWER_BYTES {
            return Err(StatusCallError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
        let window = body.flow_control();
        window
            .release_capacity(chunk.len())
            .map_err(StatusCallError::Broken)?;
    }
    let trailers = body.trailers().await.map_err(StatusCallError::Broken)?;
    check_grpc_status(&trailers.unwrap_or_default())?;
    Ok(bytes)
}

/// Fails unless `grpc-status` is 0.
fn check_grpc_status(headers: &HeaderMap) -> Result<(), StatusCallError> {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        one_line(
            &String::from_utf8_lossy(value.unwrap_or_default()),
            MAX_TEXT_BYTES,
        )
    };
    match text("grpc-status") {
        code if code == "0" => Ok(()),
        code if code == UNIMPLEMENTED => Err(StatusCallError::NoCri),
        code => Err(StatusCallError::Failed {
            code,
            message: text("grpc-message"),
        }),
    }
}

/// The message with gRPC's prefix, not compressed.
fn encode_frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The message after the prefix. A compressed message is refused, because the request does not offer compression.
fn decode_frame(frame: &[u8]) -> Result<Bytes, StatusCallError> {
    match frame.split_first_chunk::<PREFIX_BYTES>() {
        Some(([0, length @ ..], message))
            if usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len()) =>
        {
            Ok(Bytes::copy_from_slice(message))
        }
        _ => Err(StatusCallError::NotAnAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_plain_message_of_the_length_it_says() {
        for message in [b"".as_slice(), b"x", &[7; 70_000]] {
            assert_eq!(decode_frame(&encode_frame(message)).unwrap(), message);
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
                matches!(decode_frame(bad), Err(StatusCallError::NotAnAnswer)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_status_other_than_zero_is_an_error_in_the_runtimes_words() {
        let message = |status: &[(&'static str, &'static str)]| {
            let headers = status
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            check_grpc_status(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(message(&[("grpc-status", "0")]), Ok(()));
        assert_eq!(
            message(&[("grpc-status", "2"), ("grpc-message", "no\tbudget")]),
            Err("answered with gRPC status 2: no budget".to_owned())
        );
        assert!(
            message(&[("grpc-status", "12")])
                .unwrap_err()
                .contains("CRI v1")
        );
        assert!(
            message(&[]).is_err(),
            "a call without a status has not ended well"
        );
    }
}
