//! The nodes of a cluster do not all download at once.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::agent::Agent;
use crate::support::node::{CONFLIST, Node};
use crate::support::release::{NETWORK, RELEASE, Release, plugin};
use crate::support::server::{Reply, Server};

/// A node that must download waits its part of the window, says so in one constant sentence, and sends no request
/// meanwhile. Without a window it does not wait. A node whose disk is right never waits.
#[test]
fn only_a_download_waits_its_part_of_the_window() {
    let server = Server::http();
    server.on("/p.tgz", [Reply::ok(&RELEASE.bytes)]);
    let node = Node::empty();
    let window = "fetch: {spread: 10000h}\n";
    let artifact = RELEASE.artifact(&server.url("/p.tgz"));
    node.declare(&artifact, &format!("{NETWORK}{window}"));
    let agent = Agent::start(&node);
    agent.becomes_unready("binaries: ");
    agent.until("reported", |agent| {
        let reported = agent.get("/readyz").body;
        reported.contains("its download begins") && reported.contains("fetch.spread")
    });
    let reported = agent.get("/readyz").body;
    assert_eq!(
        agent.get("/readyz").body,
        reported,
        "the same while it is true"
    );
    assert_eq!(server.count("/p.tgz"), 0);
    let text = fs::read_to_string(node.config()).unwrap();
    node.redeclare(&text.replace(window, ""));
    agent.until_without_asking("installed", || node.has(CONFLIST));
    agent.becomes_ready();
    agent.stop();
    node.redeclare(&text);
    Agent::ready(&node).stop();
    assert_eq!(server.count("/p.tgz"), 1);
}

/// Serves one body to every client, and counts the connections.
struct Counter {
    address: SocketAddr,
    now: AtomicUsize,
    most: AtomicUsize,
    served: AtomicUsize,
    body: Vec<u8>,
}

impl Counter {
    fn start(body: Vec<u8>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let counter = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            body,
        });
        let theirs = Arc::clone(&counter);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&theirs);
                thread::spawn(move || counter.serve(stream));
            }
        });
        counter
    }

    fn serve(&self, mut stream: TcpStream) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got > 0) {
            head.push(byte[0]);
        }
        let length = self.body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let (first, last) = self.body.split_at(length - 1);
        let sent = stream.write_all(answer.as_bytes());
        let sent = sent.and_then(|()| stream.write_all(first));
        // The last byte is what lets it go on: whoever asks before that does so at the same time.
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.served.fetch_add(1, Ordering::SeqCst);
        let _ = sent.and_then(|()| stream.write_all(last));
    }
}

/// Four artifacts are four requests, one after the other: a thousand nodes make a thousand connections.
#[test]
fn a_node_has_one_download_at_a_time() {
    for command in ["install", "run"] {
        let node = Node::empty();
        let names = ["bridge", "host-local", "loopback", "portmap"];
        let mut text = String::from("artifacts:\n");
        let pack = Release::new(&names, plugin);
        let one = Counter::start(pack.bytes.clone());
        for name in names {
            let mut artifact = pack.artifact(&format!("http://{}/{name}.tgz", one.address));
            artifact.plugins = format!("[{name}]");
            let artifact = artifact.to_string().replace("cni-plugins", name);
            text += &artifact.replace("artifacts:\n", "");
        }
        node.declare_text(&format!("{text}{NETWORK}"));
        match command {
            "install" => _ = node.run("install").exits(0),
            _ => _ = Agent::ready(&node).stop(),
        }
        assert_eq!(one.served.load(Ordering::SeqCst), names.len(), "{command}");
        assert_eq!(one.most.load(Ordering::SeqCst), 1, "{command}");
    }
}
