//! What the agent asks a runtime, and what it makes of the answer.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;

use cni_keeper::host::Host;
use cni_keeper::runtime::{
    CriStatus, ExpectedNetwork, StatusCallError, compare_loaded_network, real_dir,
};
use http::{HeaderMap, Method};
use tokio::net::UnixListener;

use super::{READY, Reply, against, ask, host, replied, run, speak};

/// What a runtime must have loaded: the network of containerd's recorded answer, on this host.
fn expected(host: &Host, answer: &CriStatus) -> ExpectedNetwork {
    let network = &answer.cni.as_ref().unwrap().networks[0];
    ExpectedNetwork {
        file: "10-cni-keeper.conflist".to_owned(),
        network: "pod-network".to_owned(),
        chain: vec!["bridge".to_owned(), "portmap".to_owned()],
        text: network.text.clone(),
        rival: None,
        conf_dir: real_dir(host, Path::new("/etc/cni/net.d")),
        bin_dir: real_dir(host, Path::new("/opt/cni/bin")),
    }
}

#[test]
fn the_answer_of_containerd_arrives_whole() {
    let answer = run(replied(Reply::grpc(READY))).unwrap();
    assert!(answer.runtime.ready && answer.network.ready);
    let networks = answer.cni.unwrap().networks;
    assert_eq!(networks[0].name, "pod-network");
}

/// One call of `runtime.v1`, as every gRPC server expects it. The agent calls no other method.
#[test]
fn the_question_is_a_verbose_status_and_nothing_else() {
    let (sender, requests) = mpsc::channel();
    let answer = run(against(|stream| {
        speak(stream, move |mut request, respond| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut body = Vec::new();
                while let Some(chunk) = request.body_mut().data().await {
                    body.extend(chunk.unwrap());
                }
                sender.send((request.into_parts().0, body)).unwrap();
                Reply::grpc(READY).give(respond);
            });
        })
    }));
    assert!(answer.is_ok());
    let (head, body) = requests.recv().unwrap();
    assert!(requests.recv().is_err(), "one is enough");
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.uri.path(), "/runtime.v1.RuntimeService/Status");
    let header = |name: &str| head.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/grpc");
    assert_eq!(header("te"), "trailers");
    assert_eq!(header("grpc-timeout"), "2000m");
    // Field 1, a varint, true.
    assert_eq!(body, [0, 0, 0, 0, 2, 0x08, 1]);
}

/// The runtime names its directories as it sees them: under `--host-root` they lie elsewhere, and a link leads to
/// the same one.
#[test]
fn directories_are_compared_by_where_they_lie() {
    run(async {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let host = host(root.path());
        for dir in ["etc/cni/net.d", "opt/real/bin"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        symlink("/opt/real", root.path().join("opt/cni")).unwrap();
        let listener = UnixListener::bind(root.path().join("run/cri.sock")).unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            speak(stream, |_, respond| Reply::grpc(READY).give(respond)).await;
        };
        let (answer, ()) = tokio::join!(ask(&host), server);
        let answer = answer.unwrap();
        let cni = answer.cni.as_ref().unwrap();
        assert_eq!(cni.conf_dir, root.path().join("etc/cni/net.d"));
        assert_eq!(cni.bin_dirs, [root.path().join("opt/real/bin")]);
        let mut expected = expected(&host, &answer);
        assert_eq!(
            compare_loaded_network(&answer, &expected),
            Vec::<String>::new()
        );
        expected.bin_dir = real_dir(&host, Path::new("/usr/lib/cni"));
        assert_eq!(compare_loaded_network(&answer, &expected).len(), 1);
    });
}

/// An error comes in the headers alone, or after headers without a message.
#[test]
fn an_error_is_reported_in_the_runtimes_own_words() {
    let reported = |name: &'static str, code: &str, at_once: bool| {
        let mut status = HeaderMap::new();
        status.insert("grpc-status", code.parse().unwrap());
        status.insert(name, "no budget".parse().unwrap());
        let mut reply = Reply::framed(Vec::new());
        if at_once {
            reply.head.headers_mut().extend(status);
            (reply.body, reply.trailers) = (None, None);
        } else {
            reply.trailers = Some(status);
        }
        run(replied(reply)).unwrap_err().reason
    };
    for at_once in [true, false] {
        let error = reported("grpc-message", "8", at_once);
        assert_eq!(error.to_string(), "answered with gRPC status 8: no budget");
        let error = reported("grpc-message", "12", at_once);
        assert!(matches!(error, StatusCallError::NoCri), "{error}");
    }
}
