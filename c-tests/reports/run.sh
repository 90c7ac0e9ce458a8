#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds and runs the programs made from public bug reports, against an installed library, through pkg-config only.
# Usage: run.sh STAGE BUILD_DIR [NAME...]     Environment: CC. Exit status: 0, or 1 if a program did not end with PASS.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
stage=$(cd "$1" && pwd)
mkdir -p "$2"
build=$(cd "$2" && pwd)
shift 2
export PKG_CONFIG_PATH=$stage/lib/pkgconfig PKG_CONFIG_LIBDIR=$stage/lib/pkgconfig
read -ra flags < <(pkg-config --cflags --libs vfiomig)

if [ $# -eq 0 ]; then
	for file in "$here"/[fr][0-9]*.c; do
		set -- "$@" "$(basename "$file" .c)"
	done
fi
passed=0 failed=0
cd "$here" # so that messages name files without this machine's directories
for name in "$@"; do
	"${CC:-cc}" -std=gnu11 -g -O1 -Wall -Wextra -Werror -Wno-format-zero-length -Wno-unused-function \
		-o "$build/$name" "$name.c" "${flags[@]}" -lpthread -Wl,-rpath,"$stage/lib"
	# The last line of a program is its verdict; each has an alarm of its own, too.
	if timeout -k 5 120 "$build/$name" >"$build/$name.out" 2>&1 && tail -n 1 "$build/$name.out" | grep -q '^PASS '; then
		tail -n 1 "$build/$name.out"
		passed=$((passed + 1))
	else
		cat "$build/$name.out"
		echo "FAIL $name"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
