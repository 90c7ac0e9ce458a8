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
cp docs/man/examples.c "$tmp/man.c"
count=0
have_seccomp=
if echo '#include <seccomp.h>' | "${CC:-cc}" -fsyntax-only -x c - 2>/dev/null; then
	have_seccomp=yes
fi
for source in "$tmp"/*.c; do
	if grep -q '<seccomp.h>' "$source" && [ -z "$have_seccomp" ]; then
		echo "docs: SKIPPED, there is no <seccomp.h>: $(basename "$source")"
		[ "${CI:-}" != true ] || exit 1
		continue
	fi
	"${CC:-cc}" -std=c99 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "${flags[@]}" "$source"
	count=$((count + 1))
done
echo "docs: $count C examples compile"
