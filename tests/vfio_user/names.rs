//! Which server an error or a line of the log speaks of, where several are connected and nobody gave their devices a name.

use super::served::{PLAIN, connect, message, receive, send};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions, MAX_NAME};
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUserConnection};

/// A server that agrees on a version, and answers everything else by an error.
fn answers(mut main: UnixStream) {
    while let Some((asked, _)) = receive(&mut main) {
        let (flags, payload): (_, &[u8]) = if asked.command == 1 { (1, &[0, 0, 2, 0]) } else { (0x21, &[]) };
        send(&main, &message(asked.id, asked.command, flags, if flags == 1 { 0 } else { 22 }, payload), &[]);
    }
}

fn device(connection: VfioUserConnection, name: &str) -> Result<Device, vfiomig::Error> {
    let options = DeviceOptions { name: name.to_string(), ..DeviceOptions::default() };
    Device::new(Box::new(Arc::new(connection).transport()?), options)
}

/// Connects to a server that listens at `path`.
fn at(path: &Path) -> VfioUserConnection {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || answers(listener.accept().unwrap().0));
    VfioUserConnection::connect(path, ConnectOptions::default()).unwrap()
}

/// What it is called in the error of a call that fails at once: a server without GET_INFO is no device.
fn called(connection: VfioUserConnection, name: &str) -> String {
    device(connection, name).err().unwrap().to_string()
}

#[test]
fn a_device_without_a_name_has_its_servers() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.sock", "b.sock"] {
        let path = dir.path().join(name);
        let error = called(at(&path), "");
        assert!(error.starts_with(&format!("vfio-user {}: ", path.display())), "{error}");
    }
    let error = called(at(&dir.path().join("c.sock")), "nic0");
    assert!(error.starts_with("nic0: ") && !error.contains("c.sock"), "{error}");
}

/// The path that a server bound may be the same in two directories; what the caller gave is not.
#[test]
fn servers_of_relative_paths_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let places = ["one", "other"].map(|name| dir.path().join(name));
    let errors = places.map(|place| {
        std::fs::create_dir(&place).unwrap();
        // All of a process is in one directory, so that the servers bind the same path one after the other.
        let (bound, path) = (dir.path().join("s"), place.join("s"));
        let listener = UnixListener::bind(&bound).unwrap();
        std::fs::rename(&bound, &path).unwrap();
        std::thread::spawn(move || answers(listener.accept().unwrap().0));
        called(VfioUserConnection::connect(&path, ConnectOptions::default()).unwrap(), "")
    });
    assert_ne!(errors[0], errors[1]);
}

/// A descriptor brings no path, or one that another has as well: its number tells.
#[test]
fn connections_of_descriptors_are_told_apart() {
    let (one, _ends) = connect(PLAIN, ConnectOptions::default());
    let (other, _other_ends) = connect(PLAIN, ConnectOptions::default());
    let lost = |connection: Arc<VfioUserConnection>| {
        connection.close().and_then(|()| connection.serve(std::time::Duration::ZERO).map(|_| ()))
    };
    let (one, other) = (lost(one).unwrap_err().to_string(), lost(other).unwrap_err().to_string());
    assert!(one.starts_with("vfio-user fd ") && one != other, "{one} {other}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let sockets = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    for _ in 0..2 {
        let server = listener.accept().unwrap().0;
        std::thread::spawn(move || answers(server));
    }
    let connections = sockets.map(|socket| VfioUserConnection::new(socket.into(), ConnectOptions::default()).unwrap());
    let errors = connections.map(|connection| {
        let connection = Arc::new(connection);
        let error = Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default()).err().unwrap();
        (error.to_string(), connection)
    });
    assert!(
        errors[0].0 != errors[1].0 && errors[0].0.contains("fd ") && errors[0].0.contains("s"),
        "{} {}",
        errors[0].0,
        errors[1].0
    );
}

/// A path may be long, and of any bytes: the name that is made of it is one.
#[test]
fn a_long_path_of_any_bytes_is_a_name() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let left = 107 - dir.path().as_os_str().len() - 1;
    let path = dir.path().join(std::ffi::OsStr::from_bytes(&vec![0x7f; left]));
    let error = called(at(&path), "");
    let name = error.split(": ").next().unwrap();
    assert!(name.starts_with("vfio-user ") && name.len() <= MAX_NAME && !name.contains('\x7f'), "{error:?}");
}
