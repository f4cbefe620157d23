//! Faults 15 and 58: no descriptors are left, and health still answers.

use std::fs::{self, File};
use std::net::TcpStream;
use std::time::Instant;

use cni_keeper::http::ConnectionLimits;

use super::agent::{Agent, DEADLINE};
use super::client::Client;
use crate::support::rerun;

/// Opens files until there are no descriptors left.
fn use_up() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Connects although there are no descriptors left: frees one after the other, since the server may take the first.
fn connect(agent: &Agent, files: &mut Vec<File>) -> Client {
    loop {
        files.pop().expect("a file to give up");
        if let Ok(stream) = TcpStream::connect(agent.address) {
            return Client::over(stream);
        }
    }
}

/// One spare descriptor is enough for one probe after the other, also if a silent client holds it. Once there are more,
/// everything is as before.
#[test]
fn fault_15_health_answers_without_descriptors() {
    let test = fault_15_health_answers_without_descriptors;
    if !rerun::is_inside(&test) {
        let limit = ["prlimit", "--nofile=64:64"];
        let output = rerun::command(&test, &limit).output();
        rerun::must_pass(&output.expect("prlimit(1) runs"));
        return;
    }
    // No connection is closed only because it is slow.
    let agent = Agent::within(ConnectionLimits {
        head_timeout: DEADLINE * 2,
        ..ConnectionLimits::default()
    });
    let mut client = agent.connect();
    assert_eq!(client.get("/readyz").status, 200);
    let open = descriptors();
    drop(client);
    // The server's end is closed too: from here on it has its spare descriptor, and no other.
    let closed = Instant::now();
    while descriptors() > open - 2 {
        assert!(closed.elapsed() < DEADLINE, "it keeps the connection");
    }
    let mut files = use_up();
    for _ in 0..20 {
        let mut client = connect(&agent, &mut files);
        assert_eq!(client.get("/readyz").body, "ok\n");
        drop(client);
        // The descriptor of the client, and no other: the server's own is not for the taking.
        files.push(File::open("/dev/null").unwrap());
    }

    let silent = [(); 5].map(|()| connect(&agent, &mut files));
    let mut probe = connect(&agent, &mut files);
    assert_eq!(probe.get("/readyz").body, "ok\n");

    drop((files, silent, probe));
    let mut clients: Vec<Client> = (0..10).map(|_| agent.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/readyz").status, 200);
    }
}
