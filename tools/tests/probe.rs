//! `vfiomig probe` and `info`: on made-up hosts, where each has one thing in the way, and on servers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Host, Ran, Server, command, run};

const NIC: &str = "0000:3b:00.1";
const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

/// Obstacles behind which the device could not be asked at all: whether it can be migrated is not known.
const UNKNOWN: [&str; 6] = [
    "no such device",
    "a group in use",
    "a cdev in use",
    "a node that is no VFIO device",
    "no such mediated device",
    "no server",
];

/// What is in the way, and words that the reason and the next step must have.
type Case = (&'static str, fn(&Host), &'static str, &'static [&'static str], &'static [&'static str]);

const CASES: [Case; 12] = [
    ("no such device", |_| {}, NIC, &["no such device"], &["lspci"]),
    (
        "no driver, and the kernel has the right one",
        |host| {
            host.pci(NIC, "15b3", "101e", None, "7");
            host.file("proc/sys/kernel/osrelease", "6.12.1\n");
            host.file(
                "lib/modules/6.12.1/modules.alias",
                "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n",
            );
        },
        NIC,
        &["no driver is bound"],
        &["modprobe mlx5_vfio_pci", "driver_override", NIC],
    ),
    (
        "no driver, and the kernel lacks the right one",
        |host| {
            host.pci(NIC, "15b3", "101e", None, "7");
        },
        NIC,
        &["no driver is bound"],
        &["CONFIG_MLX5_VFIO_PCI"],
    ),
    (
        "a driver of the host",
        |host| {
            host.pci(NIC, "1234", "0001", Some("e1000e"), "7");
        },
        NIC,
        &["e1000e is no VFIO driver"],
        &["/sys/bus/pci/drivers/e1000e/unbind", "vfio-pci", "no driver is known"],
    ),
    (
        "no IOMMU",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7");
            std::fs::remove_file(host.0.path().join(format!("sys/bus/pci/devices/{NIC}/iommu_group"))).unwrap();
        },
        NIC,
        &["no IOMMU group"],
        &["intel_iommu=on"],
    ),
    (
        "a neighbour with a driver of the host",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7").file("dev/vfio/7", "");
            host.pci("0000:3b:00.2", "15b3", "101e", Some("mlx5_core"), "7");
        },
        NIC,
        &["group 7", "0000:3b:00.2", "mlx5_core"],
        &["bind 0000:3b:00.2"],
    ),
    (
        "no node",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7");
        },
        NIC,
        &["no /dev/vfio/7"],
        &["modprobe"],
    ),
    (
        "a group in use",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7").file("dev/vfio/7", "");
            host.process(4711, "qemu-system-x86", "/dev/vfio/7");
        },
        NIC,
        &["in use", "4711", "qemu-system-x86", "/dev/vfio/7"],
        &["kill 4711"],
    ),
    (
        "a cdev in use",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7").file("dev/vfio/devices/vfio3", "");
            host.dir(&format!("sys/bus/pci/devices/{NIC}/vfio-dev/vfio3"));
            host.link("sys/class/vfio-dev/vfio3/device", &format!("../../../bus/pci/devices/{NIC}"));
            host.process(12, "cloud-hyperviso", "/dev/vfio/devices/vfio3");
        },
        "/dev/vfio/devices/vfio3",
        &["in use", "12", "cloud-hyperviso", "/dev/vfio/devices/vfio3"],
        &["kill 12"],
    ),
    (
        "a node that is no VFIO device",
        |host| {
            host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7").file("dev/vfio/7", "").file("dev/vfio/vfio", "");
        },
        NIC,
        &["asking the group failed"],
        &["dmesg"],
    ),
    ("no such mediated device", |_| {}, UUID, &["no such device"], &["mdev_supported_types"]),
    ("no server", |_| {}, "unix:/nonexistent/a.sock", &["/nonexistent/a.sock"], &["start the server"]),
];

#[test]
fn each_obstacle_is_said_with_its_next_step() {
    for (what, make, name, reason, next) in CASES {
        let host = Host::new();
        make(&host);
        let ran = run(&["--root", host.root(), "probe", "--json", name]);
        let device = &ran.json()["devices"][0];
        let says = |key: &str, words: &[&str]| {
            let text = device[key].as_str().unwrap_or_default();
            words.iter().for_each(|word| assert!(text.contains(word), "{what}: {key} {text:?} lacks {word:?}"));
        };
        says("reason", reason);
        says("next", next);
        let (status, migratable, words) = match UNKNOWN.contains(&what) {
            true => (3, None, "could not be asked"),
            false => (1, Some(false), "cannot be migrated"),
        };
        assert_eq!((ran.status, device["migratable"].as_bool()), (status, migratable), "{what}");
        let text = run(&["--root", host.root(), "probe", name]);
        assert!(text.status == status && text.out.contains(words) && text.out.contains("next: "), "{}", text.out);
        let info = run(&["--root", host.root(), "info", name]);
        assert_eq!(info.status, status, "{what}: {}", info.out);
    }
}

