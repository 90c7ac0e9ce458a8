//! Which page takes what from where. A file of the source belongs to one page, and with it all that the file declares.

/// A page of section 3.
pub struct Functions {
    pub name: &'static str,
    pub about: &'static str,
    pub files: &'static [&'static str],
    /// Functions of programs that are compiled: file, name of the function.
    pub examples: &'static [(&'static str, &'static str)],
}

pub const FUNCTIONS: [Functions; 14] = [
    Functions {
        name: "vfiomig-library",
        about: "version, features, names and log of libvfiomig",
        files: &["src/ffi/library.rs", "src/ffi/log.rs"],
        examples: &[("docs/man/examples.c", "check_library")],
    },
    Functions {
        name: "vfiomig-error",
        about: "errors of libvfiomig",
        files: &["src/ffi/error.rs", "src/ffi/error_object.rs"],
        examples: &[("examples/one-device.c", "one_device_failed"), ("docs/man/examples.c", "print_results")],
    },
    Functions {
        name: "vfiomig-device",
        about: "make VFIO devices known to libvfiomig, and change their states",
        files: &["src/transport/ops.rs", "src/ffi/device_data.rs", "src/ffi/device_new.rs", "src/ffi/device.rs"],
        examples: &[("examples/one-device.c", "make_device"), ("README.md", "send_device")],
    },
    Functions {
        name: "vfiomig-vfio-user",
        about: "devices of vfio-user servers, and connections to these",
        files: &["src/transport/vfio_user/ops.rs", "src/ffi/vfio_user.rs", "src/ffi/vfio_user_connection.rs"],
        examples: &[("docs/vfio-user.md", "open_end"), ("docs/vfio-user.md", "close_end")],
    },
    Functions {
        name: "vfiomig-stream-save",
        about: "read the state of a VFIO device",
        files: &["src/ffi/save.rs"],
        examples: &[("README.md", "send_device")],
    },
    Functions {
        name: "vfiomig-stream-load",
        about: "write the state of a VFIO device",
        files: &["src/ffi/load.rs"],
        examples: &[("docs/man/examples.c", "load_device")],
    },
    Functions {
        name: "vfiomig-bitmap",
        about: "bitmaps of pages",
        files: &["src/ffi/bitmap.rs"],
        examples: &[("docs/man/examples.c", "send_dirty")],
    },
    Functions {
        name: "vfiomig-tracker",
        about: "the dirty log of an address space",
        files: &["src/transport/tracker_ops.rs", "src/ffi/tracker_data.rs", "src/ffi/tracker.rs"],
        examples: &[("docs/dirty.md", "log_new")],
    },
    Functions {
        name: "vfiomig-harvest",
        about: "read dirty logs, and unmap",
        files: &["src/ffi/harvest.rs"],
        examples: &[("docs/dirty.md", "log_read")],
    },
    Functions {
        name: "vfiomig-report",
        about: "reports of libvfiomig",
        files: &["src/ffi/report.rs"],
        examples: &[("examples/live-migrate/vm.c", "vm_read_times")],
    },
    Functions {
        name: "vfiomig-group",
        about: "the devices and trackers of a virtual machine",
        files: &["src/ffi/group.rs", "src/ffi/timings.rs", "src/ffi/progress.rs", "src/ffi/run_state.rs"],
        examples: &[
            ("examples/live-migrate/vm.c", "add_group"),
            ("examples/live-migrate/vm.c", "vm_pause"),
            ("docs/vmm-guide.md", "vm_start"),
            ("docs/man/examples.c", "print_progress"),
        ],
    },
    Functions {
        name: "vfiomig-migration",
        about: "save or load the devices of a virtual machine, phase by phase",
        files: &["src/ffi/migration.rs", "src/ffi/estimate.rs", "src/ffi/ends.rs"],
        examples: &[
            ("docs/vmm-guide.md", "vm_save_end"),
            ("docs/vmm-guide.md", "receive_all"),
            ("docs/vmm-guide.md", "vm_load"),
        ],
    },
    Functions {
        name: "vfiomig-drain",
        about: "move the streams of all devices",
        files: &["src/ffi/drain.rs"],
        examples: &[("docs/vmm-guide.md", "send_all")],
    },
    Functions {
        name: "vfiomig-wire",
        about: "streams and records of the virtual machine monitor on a wire",
        files: &[
            "src/ffi/wire_table.rs",
            "src/ffi/wire_object.rs",
            "src/ffi/writer.rs",
            "src/ffi/reader.rs",
            "src/ffi/over_wire.rs",
        ],
        examples: &[("examples/save.c", "write_wire"), ("examples/load.c", "check_file")],
    },
];

/// What a part of a page of section 7 is made of.
pub enum Part {
    /// The header's own macros, and how a program is built.
    Synopsis,
    /// The first paragraph of a file, behind its title.
    Paragraph(&'static str),
    /// The first block of the header: a paragraph by its first words, under a heading.
    FirstBlock(&'static str, &'static str),
    /// A file of `docs`, with all its headings.
    Document(&'static str),
    /// A section of a file of `docs`: file, its heading with hashes, heading of the page.
    Section(&'static str, &'static str, &'static str),
    /// The types that programs know by name only.
    Handles,
    /// Macros of the header that no file of the source declares.
    Macros,
    /// In which states and phases each function may be called.
    Allowed,
    /// All pages.
    Pages,
}

/// A page of section 7.
pub struct Manual {
    pub name: &'static str,
    pub about: &'static str,
    pub parts: &'static [Part],
}

pub const MANUALS: [Manual; 6] = [
    Manual {
        name: "vfiomig",
        about: "live migration of VFIO devices",
        parts: &[
            Part::Synopsis,
            Part::Paragraph("README.md"),
            Part::FirstBlock("Where to begin", "Where to begin"),
            Part::FirstBlock("Names", "Names"),
            Part::FirstBlock("Conventions", "Conventions"),
            Part::Handles,
            Part::Macros,
            Part::Section("docs/design.md", "## Words", "Words"),
            Part::Section("docs/vmm-guide.md", "## The smallest VMM", "Examples"),
            Part::Pages,
        ],
    },
    Manual {
        name: "vfiomig-states",
        about: "states of devices and phases of migrations",
        parts: &[
            Part::Document("docs/states.md"),
            Part::Section("docs/design.md", "## Phases of a migration", "Phases of a migration"),
            Part::Allowed,
        ],
    },
    Manual {
        name: "vfiomig-threads",
        about: "which function may be called when, and what waits for what",
        parts: &[Part::Document("docs/threading.md")],
    },
    Manual {
        name: "vfiomig-errors",
        about: "codes, results, and what to do",
        parts: &[Part::Document("docs/errors.md")],
    },
    Manual {
        name: "vfiomig-dirty",
        about: "which guest pages devices have written",
        parts: &[Part::Document("docs/dirty.md")],
    },
    Manual {
        name: "vfiomig-syscalls",
        about: "which system calls are made, and filters for seccomp",
        parts: &[Part::Document("docs/system-calls.md")],
    },
];
