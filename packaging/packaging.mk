# Tarball and packages, for distributors: docs/packaging.md. The Makefile includes this.
.PHONY: dist check-install check-reproducible check-crates deb debian-copyright check-deb rpm check-meson release-check release-baseline

DIST := $(TARGET)/dist

dist:  ## Write vfiomig-VERSION.tar.xz with all crates inside, from what is committed (docs/packaging.md)
	packaging/dist.sh '$(VERSION)' '$(DIST)' '$(CARGO)'

check-install: all man tools  ## Check: what `make install` puts where, and that programs build with it
	CC='$(CC)' packaging/check-install.sh '$(A)' '$(MAN)' '$(VERSION)'

check-reproducible: all man tools  ## Check: the tarball of another checkout is the same, and what it builds is what this tree builds
	packaging/reproducible.sh '$(VERSION)' '$(CARGO)' '$(TARGET)' '$(OUT)'

check-crates:  ## Check: every crate has a licence of the lists in packaging/crates.py
	python3 packaging/crates.py '$(CARGO)' check

DEB := $(TARGET)/deb
deb:  ## Build the Debian packages from what is committed, without a network, and ask lintian: target/deb
	packaging/deb.sh '$(VERSION)' '$(DEB)' '$(CARGO)' || [ $$? -eq 77 ]

DEB_SUITE ?= bookworm
check-deb:  ## Install the packages of `make deb` into a fresh Debian and run their autopkgtests there, as root (DEB_SUITE=bookworm)
	packaging/check-deb.sh '$(DEB)' '$(DEB_SUITE)' || [ $$? -eq 77 ]

debian-copyright:  ## Write debian/copyright anew from the crates of Cargo.lock
	rm -rf '$(TARGET)/vendor'
	$(CARGO) vendor --quiet --locked --versioned-dirs --respect-source-config '$(TARGET)/vendor' >/dev/null
	python3 packaging/crates.py '$(CARGO)' copyright '$(TARGET)/vendor' > '$(TARGET)/copyright'
	mv '$(TARGET)/copyright' debian/copyright

rpm:  ## Build the RPM packages from what is committed, without a network, and ask rpmlint: target/rpm
	packaging/rpm.sh '$(VERSION)' '$(TARGET)/rpm' '$(CARGO)' || [ $$? -eq 77 ]

check-meson:  ## Check: a project of meson has the tarball as its subproject
	packaging/check-meson.sh '$(VERSION)' '$(TARGET)/meson' '$(CARGO)' || [ $$? -eq 77 ]

release-check: check-reproducible check-install abi  ## All that a release needs beside the tests, and its files: docs/releasing.md
	packaging/release-check.sh '$(VERSION)' '$(TARGET)/release-files' '$(CARGO)'

release-baseline:  ## Keep the C API of now as that of a release (docs/releasing.md)
	packaging/released.sh write
