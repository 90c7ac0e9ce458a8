#!/bin/bash
# cbindgen.sh CARGO DIRECTORY: the program cbindgen, of the version that the tests are pinned to, makes the committed header
# from cbindgen.toml and abi/header.rs. It is built from crates.io into DIRECTORY, once.
#
# Exit status: 0; 1 when the header differs; 77 when the program cannot be had (with CI=true 1).
set -euo pipefail
cargo=$1 directory=$2
cd "$(dirname "$0")/.."
version=$(sed -n 's/^cbindgen = .*version = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
[ -n "$version" ] || { echo "cbindgen.sh: Cargo.toml pins no version of cbindgen"; exit 1; }
program=$directory/bin/cbindgen
if [ "$("$program" --version 2>/dev/null)" != "cbindgen $version" ]; then
	# Not --locked: a version of one of its crates that was withdrawn meanwhile must not end this.
	if ! "$cargo" install --quiet cbindgen --version "=$version" --root "$directory" --target-dir "$directory/build"; then
		echo "cbindgen.sh: SKIP: cbindgen $version cannot be built from crates.io"
		[ "${CI:-}" != true ] || exit 1
		exit 77
	fi
	rm -rf "$directory/build"
fi
made=$(mktemp)
trap 'rm -f "$made"' EXIT
"$program" --quiet --config cbindgen.toml --output "$made" abi/header.rs
if ! diff -u include/vfiomig.h "$made"; then
	echo "cbindgen.sh: cbindgen $version makes another header than the committed one: run \`make header\`"
	exit 1
fi
echo "cbindgen.sh: cbindgen $version makes include/vfiomig.h"
