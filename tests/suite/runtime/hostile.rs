//! Servers that are no runtime, or a broken one: each gives a reason, none a crash or an endless wait.

use std::fs::File;
use std::future::pending;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use cni_keeper::runtime::{RuntimeError, StatusCallError};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{READY, Reply, SOCKET, against, ask, host, replied, run, speak, status};

/// The head of an HTTP/2 frame: length, type, flags, stream.
fn frame(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut head = length.to_be_bytes()[1..].to_vec();
    head.extend([kind, flags]);
    head.extend(stream.to_be_bytes());
    head
}

/// Writes these bytes and keeps the connection open.
async fn write(mut stream: UnixStream, bytes: Vec<u8>) {
    // The client may close before the end.
    let _ = stream.write_all(&bytes).await;
    let mut unread = Vec::new();
    let _ = stream.read_to_end(&mut unread).await;
}

fn refused(reply: Reply) -> StatusCallError {
    run(replied(reply)).unwrap_err().reason
}

#[test]
fn nothing_there() {
    run(async {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let host = host(root.path());
        let message = |error: RuntimeError| error.to_string();
        let path = format!("{}{SOCKET}", root.path().display());
        assert_eq!(
            ask(&host).await.map_err(message),
            Err(format!(
                "{path} is not there; is the container runtime running, and is runtime.endpoint its CRI socket?"
            ))
        );
        // A socket of this machine is not below the host root.
        symlink("/run/other.sock", root.path().join("run/cri.sock")).unwrap();
        let error = ask(&host).await.unwrap_err();
        assert!(matches!(error.reason, StatusCallError::NoSocket), "{error}");
        // In a pod without a mount for it.
        std::fs::remove_dir_all(root.path().join("run")).unwrap();
        assert_eq!(
            ask(&host).await.map_err(message),
            Err(format!(
                "{path} is not there, nor is its directory; mount the host's /run into this container (hostPath), or correct runtime.endpoint"
            ))
        );
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let host = host(root.path());
        let socket = root.path().join("run/cri.sock");
        File::create(&socket).unwrap();
        let error = ask(&host).await.unwrap_err();
        assert!(
            matches!(error.reason, StatusCallError::Refused(_)),
            "{error}"
        );
        std::fs::remove_file(&socket).unwrap();
        // Closed, as by a runtime that has ended: the file stays.
        drop(UnixListener::bind(&socket).unwrap());
        let error = ask(&host).await.unwrap_err();
        assert!(
            matches!(error.reason, StatusCallError::Refused(_)),
            "{error}"
        );
        assert!(error.to_string().contains("does not accept connections: "));
    });
}

