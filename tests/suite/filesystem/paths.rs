//! Paths under a host root: links count from that root, and nothing leads out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cni_keeper::host::Host;
use nix::errno::Errno;

use super::{name, rerun};

#[test]
fn links_under_a_host_root_stay_inside() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("host");
    fs::create_dir_all(root.join("data/cni")).unwrap();
    fs::create_dir_all(root.join("opt")).unwrap();
    fs::write(root.join("data/cni/bridge"), "inside").unwrap();
    fs::create_dir_all(scratch.path().join("data")).unwrap();
    fs::write(scratch.path().join("data/secret"), "outside").unwrap();
    symlink("/data/cni", root.join("opt/cni")).unwrap();
    symlink("../../../../../../data/cni", root.join("opt/up")).unwrap();
    symlink("/opt/../../data/secret", root.join("opt/secret")).unwrap();
    symlink("cni", root.join("opt/again")).unwrap();

    let host = Host::open(&root).unwrap();
    for way in [
        "/opt/cni",
        "/opt/up",
        "/opt/again",
        "opt/cni/.",
        "/../data/cni",
    ] {
        let dir = host.open_dir(Path::new(way)).unwrap();
        assert_eq!(dir.path(), root.join("data/cni"), "{way}");
        assert_eq!(dir.path_of(&name("bridge")), root.join("data/cni/bridge"));
    }
    let error = host.read_file(Path::new("/opt/secret"), 100).unwrap_err();
    assert!(error.is_absent(), "{error}");
    assert_eq!(
        host.read_file(Path::new("/opt/up/bridge"), 9).unwrap(),
        b"inside"
    );
    assert_eq!(
        host.resolve_path(Path::new("/opt/again/bridge")).unwrap(),
        root.join("data/cni/bridge")
    );

    // A conflist that is a link: read where the runtime on the host would read it.
    symlink("/data/cni/bridge", root.join("opt/x.conflist")).unwrap();
    let opt = host.open_dir(Path::new("/opt")).unwrap();
    assert_eq!(opt.read_file("x.conflist".as_ref(), 9).unwrap(), b"inside");
    symlink("../data/cni/bridge", root.join("opt/y.conflist")).unwrap();
    assert_eq!(opt.read_file("y.conflist".as_ref(), 9).unwrap(), b"inside");
}

#[test]
fn a_loop_of_links_ends() {
    let scratch = tempfile::tempdir().unwrap();
    symlink("b", scratch.path().join("a")).unwrap();
    symlink("/a", scratch.path().join("b")).unwrap();
    let host = Host::open(scratch.path()).unwrap();
    let error = host.open_dir(Path::new("/a")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ELOOP));
}

#[test]
fn a_path_exists_or_not_through_links() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("file"), "").unwrap();
    symlink("/file", scratch.path().join("good")).unwrap();
    symlink("/nothing", scratch.path().join("dangling")).unwrap();
    let host = Host::open(scratch.path()).unwrap();
    for (path, there) in [
        ("/file", true),
        ("/good", true),
        ("/dangling", false),
        ("/no/x", false),
    ] {
        assert_eq!(host.exists(Path::new(path)).unwrap(), there, "{path}");
    }
    let error = host.exists(Path::new("/file/x")).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTDIR));
}

#[test]
fn a_root_must_be_a_directory_and_may_be_relative() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Host::open(file.path()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTDIR));
    // To open it would be to wait for its writer, for ever.
    let scratch = tempfile::tempdir().unwrap();
    let fifo = scratch.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Host::open(&fifo).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTDIR));
    assert!(
        Host::open(Path::new("/no/such/root"))
            .unwrap_err()
            .is_absent()
    );
    let here = Host::open(Path::new(".")).unwrap();
    assert_eq!(
        here.resolve_path(Path::new("Cargo.toml")).unwrap(),
        std::env::current_dir().unwrap().join("Cargo.toml")
    );
}

/// Only what is missing is made, with the mode asked for whatever the umask; what is there stays.
#[test]
fn missing_directories_are_made_and_others_left_alone() {
    let test = &missing_directories_are_made_and_others_left_alone;
    if !rerun::is_inside(test) {
        // The umask belongs to the whole process.
        let wrapper = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
        return rerun::must_pass(&rerun::command(test, &wrapper).output().unwrap());
    }
    let scratch = tempfile::tempdir().unwrap();
    let mode = |path: &str| fs::metadata(scratch.path().join(path)).unwrap().mode() & 0o7777;
    fs::create_dir(scratch.path().join("etc")).unwrap();
    fs::set_permissions(
        scratch.path().join("etc"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    symlink("/data", scratch.path().join("opt")).unwrap();

    let host = Host::open(scratch.path()).unwrap();
    host.ensure_dir(Path::new("/etc/cni/net.d"), 0o755).unwrap();
    assert_eq!(
        (mode("etc"), mode("etc/cni"), mode("etc/cni/net.d")),
        (0o700, 0o755, 0o755)
    );
    host.ensure_dir(Path::new("/etc/cni/net.d"), 0o711).unwrap();
    assert_eq!(mode("etc/cni/net.d"), 0o755);
    // Those that lead there are not only ours, whatever the last one is for.
    let state = Path::new("/var/lib/.state");
    let error = host.ensure_subdir(&state.join("store"), 0o700).unwrap_err();
    assert!(error.is_absent() && !scratch.path().join("var").exists());
    host.ensure_dir(state, 0o700).unwrap();
    host.ensure_subdir(&state.join("store"), 0o700).unwrap();
    assert_eq!(
        ["var", "var/lib", "var/lib/.state", "var/lib/.state/store"].map(mode),
        [0o755, 0o755, 0o700, 0o700]
    );
    let dir = host.ensure_dir(Path::new("/opt/cni/bin"), 0o755).unwrap();
    assert_eq!(
        dir.path(),
        scratch.path().join("data/cni/bin"),
        "where the link leads"
    );
}

#[test]
fn a_file_where_a_directory_should_be_is_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("bin"), "").unwrap();
    let host = Host::open(scratch.path()).unwrap();
    for path in ["/bin", "/bin/x"] {
        let error = host.ensure_dir(Path::new(path), 0o755).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOTDIR));
        assert!(error.to_string().contains("move it aside"), "{error}");
    }
    assert!(
        host.open_dir(Path::new("/nothing"))
            .unwrap_err()
            .is_absent()
    );
}
