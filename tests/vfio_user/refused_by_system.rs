//! A request that the system refuses to send, because too many descriptors are on their way already: no byte of it has left, so
//! the call fails and the connection lives.

use super::served::{Ends, PLAIN, connect, message, receive, send, send_with};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use vfiomig::transport::vfio_user::{ConnectOptions, DmaAccess};

const IN_CHILD: &str = "VFIOMIG_TEST_DESCRIPTORS_ON_THEIR_WAY";
const NOBODY: libc::c_long = 65534;
/// Descriptors that a user may have on their way, as many as a process may have open.
const MOST: libc::rlim_t = 100;

/// Limits of the process change, and the user of a thread: in a process of its own.
#[test]
fn too_many_descriptors_on_their_way_end_no_connection() {
    if std::env::var_os(IN_CHILD).is_some() {
        return in_child();
    }
    let name = "refused_by_system::too_many_descriptors_on_their_way_end_no_connection";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let outcome = child.args(["--exact", name, "--nocapture"]).env(IN_CHILD, "1").output().unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("1 passed"), "the child ran another test");
}

fn in_child() {
    let (connection, Ends { mut main, .. }) = connect(PLAIN, ConnectOptions::default());
    let server = std::thread::spawn(move || {
        let mut came = Vec::new();
        while let Some((asked, fds)) = receive(&mut main) {
            came.push(fds.len());
            send(&main, &message(asked.id, asked.command, 1, 0, &[]), &[]);
        }
        came
    });
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(1 << 20).unwrap();
    let limit = libc::rlimit { rlim_cur: MOST, rlim_max: MOST };
    // SAFETY: a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    // SAFETY: the user of this thread only, as this is not the C library's function: one without privileges has the limit.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    // SAFETY: asks for a number.
    assert!(result == 0 || unsafe { libc::geteuid() } != 0, "root has no limit, and this process cannot be another");
    let (here, there) = UnixStream::pair().unwrap();
    fill(&here, &memory);
    let map = |iova: u64, with_memory: bool| {
        let memory = with_memory.then(|| (memory.as_fd(), 0));
        connection.map(iova, 0x1000, memory, DmaAccess::ALL).map_err(|error| error.errno())
    };
    assert_eq!(map(0, true), Err(libc::ETOOMANYREFS));
    assert_eq!(map(0, true), Err(libc::ETOOMANYREFS), "a connection that lives says the same again");
    // What takes no descriptor goes, and what was refused was not kept as mapped.
    assert_eq!(map(0, false), Ok(()));
    drop((here, there));
    assert_eq!(map(0x1000, true), Ok(()));
    drop(connection);
    assert_eq!(server.join().unwrap(), [0, 1]);
}

/// Sends descriptors that nobody takes until the system refuses more.
fn fill(stream: &UnixStream, file: &File) {
    for _ in 0..MOST {
        let fds: Vec<OwnedFd> = (0..16).map(|_| file.as_fd().try_clone_to_owned().unwrap()).collect();
        match send_with(stream, &[0], &fds) {
            Ok(_) => {}
            Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS)),
        }
    }
    panic!("the system lets {} descriptors be on their way", MOST * 16);
}
