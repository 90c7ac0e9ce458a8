#!/bin/bash
# headers.sh DIR: unpacks the packages that modules for Debian's kernel are
# built with into DIR. Kept after the set-up, with Module.symvers, so that
# test drivers can be built later.
set -euo pipefail

out=$1
for deb in "$LAB_VERDIR"/debs/linux-headers-*.deb "$LAB_VERDIR"/debs/linux-kbuild-*.deb; do
    dpkg -x "$deb" "$out"
done

# The package's Makefile names the common headers by the absolute path they
# would be installed at; make that relative to the Makefile itself.
# shellcheck disable=SC2016 # the expansion is for make
sed -i 's#^include /usr/src/#include $(dir $(lastword $(MAKEFILE_LIST)))../#' \
    "$out"/usr/src/linux-headers-*-amd64/Makefile
