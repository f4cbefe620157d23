//! A container runtime that answers, does not, or answers something else, behind a real unix socket.

mod conversation;
mod hostile;

use std::future::pending;
use std::path::Path;

use bytes::Bytes;
use cni_keeper::host::Host;
use cni_keeper::runtime::{CriStatus, RuntimeError, query_runtime_status};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{UnixListener, UnixStream};

/// The answer of containerd 1.6.20 with a network of bridge and portmap.
const READY: &[u8] = include_bytes!("runtime/containerd-1.6-ready.bin");

/// Where the socket is, below the host root.
const SOCKET: &str = "/run/cri.sock";

/// Runs a test that waits for sockets.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

/// A host with nothing but `/run`.
fn host(root: &Path) -> Host {
    std::fs::create_dir(root.join("run")).unwrap();
    Host::open(root).unwrap()
}

async fn ask(host: &Host) -> Result<CriStatus, RuntimeError> {
    query_runtime_status(host, Path::new(SOCKET)).await
}

/// The result for a runtime that does `serve` with the one connection that it gets.
async fn against<S>(serve: impl FnOnce(UnixStream) -> S) -> Result<CriStatus, RuntimeError>
where
    S: Future<Output = ()>,
{
    // The kernel takes 107 bytes of path.
    let root = tempfile::tempdir_in("/tmp").unwrap();
    let host = host(root.path());
    let listener = UnixListener::bind(root.path().join("run/cri.sock")).unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
        pending::<()>().await;
    };
    tokio::select! {
        answer = ask(&host) => answer,
        () = server => unreachable!("it goes on until there is an answer"),
    }
}

/// One scripted answer of a server that speaks HTTP/2.
#[derive(Default)]
struct Reply {
    head: Response<()>,
    body: Option<Vec<u8>>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    /// An answer to gRPC: a message and the status at its end.
    fn grpc(message: &[u8]) -> Self {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        Self::framed(body)
    }

    /// The same with a body that need not be one.
    fn framed(body: Vec<u8>) -> Self {
        let mut head = Response::new(());
        let kind = HeaderValue::from_static("application/grpc");
        head.headers_mut().insert("content-type", kind);
        Self {
            head,
            body: Some(body),
            trailers: Some(status("0")),
        }
    }

    fn give(self, mut respond: SendResponse<Bytes>) {
        let ends = self.body.is_none() && self.trailers.is_none();
        let mut stream = respond.send_response(self.head, ends).unwrap();
        if let Some(body) = self.body {
            let ends = self.trailers.is_none();
            stream.send_data(body.into(), ends).unwrap();
        }
        if let Some(trailers) = self.trailers {
            stream.send_trailers(trailers).unwrap();
        }
    }
}

fn status(code: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers
}

/// Speaks HTTP/2 and gives each request to `answer`, until the client leaves.
async fn speak(
    stream: UnixStream,
    mut answer: impl FnMut(Request<h2::RecvStream>, SendResponse<Bytes>),
) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answer(request, respond);
    }
}

/// The result for a runtime with this answer.
async fn replied(reply: Reply) -> Result<CriStatus, RuntimeError> {
    let mut reply = Some(reply);
    against(|stream| {
        speak(stream, move |_, respond| {
            reply.take().unwrap().give(respond);
        })
    })
    .await
}