/// What was saved and stands still for good is said to, with what can be done.
#[test]
fn a_device_that_stands_still_is_said_to() {
    let server = Server::new(&["--state-size", "64K", "--allow-abort", "--clients", "5"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.state");
    let path = file.to_str().unwrap();
    assert_eq!(run(&["save", "--halt", &server.name(), "-o", path]).status, 0);
    let probed = run(&["probe", &server.name()]);
    assert!(probed.status == 1 && probed.out.contains("in STOP") && probed.out.contains("next: "), "{}", probed.out);
    let told = run(&["probe", "--json", &server.name()]).json();
    let device = &told["devices"][0];
    assert_eq!((device["migratable"].as_bool(), device["state"].as_str()), (Some(true), Some("STOP")), "{told}");
    let [reason, next] = ["reason", "next"].map(|key| device[key].as_str().unwrap_or_default().to_string());
    assert!(reason.contains("in STOP") && next.contains("start it again"), "{told}");
    for arguments in [&["save", &server.name(), "-o", path][..], &["load", &server.name(), path]] {
        let ran = run(arguments);
        assert!(ran.status == 3 && ran.err.contains("in STOP") && ran.err.contains("start it again"), "{}", ran.err);
        assert!(!ran.err.contains("another program"), "{}", ran.err);
    }
}

#[test]
fn every_device_of_the_host_is_found_once() {
    let host = Host::new();
    let empty = run(&["--root", host.root(), "probe"]);
    assert!(empty.status == 3 && empty.out.contains("no VFIO device"), "{}", empty.out);
    host.pci(NIC, "15b3", "101e", Some("mlx5_vfio_pci"), "7");
    host.dir(&format!("sys/bus/pci/devices/{NIC}/vfio-dev/vfio3"));
    host.link("sys/class/vfio-dev/vfio3/device", &format!("../../../bus/pci/devices/{NIC}"));
    host.pci("0000:00:02.0", "8086", "0001", Some("i915"), "1");
    host.pci("0000:5e:00.0", "8086", "4941", None, "9");
    host.file("sys/bus/pci/devices/0000:5e:00.0/driver_override", "qat_vfio_pci\n");
    host.dir(&format!("sys/bus/mdev/devices/{UUID}"));
    host.dir("sys/class/vfio-dev/vfio9");
    let ran = run(&["--root", host.root(), "probe", "--json"]);
    let names: Vec<String> = ran.json()["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["name"].as_str().unwrap().into())
        .collect();
    assert_eq!(names, [NIC, "0000:5e:00.0", UUID, "/dev/vfio/devices/vfio9"]);
}

#[test]
fn a_server_is_asked() {
    let server = Server::new(&[]);
    let ran = run(&["probe", "--json", &server.name()]);
    let device = &ran.json()["devices"][0];
    assert_eq!((ran.status, device["dialect"].as_str(), device["state"].as_str()), (0, Some("v2"), Some("RUNNING")));
    assert_eq!(device["dirty_log"]["device"], true);
    let verdict = server.verdict();
    assert_eq!(verdict["violations"].as_array().map(Vec::len), Some(0), "{verdict}");
    let server = Server::new(&["--no-migration"]);
    let ran = run(&["probe", &server.name()]);
    assert!(ran.status == 1 && ran.out.contains("the server offers no migration"), "{}", ran.out);
    let server = Server::new(&["--dialect", "v1"]);
    let ran = run(&["probe", &server.name()]);
    assert!(ran.status == 0 && ran.out.contains("dialect v1"), "{}", ran.out);
}

#[test]
fn a_device_is_measured_and_runs_again() {
    for arguments in [
        &["--state-size", "8M", "--seed", "1"][..],
        &["--dialect", "v1", "--seed", "1"],
        &["--peer", "libvfio-user-v1", "--seed", "1"],
    ] {
        let server = Server::new(arguments);
        let ran = run(&["info", "--measure", "--json", &server.name()]);
        let json = ran.json();
        assert_eq!((ran.status, json["measured"]["trouble"].is_null()), (0, true), "{json}");
        let steps = json["measured"]["transitions"].as_array().unwrap();
        assert!(steps.len() >= 6 && steps.last().unwrap()["to"] == "RUNNING", "{json}");
        assert!(json["measured"]["stop_copy"]["bytes"].as_u64().unwrap() > 1000, "{json}");
    }
}

#[test]
fn a_device_is_timed_and_keeps_its_state() {
    for arguments in [
        &["--seed", "4"][..],
        &["--seed", "4", "--p2p"],
        &["--dialect", "v1", "--seed", "4"],
        &["--peer", "libvfio-user-v1", "--seed", "4"],
    ] {
        let arguments = [arguments, &["--state-size", "256K"]].concat();
        let untouched = Server::new(&arguments);
        assert_eq!(run(&["probe", &untouched.name()]).status, 0);
        let server = Server::new(&[&arguments[..], &["--allow-abort"]].concat());
        let ran = run(&["bench", "--json", "--runs", "3", &server.name()]);
        let json = ran.json();
        assert_eq!((ran.status, json["trouble"].is_null()), (0, true), "{arguments:?}: {json:#}");
        let row = |name: &str| json["rows"].as_array().unwrap().iter().find(|row| row["what"] == name).unwrap().clone();
        for name in ["save", "load"] {
            assert!(row(name)["us"].as_array().unwrap().len() == 3 && row(name)["bytes"].as_u64().unwrap() > 256 << 10);
        }
        let [least, median, most] = ["least_us", "median_us", "most_us"].map(|key| row("save")[key].as_u64().unwrap());
        assert!(least <= median && median <= most);
        assert_eq!(server.verdict()["checksum"], untouched.verdict()["checksum"], "{arguments:?}");
    }
    let server = Server::new(&["--fail", "data-write@1=EIO", "--allow-abort", "--state-size", "256K"]);
    let ran = run(&["bench", &server.name()]);
    assert!(ran.status == 3 && ran.out.contains("save") && !ran.err.contains("does not run"), "{}{}", ran.out, ran.err);
    assert!(server.verdict()["state"].to_string().contains("RUNNING"));
}

/// What a migration has left standing still belongs to it: to let it run could be to let a guest run twice.
#[test]
fn a_device_that_does_not_run_is_not_touched() {
    let server = Server::new(&["--seed", "4", "--clients", "3"]);
    let folder = Host::new();
    let file = format!("{}/state", folder.root());
    assert_eq!(run(&["save", "--halt", &server.name(), "-o", &file]).status, 0);
    for arguments in [&["bench"][..], &["info", "--measure"]] {
        let ran = run(&[arguments, &[&server.name()]].concat());
        let said = format!("{}{}", ran.out, ran.err);
        assert!(ran.status == 3 && said.contains("in STOP") && said.contains("Next: "), "{arguments:?}: {said}");
    }
    assert!(server.verdict()["state"].to_string().contains("STOP"));
}

#[test]
fn a_device_that_fails_is_said_to_and_runs_again() {
    let server = Server::new(&["--fail", "enter-stop-copy=EIO", "--seed", "1"]);
    let ran = run(&["info", "--measure", &server.name()]);
    assert!(ran.status == 3 && ran.out.contains("trouble"), "{}{}", ran.out, ran.err);
    let server = Server::new(&["--die", "data-read@1", "--seed", "1"]);
    let ran = run(&["info", "--measure", &server.name()]);
    assert!(ran.status == 3 && ran.out.contains("does not run again"), "{}{}", ran.out, ran.err);
}

#[test]
fn colours_are_for_terminals() {
    let host = Host::new();
    let colored = |wanted: &[&str], no_color: Option<&str>| {
        let mut command = command(&["--root", host.root(), "probe", NIC]);
        command.args(wanted);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        Ran::of(command.output().unwrap()).out.contains('\x1b')
    };
    assert!(!colored(&[], None), "this is no terminal");
    assert!(colored(&["--color", "always"], Some("1")), "an option is louder than the environment");
    assert!(!colored(&["--color", "never"], None));
}

#[test]
fn arguments_that_name_no_device_are_refused() {
    for arguments in [&["probe", "nonsense"][..], &["info"], &[], &["frobnicate"]] {
        let ran = run(arguments);
        assert!(ran.status == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn man_pages_and_completions_are_made() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["generate", dir.path().to_str().unwrap()]).status, 0);
    let read =
        |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let help = run(&["--help"]);
    for page in [
        "vfiomig",
        "vfiomig-probe",
        "vfiomig-info",
        "vfiomig-check",
        "vfiomig-save",
        "vfiomig-load",
        "vfiomig-send",
        "vfiomig-receive",
        "vfiomig-show",
        "vfiomig-bench",
    ] {
        let text = read(&format!("man1/{page}.1"));
        assert!(text.contains(".SH SYNOPSIS") && !text.contains(".SH EXTRA") && !text.contains("help(1)"), "{text}");
        // A command that is filled like other text is broken into lines.
        assert!(page == "vfiomig" || text.contains(".SH EXAMPLES\n.nf\n  "), "{text}");
        if let Some(name) = page.strip_prefix("vfiomig-") {
            assert!(help.out.contains(name));
            assert!(run(&[name, "--help"]).out.contains("Examples:"), "{name}");
        }
    }
    assert!(!help.out.contains("generate"), "it is for make");
    for file in
        ["bash-completion/completions/vfiomig", "zsh/site-functions/_vfiomig", "fish/vendor_completions.d/vfiomig.fish"]
    {
        assert!(read(file).contains("probe"), "{file}");
    }
}
