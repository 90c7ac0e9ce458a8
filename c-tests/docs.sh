#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# docs.sh STAGE: every C example in the documentation compiles against the installed header. Environment: CC
set -euo pipefail
stage=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
read -ra flags < <(pkg-config --cflags vfiomig)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for doc in README.md docs/*.md examples/README.md; do
	awk -v base="$tmp/$(basename "$doc" .md)" '
		/^```c$/ { file = base "-" ++n ".c"; next }
		/^```/   { file = "" }
		file     { print > file }' "$doc"
done
count=0
for source in "$tmp"/*.c; do
	"${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "${flags[@]}" "$source"
	count=$((count + 1))
done
echo "docs: $count C examples compile"
