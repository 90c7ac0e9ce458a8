#!/bin/bash
# types.sh STAGE MAP CC [write]: every type, prototype and constant of the header is as the baseline has it.
#
#   abi/vfiomig-0.abi    what abidw says of a library with the header's prototypes: types, layouts, arguments
#   abi/constants        the header's constants, which no debug information holds
#
# Exit status: 0 they are, 1 they are not (with CI=true also without the tool), 77 not compared, and why is printed.
# `write` makes the baseline anew. Until the first release any change may be written; after it, only what abidiff calls an addition:
# everything else needs a new soname (docs/abi.md).
# The library is a stand-in made from the header: its types are C's own, and do not change with the Rust compiler. That the header is
# what src/ffi says is shown by tests/header.rs.
set -euo pipefail
stage=$1 map=$(realpath "$2") cc=$3 mode=${4:-compare}
here=$(cd "$(dirname "$0")" && pwd)

for tool in abidw abidiff; do
	command -v "$tool" >/dev/null && continue
	echo "types: not compared: $tool is missing (Debian: abigail-tools)"
	[ "${CI:-}" != true ] || exit 1
	exit 77
done
if [ "$(uname -m)" != x86_64 ]; then
	echo "types: not compared: the baseline is of x86_64"
	exit 77
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
header=$stage/include/vfiomig.h

# Each prototype becomes a function, for only those have types in a library.
$cc -E -P -include "$header" -x c /dev/null |
	perl -0pe 's/(\bvfiomig_\w+\s*\([^;{}]*\))\s*;/$1 { __builtin_trap(); }/g' > "$tmp/vfiomig.c"
(cd "$tmp" && $cc -std=c11 -g -w -shared -fPIC -o libvfiomig.so vfiomig.c "-Wl,--version-script=$map" -Wl,-soname,libvfiomig.so.0)
(cd "$tmp" && abidw --no-show-locs --no-corpus-path --no-comp-dir-path libvfiomig.so > types)
functions=$(grep -c '<function-decl ' "$tmp/types")
[ "$functions" -ge "$(grep -c '^[[:space:]]*vfiomig_[a-z0-9_]*;' "$map")" ] || { echo "types: abidw sees $functions functions only"; exit 1; }

# Names and values as they are written; macros with arguments too.
$cc -E -dM -include "$header" -x c /dev/null | sed -n 's/^#define \(VFIOMIG_.*\)/\1/p' | LC_ALL=C sort > "$tmp/constants"

if [ "$mode" = write ]; then
	cp "$tmp/types" "$here/vfiomig-0.abi"
	cp "$tmp/constants" "$here/constants"
	echo "types: baseline written: $functions functions, $(wc -l < "$tmp/constants") constants"
	exit 0
fi
changed=0
abidiff "$here/vfiomig-0.abi" "$tmp/types" || changed=1
diff -u --label abi/constants --label header "$here/constants" "$tmp/constants" || changed=1
if [ "$changed" = 1 ]; then
	echo "types: the C API is not what the baseline says. If that is meant: make abi-baseline"
	exit 1
fi
echo "types: $functions functions and $(wc -l < "$tmp/constants") constants are as in the baseline"
