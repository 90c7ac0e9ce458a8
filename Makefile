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
INSTALL      ?= install
CARGO        ?= cargo
CARGOFLAGS   ?= --locked
ENABLE_STATIC ?= 1
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

TARGET := $(abspath $(CARGO_TARGET_DIR))
OUT  := $(TARGET)/$(if $(RUST_TARGET),$(RUST_TARGET)/)release
A    := $(OUT)/libvfiomig.a
SO   := $(OUT)/libvfiomig.so.$(VERSION)
MAP  := abi/libvfiomig.map
NODE := VFIOMIG_0.1
SYMS := $(shell sed -n 's/^[[:space:]]*\(vfiomig_[a-z0-9_]*\);/\1/p' $(MAP))
SRC  := Cargo.toml Cargo.lock $(shell find src -name '*.rs')
# What `rustc --print native-static-libs` names; tests/abi.rs compares.
NATIVE := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

.PHONY: all install uninstall stage print-stage demo check check-rust check-c check-reports check-examples check-cbindgen check-race check-asan fuzz check-kernel check-kernel-full check-qemu check-qemu-full lab header abi abi-baseline bench bench-qemu lint clean help

all: $(SO)  ## Build the shared and the static library

# Real prerequisites, so that a later `sudo make install` runs no cargo.
$(A): $(SRC)
	$(CARGO) rustc --lib --release --features capi $(CARGOFLAGS) $(if $(RUST_TARGET),--target $(RUST_TARGET)) --crate-type staticlib
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

# Without -lgcc_s in the .pc: compilers link what they need of libgcc by themselves, and with -static there is no libgcc_s.
install: all  ## Install library, header and vfiomig.pc (DESTDIR, prefix, libdir, includedir, pkgconfigdir)
	$(INSTALL) -d '$(DESTDIR)$(includedir)' '$(DESTDIR)$(libdir)' '$(DESTDIR)$(pkgconfigdir)'
	$(INSTALL) -m 644 include/vfiomig.h '$(DESTDIR)$(includedir)/vfiomig.h'
	$(INSTALL) -m 755 $(SO) '$(DESTDIR)$(libdir)/libvfiomig.so.$(VERSION)'
	ln -sf libvfiomig.so.$(VERSION) '$(DESTDIR)$(libdir)/libvfiomig.so.$(ABI)'
	ln -sf libvfiomig.so.$(ABI) '$(DESTDIR)$(libdir)/libvfiomig.so'
ifeq ($(ENABLE_STATIC),1)
	$(INSTALL) -m 644 $(A) '$(DESTDIR)$(libdir)/libvfiomig.a'
endif
	sed -e 's|@prefix@|$(prefix)|;s|@exec_prefix@|$(exec_prefix)|;s|@libdir@|$(libdir)|;s|@includedir@|$(includedir)|' \
	    -e 's|@version@|$(VERSION)|;s|@native_static_libs@|$(filter-out -lgcc_s,$(NATIVE))|' \
	    pkgconfig/vfiomig.pc.in > '$(DESTDIR)$(pkgconfigdir)/vfiomig.pc'

uninstall:  ## Remove what install put there
	rm -f '$(DESTDIR)$(includedir)/vfiomig.h' '$(DESTDIR)$(pkgconfigdir)/vfiomig.pc' '$(DESTDIR)$(libdir)/libvfiomig.a' \
	  '$(DESTDIR)$(libdir)/libvfiomig.so' '$(DESTDIR)$(libdir)/libvfiomig.so.$(ABI)' \
	  '$(DESTDIR)$(libdir)/libvfiomig.so.$(VERSION)'

header:  ## Write include/vfiomig.h anew from src/ffi
	VFIOMIG_BLESS=1 $(CARGO) test $(CARGOFLAGS) --test header

# The stage is an installation like any other: everything in C is built against it, only through pkg-config.
STAGE := $(OUT)/stage
$(STAGE)/.done: $(SO) include/vfiomig.h pkgconfig/vfiomig.pc.in Makefile
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install CARGO=false DESTDIR= prefix=$(STAGE) exec_prefix=$(STAGE) libdir=$(STAGE)/lib \
	  includedir=$(STAGE)/include pkgconfigdir=$(STAGE)/lib/pkgconfig ENABLE_STATIC=1
	touch $@

stage: $(STAGE)/.done  ## Install into the build directory: what everything in C is built against
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

check: check-rust abi check-c check-reports check-examples  ## All tests that need neither root nor a VM

check-rust:
	$(CARGO) test $(CARGOFLAGS) --workspace
	CARGO_TARGET_DIR='$(TARGET)/fuzz' $(CARGO) test $(CARGOFLAGS) --manifest-path fuzz/Cargo.toml

