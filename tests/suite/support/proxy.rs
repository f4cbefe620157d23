//! Real proxies on loopback: squid and tinyproxy, as Debian builds them.
//!
//! Only they know the name [`ORIGIN`]: bytes from there went through them.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// A name for 127.0.0.1 that only the proxies resolve.
pub(crate) const ORIGIN: &str = "origin.example";

/// The user and the password that the proxies ask for.
pub(crate) const LOGIN: (&str, &str) = ("keeper", "HUSH-proxy");

/// How often another port is tried when another program took the one that was free a moment ago.
const PORTS: u32 = 10;

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Squid,
    Tinyproxy,
}

/// A running proxy. Killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Proxy {
    /// Starts one that asks for [`LOGIN`]; `None`, printed as skipped, if it is not installed or not permitted.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        for _ in 0..PORTS {
            let directory = tempfile::tempdir().unwrap();
            // Squid runs as a user of its own.
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            let mut command = match kind {
                Kind::Squid => squid(&directory, address),
                Kind::Tinyproxy => tinyproxy(&directory, address),
            };
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    super::skipped(&format!("{kind:?} is not installed"));
                    return None;
                }
                Err(error) => panic!("{kind:?}: {error}"),
            };
            let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut message = Vec::new();
            for line in log.by_ref().map_while(Result::ok) {
                message.push(line);
                if message
                    .last()
                    .is_some_and(|line| line.contains("Accepting"))
                {
                    break;
                }
            }
            if is_up(&mut child, address) {
                // A full pipe must not stop it.
                thread::spawn(move || log.for_each(drop));
                return Some(Self {
                    child,
                    address,
                    _directory: directory,
                });
            }
            let _ = child.kill();
            let _ = child.wait();
            let message = message.join("\n");
            if message.contains("Operation not permitted") || message.contains("not found") {
                super::skipped(&format!("{kind:?} cannot be started here: {message}"));
                return None;
            }
            println!("{kind:?} did not start: {message}");
        }
        panic!("{kind:?} does not start");
    }

    /// Its URL, with user and password.
    pub(crate) fn url(&self) -> String {
        let (user, password) = LOGIN;
        self.url_for(&format!("{user}:{password}@"))
    }

    /// Its URL, with other user information.
    pub(crate) fn url_for(&self, user: &str) -> String {
        format!("http://{user}{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it listens. Squid says so a little before it does; a proxy that has ended does not listen.
fn is_up(child: &mut Child, address: SocketAddr) -> bool {
    while child.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        thread::yield_now();
    }
    false
}

fn hosts() -> String {
    format!("127.0.0.1 localhost {ORIGIN}\n")
}

fn squid(directory: &TempDir, address: SocketAddr) -> Command {
    let at = directory.path().display();
    let (user, password) = LOGIN;
    let helper = format!(
        "while read -r user word; do [ \"$user $word\" = '{user} {password}' ] && echo OK || echo ERR; done\n"
    );
    fs::write(directory.path().join("login.sh"), helper).unwrap();
    fs::write(directory.path().join("hosts"), hosts()).unwrap();
    let config = format!(
        "http_port {address}
pid_filename none
access_log none
cache_log {at}/cache.log
coredump_dir {at}
hosts_file {at}/hosts
dns_nameservers 127.0.0.1
pinger_enable off
cache deny all
cache_mem 1 MB
shutdown_lifetime 0 seconds
auth_param basic program /bin/sh {at}/login.sh
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"
    );
    let path = directory.path().join("squid.conf");
    fs::write(&path, config).unwrap();
    // What it says while it starts goes to stderr.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exec squid -N -d 1 -f \"$0\" 2>&1"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// It has no table of names of its own, so it gets another hosts file.
fn tinyproxy(directory: &TempDir, address: SocketAddr) -> Command {
    let (user, password) = LOGIN;
    let config = format!(
        "Listen {}\nPort {}\nTimeout 60\nMaxClients 50\nLogLevel Info\nBasicAuth {user} {password}\n",
        address.ip(),
        address.port()
    );
    fs::write(directory.path().join("hosts"), hosts()).unwrap();
    fs::write(directory.path().join("tinyproxy.conf"), config).unwrap();
    let script =
        "mount --bind \"$0/hosts\" /etc/hosts && exec tinyproxy -d -c \"$0/tinyproxy.conf\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c"])
        .arg(format!("exec 2>&1; {script}"))
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}
