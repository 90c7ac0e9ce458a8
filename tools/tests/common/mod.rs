//! What the tests of the command have in common: the command itself, made-up hosts, and servers as processes.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The command with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfiomig"));
    command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// What it printed, and its status.
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs the command to its end.
pub fn run(arguments: &[&str]) -> Ran {
    Ran::of(command(arguments).output().unwrap())
}

/// A made-up host.
pub struct Host(pub TempDir);

impl Host {
    pub fn new() -> Self {
        Host(tempfile::tempdir().unwrap())
    }

    pub fn root(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.0.path().join(path)).unwrap();
        self
    }

    pub fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    /// A PCI function with a group.
    pub fn pci(&self, id: &str, vendor: &str, device: &str, driver: Option<&str>, group: &str) -> &Self {
        let dir = format!("sys/bus/pci/devices/{id}");
        self.file(&format!("{dir}/vendor"), &format!("0x{vendor}\n"));
        self.file(&format!("{dir}/device"), &format!("0x{device}\n"));
        self.file(&format!("{dir}/driver_override"), "(null)\n");
        self.link(&format!("{dir}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"));
        self.link(
            &format!("sys/kernel/iommu_groups/{group}/devices/{id}"),
            &format!("../../../../bus/pci/devices/{id}"),
        );
        if let Some(driver) = driver {
            self.link(&format!("{dir}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
        }
        self
    }

    /// A process that has `node` open.
    pub fn process(&self, pid: u32, name: &str, node: &str) -> &Self {
        self.file(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.link(&format!("proc/{pid}/fd/0"), "/dev/null").link(&format!("proc/{pid}/fd/7"), node)
    }
}

/// `receive` with these devices, and where it listens.
pub fn receiver(devices: &[String]) -> (Child, String) {
    let mut arguments = vec!["receive", "--listen", "0"];
    arguments.extend(devices.iter().map(String::as_str));
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_string();
    // The rest is not lost: it is what a failure is read from.
    std::thread::spawn(move || {
        let mut rest = String::new();
        let _ = err.read_to_string(&mut rest);
        eprint!("{rest}");
    });
    (child, address)
}

/// How it ended.
pub fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

/// The program vfiomig-simdev, built once.
fn simdev() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built =
            Command::new(cargo).args(["build", "-q", "--locked", "-p", "simdev", "--bin", "vfiomig-simdev"]).output();
        let built = built.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        // The command is beside it.
        Path::new(env!("CARGO_BIN_EXE_vfiomig")).with_file_name("vfiomig-simdev")
    })
}

/// What vfiomig-simdev says of its options.
pub fn simdev_help() -> String {
    let output = Command::new(simdev()).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A server of vfio-user, which ends with this.
pub struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    pub fn new(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("device.sock");
        let mut command = Command::new(simdev());
        command.arg("--socket").arg(&socket).arg("--report").arg(dir.path().join("report.json")).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Server { child, dir }
    }

    /// What it writes to standard error from here on fails.
    pub fn drop_stderr(&mut self) {
        drop(self.child.stderr.take());
    }

    /// As a DEVICE.
    pub fn name(&self) -> String {
        format!("unix:{}", self.dir.path().join("device.sock").display())
    }

    /// Its verdict, once its client has gone.
    pub fn verdict(mut self) -> serde_json::Value {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        serde_json::from_str(&fs::read_to_string(self.dir.path().join("report.json")).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