check-c: $(STAGE)/.done $(PANIC)/lib/libvfiomig.so.$(ABI)
	CC='$(CC)' c-tests/run.sh '$(STAGE)' '$(PANIC)/lib' '$(OUT)/c-tests'

check-reports: $(STAGE)/.done  ## The programs made from public bug reports
	CC='$(CC)' c-tests/reports/run.sh '$(STAGE)' '$(OUT)/reports'

# The software devices of the demo. cargo's archive has the Rust library's C functions inside; the one that is linked has not.
SIMDEV := $(OUT)/simdev/libsimdev.a
$(SIMDEV): $(SRC) simdev/Cargo.toml simdev/archive.sh $(shell find simdev/src -name '*.rs')
	$(CARGO) rustc -p simdev --lib --release --features capi $(CARGOFLAGS) $(if $(RUST_TARGET),--target $(RUST_TARGET)) --crate-type staticlib
	mkdir -p $(@D)
	simdev/archive.sh $(OUT)/libsimdev.a $@

EXAMPLES := $(OUT)/examples
check-examples: $(STAGE)/.done $(SIMDEV)
	CC='$(CC)' examples/build.sh '$(STAGE)' '$(SIMDEV)' '$(EXAMPLES)'
	CC='$(CC)' c-tests/docs.sh '$(STAGE)'
	$(CARGO) build $(CARGOFLAGS) -p vfiomig-examples
	@for run in 'save $(EXAMPLES)/rust.state' 'load $(EXAMPLES)/rust.state' harvest; do \
	  echo "rust: $$run"; $(CARGO) run -q $(CARGOFLAGS) -p vfiomig-examples --bin $$run || exit 1; \
	done

# The C programs with threads, on an instrumented library: c-tests/race.sh says why not the Rust tests.
check-race:  ## The thread tests under ThreadSanitizer
	c-tests/race.sh '$(CARGO)' '$(TARGET)/tsan'

check-asan:  ## The tests with lying and failing devices under AddressSanitizer
	tests/asan.sh '$(CARGO)' '$(TARGET)/asan'

FUZZ_SECONDS ?= 60
fuzz:  ## Fuzz under AddressSanitizer: make fuzz [FUZZ_SECONDS=60] [FUZZ_TARGET=region]; fuzz/README.md
	fuzz/run.sh '$(CARGO)' '$(TARGET)/fuzz' '$(FUZZ_SECONDS)' $(FUZZ_TARGET)

check-kernel: $(STAGE)/.done  ## Run the library on a real kernel with real migratable devices, in a VM
	CC='$(CC)' c-tests/kernel/build.sh '$(STAGE)' '$(OUT)/kernel'
	CC='$(CC)' lab/driver/check.sh
	LAB_PROGS='$(OUT)/kernel' c-tests/kernel/check.sh

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

check-qemu-full: $(STAGE)/.done  ## The same with all scenarios (QEMU_TEST_ARGS="--help")
	qemu-patches/tests/check.sh --stage '$(STAGE)' --full $(QEMU_TEST_ARGS)

LAB_KERNEL ?= stock
lab: $(STAGE)/.done  ## Run any program in the lab VM: make lab RUN="prog args" [LAB_KERNEL=stock|iommufd|mock|path]
	@test -n '$(RUN)' || { echo 'make lab RUN="prog args"' >&2; exit 2; }
	lab/lab-run.sh -k '$(LAB_KERNEL)' -- $(RUN)

demo: check-examples  ## Migrate a small virtual machine between two processes (DEMO_ARGS="--help")
	$(EXAMPLES)/live-migrate $(DEMO_ARGS)

# QEMU's code is fetched, compiled and measured outside of the tree. 77: it cannot be had here, and why.
QEMU_BENCH = CC='$(CC)' benches/qemu/run.sh '$(STAGE)' '$(OUT)/bench-qemu' $(BENCH_ARGS)

bench: all $(STAGE)/.done  ## Measure; figures and their meaning: docs/performance.md
	VFIOMIG_BENCH_SO='$(SO)' $(CARGO) bench $(CARGOFLAGS) --bench bitmap --bench calls --bench data_fd --bench group --bench mappings --bench region
	$(QEMU_BENCH) || [ $$? -eq 77 ]
	@cp $(SO) $(OUT)/stripped.so && strip $(OUT)/stripped.so && stat -c 'stripped library: %s bytes' $(OUT)/stripped.so

bench-qemu: $(STAGE)/.done  ## Measure the dirty harvest beside QEMU's own code (BENCH_ARGS="--help")
	$(QEMU_BENCH)

# Each feature by itself; together they are --all-features.
FEATURES := capi log vfio-ioctls
lint:  ## Formatting, clippy, documentation, shell scripts
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

clean:  ## Remove everything that was built
	$(CARGO) clean
	rm -rf $(TARGET)/inject-panic $(TARGET)/tsan $(TARGET)/asan $(TARGET)/fuzz

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16
