#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# released.sh [write]: against the last release the C API has additions only. `write` keeps the API of now as that of a release.
#
# Compared is abi/vfiomig-0.abi, which `make abi` holds equal to the header, with its copy in abi/released.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../abi"

if [ "${1:-}" = write ]; then
	mkdir -p released
	cp vfiomig-0.abi constants libvfiomig.map released/
	echo "released: the API of now is kept in abi/released"
	exit 0
fi
if [ ! -e released/vfiomig-0.abi ]; then
	echo "released: there was no release yet: nothing to compare with"
	exit 0
fi
bad=0
abidiff --no-added-syms --suppressions ../packaging/released.abignore released/vfiomig-0.abi vfiomig-0.abi || bad=1
../packaging/structs.py released/vfiomig-0.abi vfiomig-0.abi || bad=1
# The version of the header is meant to change.
gone=$(LC_ALL=C comm -23 <(grep -v '^VFIOMIG_VERSION_' released/constants | LC_ALL=C sort) <(LC_ALL=C sort constants))
[ -z "$gone" ] || { printf 'released: constants that changed or went:\n%s\n' "$gone"; bad=1; }
# A node of a release stays as it was; additions are in new nodes.
mapfile -t nodes < <(sed -n 's/^\(VFIOMIG_[0-9.]*\) *{.*/\1/p' released/libvfiomig.map)
functions() { sed -n "/^$1 *{/,/^}/s/^[[:space:]]*\(vfiomig_[a-z0-9_]*\);.*/\1/p" "$2" | sort; }
for node in "${nodes[@]}"; do
	diff <(functions "$node" released/libvfiomig.map) <(functions "$node" libvfiomig.map) ||
		{ echo "released: node $node is another"; bad=1; }
done
[ "$bad" = 0 ] || { echo "released: the C API has more than additions: that needs a new soname (docs/abi.md)"; exit 1; }
echo "released: the C API of the last release is whole"
