# The one door of the project. `make help` lists what there is.
#
# cargo makes the static archive; this file links the shared library from it with the project's own version script, the only
# way that gives versioned symbols with every linker. No build script, no second build route: two routes are two ABIs.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
ABI     := 0

prefix       ?= $(or $(PREFIX),/usr/local)
exec_prefix  ?= $(prefix)
libdir       ?= $(exec_prefix)/lib
includedir   ?= $(prefix)/include
pkgconfigdir ?= $(libdir)/pkgconfig
bindir       ?= $(exec_prefix)/bin
datadir      ?= $(prefix)/share
mandir       ?= $(datadir)/man
docdir       ?= $(datadir)/doc/vfiomig
INSTALL      ?= install
STRIP        ?= strip
CARGO        ?= cargo
CARGOFLAGS   ?= --locked
ENABLE_STATIC ?= 1
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

TARGET := $(abspath $(CARGO_TARGET_DIR))

# `make RUST_TARGET=...` is remembered for an installation that does not name it.
REMEMBERED := $(TARGET)/rust-target
ifeq ($(origin RUST_TARGET),undefined)
ifneq ($(MAKECMDGOALS),)
ifeq ($(filter-out install% uninstall%,$(MAKECMDGOALS)),)
RUST_TARGET := $(shell cat '$(REMEMBERED)' 2>/dev/null)
endif
endif
endif
define remember
	@[ "$$(cat '$(REMEMBERED)' 2>/dev/null)" = '$(RUST_TARGET)' ] || echo '$(RUST_TARGET)' > '$(REMEMBERED)'
endef

OUT  := $(TARGET)/$(if $(RUST_TARGET),$(RUST_TARGET)/)release
A    := $(OUT)/libvfiomig.a
SO   := $(OUT)/libvfiomig.so.$(VERSION)
MAP  := abi/libvfiomig.map
NODE := VFIOMIG_0.1
SYMS := $(shell sed -n 's/^[[:space:]]*\(vfiomig_[a-z0-9_]*\);/\1/p' $(MAP))
SRC  := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
# For what is installed: without the paths of this machine.
RELEASE_CARGO := packaging/cargo.sh $(CARGO)
# What `rustc --print native-static-libs` names; tests/abi.rs compares.
NATIVE := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

.PHONY: all install install-strip uninstall tools install-tools install-tools-strip uninstall-tools check-tools check-pages stage print-stage demo check man man-html check-man check-rust check-c check-reports check-vfio-user check-vfio-user-peers check-examples check-cbindgen campaign check-race check-asan check-vectors check-instructions instructions fuzz check-kernel check-kernel-full check-qemu check-qemu-full check-qemu-vfio-user simdev-program print-simdev-program lab header abi abi-baseline bench bench-qemu lint clean help

all: $(SO) $(TARGET)/man/.done  ## Build the shared and the static library, and the man pages
	$(remember)

# Real prerequisites, so that a later `sudo make install` runs no cargo.
$(A): $(SRC) packaging/cargo.sh
	$(RELEASE_CARGO) rustc --lib --release --features capi $(CARGOFLAGS) $(if $(RUST_TARGET),--target $(RUST_TARGET)) --crate-type staticlib
	touch $@

# $(1): archive, $(2): result. -u pulls each function out of the archive; --no-undefined-version refuses a stale map entry.
define link
	@echo "  LINK    $(notdir $(2))"
	@$(CC) $(CFLAGS) -shared -o $(2) -Wl,-soname,libvfiomig.so.$(ABI) \
	  -Wl,--version-script=$(MAP) -Wl,--no-undefined-version $(foreach s,$(SYMS),-Wl,-u,$(s)) $(1) \
	  -Wl,--gc-sections -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,-z,nodelete -Wl,--as-needed $(LDFLAGS) $(NATIVE)
endef

$(SO): $(A) $(MAP)
	$(call link,$(A),$@)