/// Three kinds of silence: nothing at all, only the greeting of HTTP/2, and a byte now and then.
#[test]
fn silence_ends_after_two_seconds() {
    run(async {
        let begun = Instant::now();
        let nothing = against(async |_open: UnixStream| pending().await);
        let greeting = against(|stream| speak(stream, |_, respond| std::mem::forget(respond)));
        let drip = against(async |mut stream: UnixStream| {
            let mut bytes = frame(0, 4, 0, 0);
            bytes.extend(frame(16_384, 0, 0, 1));
            for byte in bytes.into_iter().chain(std::iter::repeat(0)) {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
        let (nothing, greeting, drip) = tokio::join!(nothing, greeting, drip);
        for error in [nothing, greeting, drip].map(Result::unwrap_err) {
            assert!(matches!(error.reason, StatusCallError::TimedOut), "{error}");
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn what_is_not_http_2_breaks_off() {
    // A frame that claims 16 MiB, the end of a header that never began, a window that overflows.
    let mut huge = frame(0, 4, 0, 0);
    huge.extend(frame(0xff_ffff, 0, 0, 1));
    let mut astray = frame(0, 4, 0, 0);
    astray.extend(frame(0, 9, 0, 1));
    let mut window = frame(0, 4, 0, 0);
    window.extend(frame(4, 8, 0, 0));
    window.extend(0x7fff_ffff_u32.to_be_bytes());
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x46".to_vec(),
        vec![0xff; 4096],
        huge,
        astray,
        window,
    ] {
        let shown = format!("{:?}", bytes.get(..24).unwrap_or(&bytes));
        let error = run(against(|stream| write(stream, bytes))).unwrap_err();
        assert!(
            matches!(error.reason, StatusCallError::Broken(_)),
            "{shown} {error}"
        );
    }
}

#[test]
fn a_connection_closed_early_breaks_off() {
    // Before the client's greeting, after it, in the middle of the question.
    for read in [0, 24, 100] {
        let error = run(against(async |mut stream: UnixStream| {
            let mut some = vec![0; read];
            stream.read_exact(&mut some).await.unwrap();
        }));
        let error = error.unwrap_err();
        assert!(
            matches!(error.reason, StatusCallError::Broken(_)),
            "{read} {error}"
        );
    }
}

#[test]
fn another_http_2_server_is_distinguished() {
    let page = |status: StatusCode, kind: &'static str| {
        let mut head = Response::new(());
        *head.status_mut() = status;
        head.headers_mut()
            .insert("content-type", HeaderValue::from_static(kind));
        Reply {
            head,
            body: Some(READY.to_vec()),
            trailers: None,
        }
    };
    for reply in [
        page(StatusCode::NOT_FOUND, "text/html"),
        page(StatusCode::OK, "text/html"),
        page(StatusCode::BAD_GATEWAY, "application/grpc"),
        Reply::default(),
    ] {
        let status = reply.head.status();
        let error = refused(reply);
        assert!(
            matches!(error, StatusCallError::NotGrpc(reported) if reported == status),
            "{error}"
        );
    }
}

#[test]
fn an_answer_without_an_end_is_not_read_to_it() {
    let limit = 256 * 1024;
    for (size, fits) in [(limit, true), (limit + 1, false), (8 * limit, false)] {
        let error = refused(Reply::grpc(&vec![0xff; size]));
        match error {
            StatusCallError::NotAnAnswer => assert!(fits, "{size}"),
            StatusCallError::TooLarge => assert!(!fits, "{size}"),
            other => panic!("{size}: {other}"),
        }
    }
}

#[test]
fn trailers_without_an_end_are_not_read_to_it() {
    let mut trailers = status("0");
    for number in 0..2000 {
        let name = format!("x-{number}").parse().unwrap();
        let value = HeaderValue::from_static("0123456789012345678901234567890123456789");
        HeaderMap::insert::<http::HeaderName>(&mut trailers, name, value);
    }
    let mut reply = Reply::grpc(READY);
    reply.trailers = Some(trailers);
    let error = refused(reply);
    assert!(matches!(error, StatusCallError::Broken(_)), "{error}");
}

#[test]
fn what_is_no_message_is_no_answer() {
    let framed = |flag: u8, length: u32, message: &[u8]| {
        let mut body = vec![flag];
        body.extend(length.to_be_bytes());
        body.extend(message);
        Reply::framed(body)
    };
    let length = u32::try_from(READY.len()).unwrap();
    for reply in [
        Reply::framed(Vec::new()),
        Reply::framed(b"\0\0".to_vec()),
        // Compressed, shorter than it says, longer than it says, two of them.
        framed(1, length, READY),
        framed(0, length + 1, READY),
        framed(0, length - 1, READY),
        framed(0, length, &[READY, b"\0\0\0\0\0"].concat()),
        framed(0, u32::MAX, READY),
        // No protobuf, no status, a status without conditions.
        Reply::grpc(b"<html></html>"),
        Reply::grpc(b""),
        Reply::grpc(b"\x0a\x00"),
    ] {
        let shown = format!("{:?}", reply.body);
        let error = refused(reply);
        assert!(
            matches!(error, StatusCallError::NotAnAnswer),
            "{error}: {shown}"
        );
    }
}

/// gRPC ends every call with a status; without it the message may be cut short.
#[test]
fn a_message_without_a_status_is_not_believed() {
    let mut reply = Reply::grpc(READY);
    reply.trailers = None;
    let error = refused(reply);
    assert!(
        matches!(&error, StatusCallError::Failed { code, .. } if code.is_empty()),
        "{error}"
    );
}