# Pages and examples keep the places that they have in the tree, so that their links lead somewhere.
DOCS := README.md CHANGELOG.md SECURITY.md LICENSES/Apache-2.0.txt LICENSES/MIT.txt $(wildcard docs/*.md) \
  $(wildcard examples/README.md examples/*.[ch] examples/live-migrate/*.[ch])
# What Cargo.toml says of the library: $(1) is a key of it.
about = $(shell sed -n 's/^$(1) = "\(.*\)"/\1/p' Cargo.toml | head -n1)

# Without -lgcc_s in the .pc: compilers link what they need of libgcc by themselves, and with -static there is no libgcc_s.
install: all  ## Install library, header, vfiomig.pc, pages, examples (DESTDIR, prefix, libdir, includedir, pkgconfigdir, docdir)
	$(INSTALL) -d '$(DESTDIR)$(includedir)' '$(DESTDIR)$(libdir)' '$(DESTDIR)$(pkgconfigdir)'
	$(INSTALL) -m 644 include/vfiomig.h '$(DESTDIR)$(includedir)/vfiomig.h'
	$(INSTALL) -m 755 $(SO) '$(DESTDIR)$(libdir)/libvfiomig.so.$(VERSION)'
	ln -sf libvfiomig.so.$(VERSION) '$(DESTDIR)$(libdir)/libvfiomig.so.$(ABI)'
	ln -sf libvfiomig.so.$(ABI) '$(DESTDIR)$(libdir)/libvfiomig.so'
	$(INSTALL) -d '$(DESTDIR)$(mandir)/man3' '$(DESTDIR)$(mandir)/man7'
	$(INSTALL) -m 644 $(MAN)/man3/*.3 '$(DESTDIR)$(mandir)/man3'
	$(INSTALL) -m 644 $(MAN)/man7/*.7 '$(DESTDIR)$(mandir)/man7'
ifeq ($(ENABLE_STATIC),1)
	$(INSTALL) -m 644 $(A) '$(DESTDIR)$(libdir)/libvfiomig.a'
endif
	sed -e 's|@prefix@|$(prefix)|;s|@exec_prefix@|$(exec_prefix)|;s|@libdir@|$(libdir)|;s|@includedir@|$(includedir)|' \
	    -e 's|@version@|$(VERSION)|;s|@native_static_libs@|$(filter-out -lgcc_s,$(NATIVE))|' \
	    -e 's|@description@|$(call about,description)|;s|@url@|$(call about,documentation)|;s|@license@|$(call about,license)|' \
	    pkgconfig/vfiomig.pc.in > '$(DESTDIR)$(pkgconfigdir)/vfiomig.pc'
	@for file in $(DOCS); do $(INSTALL) -D -m 644 "$$file" '$(DESTDIR)$(docdir)'/"$$file" || exit 1; done

# What was built keeps its symbols; only the copies lose what a linker or a program does not need.
install-strip: install  ## The same, without the symbols that only debuggers need (STRIP)
	$(STRIP) --strip-unneeded '$(DESTDIR)$(libdir)/libvfiomig.so.$(VERSION)'
ifeq ($(ENABLE_STATIC),1)
	$(STRIP) --strip-debug --enable-deterministic-archives '$(DESTDIR)$(libdir)/libvfiomig.a'
endif

uninstall:  ## Remove what install put there
	rm -f '$(DESTDIR)$(includedir)/vfiomig.h' '$(DESTDIR)$(pkgconfigdir)/vfiomig.pc' '$(DESTDIR)$(libdir)/libvfiomig.a' \
	  '$(DESTDIR)$(libdir)/libvfiomig.so' '$(DESTDIR)$(libdir)/libvfiomig.so.$(ABI)' \
	  '$(DESTDIR)$(libdir)/libvfiomig.so.$(VERSION)' '$(DESTDIR)$(mandir)/man3/vfiomig'[-_]*.3 \
	  '$(DESTDIR)$(mandir)/man7/vfiomig.7' '$(DESTDIR)$(mandir)/man7/vfiomig-'*.7
	@! cd '$(DESTDIR)$(docdir)' 2>/dev/null || { rm -f $(DOCS) && \
	  rmdir -p --ignore-fail-on-non-empty $(filter-out .,$(sort $(patsubst %/,%,$(dir $(DOCS))))); }
	@! [ -d '$(DESTDIR)$(docdir)' ] || rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(docdir)'

# Sections 3 and 7 of the manual, from the header and docs (docs/man). They are the same for every machine.
MAN := $(TARGET)/man
$(MAN)/.done: $(SRC) include/vfiomig.h abi/header.rs cbindgen.toml README.md debian/changelog \
  $(wildcard docs/*.md examples/*.c examples/live-migrate/*.c docs/man/*.c) docs/man/Cargo.toml $(shell find docs/man/src -name '*.rs')
	rm -rf $(MAN)
	$(CARGO) run -q $(CARGOFLAGS) -p vfiomig-man -- $(MAN)
	touch $@

man: $(MAN)/.done  ## Make the man pages: target/man
man-html: $(MAN)/.done  ## The same as HTML, by mandoc: target/man-html
	docs/man/html.sh $(MAN) $(TARGET)/man-html

check-man: man  ## The man pages are whole, without fault, and shown by mandoc and man
	$(CARGO) test $(CARGOFLAGS) -p vfiomig-man
	docs/man/check.sh $(MAN) || [ $$? -eq 77 ]

# The command vfiomig, with what is made from its arguments. It has the Rust library inside and needs nothing else.
TOOL  := $(OUT)/vfiomig
SHARE := $(OUT)/vfiomig-share
$(TOOL): $(SRC) packaging/cargo.sh tools/Cargo.toml docs/rules.md $(shell find tools/src -name '*.rs')
	$(RELEASE_CARGO) build --release -p vfiomig-tools --bin vfiomig $(CARGOFLAGS) $(if $(RUST_TARGET),--target $(RUST_TARGET))
	touch $@

# A command for another machine cannot be run here; then one that was built for this machine makes the pages: TOOL_HERE=path.
TOOL_HERE ?= $(TOOL)
$(SHARE)/.done: $(TOOL)
	rm -rf $(SHARE)
	$(TOOL_HERE) generate $(SHARE)
	touch $@

tools: $(SHARE)/.done  ## Build the command vfiomig, its man pages and its completions
	$(remember)

install-tools: tools  ## Install the command vfiomig with man pages and completions (DESTDIR, prefix, bindir, mandir, datadir)
	$(INSTALL) -d '$(DESTDIR)$(bindir)' '$(DESTDIR)$(mandir)/man1' '$(DESTDIR)$(datadir)/bash-completion/completions' \
	  '$(DESTDIR)$(datadir)/zsh/site-functions' '$(DESTDIR)$(datadir)/fish/vendor_completions.d'
	$(INSTALL) -m 755 $(TOOL) '$(DESTDIR)$(bindir)/vfiomig'
	$(INSTALL) -m 644 $(SHARE)/man1/*.1 '$(DESTDIR)$(mandir)/man1'
	$(INSTALL) -m 644 $(SHARE)/bash-completion/completions/vfiomig '$(DESTDIR)$(datadir)/bash-completion/completions/vfiomig'
	$(INSTALL) -m 644 $(SHARE)/zsh/site-functions/_vfiomig '$(DESTDIR)$(datadir)/zsh/site-functions/_vfiomig'
	$(INSTALL) -m 644 $(SHARE)/fish/vendor_completions.d/vfiomig.fish '$(DESTDIR)$(datadir)/fish/vendor_completions.d/vfiomig.fish'

install-tools-strip: install-tools  ## The same, without the symbols that only debuggers need (STRIP)
	$(STRIP) --strip-unneeded '$(DESTDIR)$(bindir)/vfiomig'

uninstall-tools:  ## Remove what install-tools put there
	rm -f '$(DESTDIR)$(bindir)/vfiomig' '$(DESTDIR)$(mandir)/man1/vfiomig.1' '$(DESTDIR)$(mandir)/man1/vfiomig-'*.1 \
	  '$(DESTDIR)$(datadir)/bash-completion/completions/vfiomig' '$(DESTDIR)$(datadir)/zsh/site-functions/_vfiomig' \
	  '$(DESTDIR)$(datadir)/fish/vendor_completions.d/vfiomig.fish'

header:  ## Write include/vfiomig.h anew from src/ffi
	VFIOMIG_BLESS=1 $(CARGO) test $(CARGOFLAGS) --test header

include packaging/packaging.mk

# The stage is an installation like any other: everything in C is built against it, only through pkg-config.
STAGE := $(OUT)/stage
$(STAGE)/.done: $(SO) $(MAN)/.done include/vfiomig.h pkgconfig/vfiomig.pc.in Makefile
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install CARGO=false DESTDIR= prefix=$(STAGE) exec_prefix=$(STAGE) libdir=$(STAGE)/lib \
	  includedir=$(STAGE)/include pkgconfigdir=$(STAGE)/lib/pkgconfig datadir=$(STAGE)/share mandir=$(STAGE)/share/man \
	  docdir=$(STAGE)/share/doc/vfiomig ENABLE_STATIC=1 RUST_TARGET='$(RUST_TARGET)'
	touch $@

stage: $(STAGE)/.done  ## Install into the build directory: what everything in C is built against
print-simdev-program:
	@echo '$(SIMDEV_PROGRAM)'
print-stage:
	@echo '$(STAGE)'

# A build whose functions panic when the environment says so; it is never installed.
PANIC := $(TARGET)/inject-panic
$(PANIC)/lib/libvfiomig.so.$(ABI): $(SRC) $(MAP)
	CARGO_TARGET_DIR=$(PANIC) $(CARGO) rustc --lib --release $(CARGOFLAGS) --features inject-panic --crate-type staticlib \
	  --config profile.release.lto=false --config profile.release.codegen-units=16
	mkdir -p $(PANIC)/lib
	$(call link,$(PANIC)/release/libvfiomig.a,$@)

abi: $(STAGE)/.done  ## Check: version script = header = exported symbols; struct layouts; types and constants as in the baseline
	abi/check.sh '$(STAGE)' '$(MAP)' '$(NODE)' '$(CC)'
	abi/types.sh '$(STAGE)' '$(MAP)' '$(CC)' || [ $$? -eq 77 ]

abi-baseline: $(STAGE)/.done  ## Write the baseline of types and constants anew (docs/abi.md)
	abi/types.sh '$(STAGE)' '$(MAP)' '$(CC)' write

check-cbindgen:  ## Check: the program cbindgen makes the committed header
	abi/cbindgen.sh '$(CARGO)' '$(TARGET)/cbindgen'

check: check-rust abi check-c check-reports check-examples check-vfio-user check-man  ## All tests that need neither root nor a VM

check-rust:
	$(CARGO) test $(CARGOFLAGS) --workspace
	$(CARGO) test $(CARGOFLAGS) --bench bitmap --bench data_fd --bench group --bench mappings --bench region --bench vfio_user -- --test
	CARGO_TARGET_DIR='$(TARGET)/fuzz' $(CARGO) test $(CARGOFLAGS) --manifest-path fuzz/Cargo.toml

check-pages:  ## The dirty logs and what maps memory, on a host whose pages count as 64 KiB
	$(CARGO) test $(CARGOFLAGS) --features large-pages,capi --lib --test dirty --test dirty_memory --test dirty_leftovers --test group_dirty

check-tools:  ## The tests of the command vfiomig alone
	$(CARGO) test $(CARGOFLAGS) -p vfiomig-tools

campaign:  ## Every fault of docs/reliability.md, of which check has a sample
	VFIOMIG_CAMPAIGN=full $(CARGO) test $(CARGOFLAGS) --test campaign -- --nocapture

# A run is repeated by its seed, a step of it by VFIOMIG_SOAK_FROM, too: what fails prints both.
HOURS   ?= 0
MINUTES ?= 0
SEED    ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
SOAK    = $(shell echo $$((($(HOURS) * 60 + $(MINUTES)) * 60)))
soak-length:
	@[ '$(SOAK)' -gt 0 ] || { echo 'make soak HOURS=1, MINUTES=5 or both; SEED=7 repeats a run' >&2; exit 2; }

soak: soak-length  ## Migrations there and back, with faults: make soak HOURS=1 [MINUTES=30] [SEED=7]; docs/reliability.md
	VFIOMIG_SOAK_SECONDS=$(SOAK) VFIOMIG_SOAK_SEED=$(SEED) $(CARGO) test $(CARGOFLAGS) --test soak -- --nocapture

check-c: $(STAGE)/.done $(PANIC)/lib/libvfiomig.so.$(ABI)
	CC='$(CC)' c-tests/run.sh '$(STAGE)' '$(PANIC)/lib' '$(OUT)/c-tests'

SIMDEV_PROGRAM := $(TARGET)/debug/vfiomig-simdev
simdev-program:
	$(CARGO) build $(CARGOFLAGS) -p simdev --bin vfiomig-simdev

check-vfio-user: simdev-program  ## The vfio-user servers of this project, held to the specification
	tests/vfio_user/check.sh '$(SIMDEV_PROGRAM)' || [ $$? -eq 77 ]

check-vfio-user-peers:  ## vfio-user servers by others, fetched and built, held to the specification, and the library as their client
	tests/vfio_user/check.sh peers
	$(CARGO) test $(CARGOFLAGS) --test servers foreign

check-reports: $(STAGE)/.done  ## The programs made from public bug reports
	CC='$(CC)' c-tests/reports/run.sh '$(STAGE)' '$(OUT)/reports'

# The software devices of the demo. cargo's archive has the Rust library's C functions inside; the one that is linked has not.
SIMDEV := $(OUT)/simdev/libsimdev.a
$(SIMDEV): $(SRC) simdev/Cargo.toml simdev/archive.sh $(shell find simdev/src -name '*.rs')
	$(RELEASE_CARGO) rustc -p simdev --lib --release --no-default-features --features capi $(CARGOFLAGS) $(if $(RUST_TARGET),--target $(RUST_TARGET)) --crate-type staticlib
	mkdir -p $(@D)
	simdev/archive.sh $(OUT)/libsimdev.a $@

EXAMPLES := $(OUT)/examples
check-examples: $(STAGE)/.done $(SIMDEV)
	CC='$(CC)' examples/build.sh '$(STAGE)' '$(SIMDEV)' '$(EXAMPLES)'
	$(CARGO) build $(CARGOFLAGS) -p simdev --bin vfiomig-simdev
	examples/check.sh '$(EXAMPLES)' '$(TARGET)/debug/vfiomig-simdev'
	CC='$(CC)' c-tests/docs.sh '$(STAGE)'
	$(CARGO) build $(CARGOFLAGS) -p vfiomig-examples
	@for run in 'save $(EXAMPLES)/rust.state' 'load $(EXAMPLES)/rust.state' harvest; do \
	  echo "rust: $$run"; $(CARGO) run -q $(CARGOFLAGS) -p vfiomig-examples --bin $$run || exit 1; \
	done

# The C programs with threads, on an instrumented library: c-tests/race.sh says why not the Rust tests.
check-race:  ## The thread tests under ThreadSanitizer
	c-tests/race.sh '$(CARGO)' '$(TARGET)/tsan'

check-vectors:  ## The bitmap code as other processors run it, under user emulation
	tests/vectors.sh '$(CARGO)' || [ $$? -eq 77 ]

check-instructions:  ## What twelve fixed cases execute, beside benches/instructions.txt
	benches/instructions.sh '$(CARGO)' || [ $$? -eq 77 ]

instructions:  ## Write benches/instructions.txt anew
	benches/instructions.sh '$(CARGO)' write

check-asan:  ## The tests with lying and failing devices under AddressSanitizer
	tests/asan.sh '$(CARGO)' '$(TARGET)/asan'

FUZZ_SECONDS ?= 60
fuzz:  ## Fuzz under AddressSanitizer: make fuzz [FUZZ_SECONDS=60] [FUZZ_TARGET=region]; fuzz/README.md
	fuzz/run.sh '$(CARGO)' '$(TARGET)/fuzz' '$(FUZZ_SECONDS)' $(FUZZ_TARGET)

check-kernel: $(STAGE)/.done  ## Run the library on a real kernel with real migratable devices, in a VM
	CC='$(CC)' c-tests/kernel/build.sh '$(STAGE)' '$(OUT)/kernel'
	CC='$(CC)' lab/driver/check.sh
	LAB_PROGS='$(OUT)/kernel' c-tests/kernel/check.sh
	$(CARGO) build $(CARGOFLAGS) -p vfiomig-tools
	tools/lab/check.sh '$(TARGET)/debug/vfiomig'

# On a kernel that has to be built first, or on the image that VFIOMIG_LAB_KERNEL names.
check-kernel-full: export VFIOMIG_LAB_KERNEL := $(or $(VFIOMIG_LAB_KERNEL),mock)
check-kernel-full: $(STAGE)/.done  ## The same on a kernel with a mock IOMMU, and dirty tracking by that
	CC='$(CC)' c-tests/kernel/build.sh '$(STAGE)' '$(OUT)/kernel'
	CC='$(CC)' c-tests/kernel/build.sh '$(STAGE)' '$(OUT)/kernel-mock' mock
	CC='$(CC)' lab/driver/check.sh
	LAB_PROGS='$(OUT)/kernel' c-tests/kernel/check.sh full
	LAB_PROGS='$(OUT)/kernel-mock' c-tests/kernel/check.sh mock

check-qemu: $(STAGE)/.done  ## Build the patched QEMUs, and let them migrate devices to each other and to unpatched ones, in a VM
	qemu-patches/tests/check.sh --stage '$(STAGE)' $(QEMU_TEST_ARGS)

check-qemu-vfio-user: $(STAGE)/.done simdev-program  ## Build QEMU with vfio-user and let it migrate devices of other processes, without a VM
	qemu-patches/tests/vfio-user.sh --stage '$(STAGE)' --simdev '$(SIMDEV_PROGRAM)' $(QEMU_TEST_ARGS)

check-qemu-full: $(STAGE)/.done  ## The same with all scenarios (QEMU_TEST_ARGS="--help")
	qemu-patches/tests/check.sh --stage '$(STAGE)' --full $(QEMU_TEST_ARGS)

LAB_KERNEL ?= stock
lab: $(STAGE)/.done  ## Run any program in the lab VM: make lab RUN="prog args" [LAB_KERNEL=stock|iommufd|mock|path]
	@test -n '$(RUN)' || { echo 'make lab RUN="prog args"' >&2; exit 2; }
	lab/lab-run.sh -k '$(LAB_KERNEL)' -- $(RUN)

demo: check-examples $(if $(findstring vfio-user,$(DEMO_ARGS)),simdev-program)  ## Migrate a small virtual machine between two processes (DEMO_ARGS="--help")
	VFIOMIG_SIMDEV='$(SIMDEV_PROGRAM)' $(EXAMPLES)/live-migrate $(DEMO_ARGS)

# QEMU's code is fetched, compiled and measured outside of the tree. 77: it cannot be had here, and why.
QEMU_BENCH = CC='$(CC)' benches/qemu/run.sh '$(STAGE)' '$(OUT)/bench-qemu' $(BENCH_ARGS)

# One case or some: make bench BENCH="ranges", words of their names. Results go to a file, too: a JSON object for each line.
BENCH ?=
BENCH_JSON ?= $(OUT)/bench.jsonl
bench: all $(STAGE)/.done  ## Measure (BENCH="ranges": one case); figures and their meaning: docs/performance.md
	rm -f '$(BENCH_JSON)'
	VFIOMIG_BENCH_JSON='$(BENCH_JSON)' VFIOMIG_BENCH_SO='$(SO)' $(CARGO) bench $(CARGOFLAGS) --bench bitmap --bench calls --bench data_fd --bench group --bench mappings --bench region --bench vfio_user -- $(BENCH)
	@test ! -e '$(BENCH_JSON)' || echo "JSON: $(BENCH_JSON); benches/tables.py makes tables of it"
	[ -n '$(BENCH)' ] || $(QEMU_BENCH) || [ $$? -eq 77 ]
	@cp $(SO) $(OUT)/stripped.so && strip $(OUT)/stripped.so && stat -c 'stripped library: %s bytes' $(OUT)/stripped.so

bench-qemu: $(STAGE)/.done  ## Measure the dirty harvest beside QEMU's own code (BENCH_ARGS="--help")
	$(QEMU_BENCH)

# Each feature by itself; together they are --all-features.
FEATURES := capi log vfio-ioctls
lint:  ## Formatting, clippy, documentation, shell scripts, size of the QEMU series
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	$(CARGO) clippy $(CARGOFLAGS) --workspace --all-targets --all-features -- -D warnings
	for features in '' $(FEATURES); do \
	  echo "features: $${features:-none}"; $(CARGO) clippy -q $(CARGOFLAGS) --lib --features "$$features" -- -D warnings || exit 1; \
	done
	$(CARGO) clippy -q $(CARGOFLAGS) -p vfiomig-examples --all-targets -- -D warnings
	CARGO_TARGET_DIR='$(TARGET)/fuzz' $(CARGO) clippy $(CARGOFLAGS) --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(CARGOFLAGS) --workspace --all-features --no-deps --document-private-items
	shellcheck -x $$(git ls-files '*.sh' .ci/run lab/guest)
	qemu-patches/count.sh --check
	benches/tables.py --check

clean:  ## Remove everything that was built
	$(CARGO) clean
	rm -rf $(TARGET)/inject-panic $(TARGET)/tsan $(TARGET)/asan $(TARGET)/fuzz

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
