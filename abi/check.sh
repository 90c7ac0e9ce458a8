#!/bin/bash
# check.sh STAGE MAP NODE CC: three lists of functions must be equal, and the C layouts those of abi/layout.c.
#   1. the version script   2. the prototypes of the installed header   3. the symbols that the library exports
set -euo pipefail
stage=$1 map=$2 node=$3 cc=$4
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

sed -n 's/^[[:space:]]*\(vfiomig_[a-z0-9_]*\);/\1/p' "$map" | sort > "$tmp/map"

# The compiler reads the prototypes, so that no comment or macro is taken for one.
$cc -E -P -include "$stage/include/vfiomig.h" -x c /dev/null |
	tr '\n' ' ' | grep -oE '\bvfiomig_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u > "$tmp/header"

nm -D --defined-only "$stage/lib/libvfiomig.so" | awk '$2 != "A" {print $3}' | sort > "$tmp/exported"
sed "s/\$/@@$node/" "$tmp/map" | sort > "$tmp/expected"

diff -u --label "version script" --label "header" "$tmp/map" "$tmp/header"
diff -u --label "version script" --label "exported symbols" "$tmp/expected" "$tmp/exported"

soname=$(readelf -d "$stage/lib/libvfiomig.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libvfiomig.so.0 ] || { echo "soname is '$soname'"; exit 1; }

$cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -I"$stage/include" "$here/layout.c"
# A program without any shared library, made as pkg-config says.
printf '#include <vfiomig.h>\nint main(void) { return vfiomig_version() == 0; }\n' > "$tmp/static.c"
read -ra flags < <(PKG_CONFIG_LIBDIR=$stage/lib/pkgconfig pkg-config --static --cflags --libs vfiomig)
$cc -static -o "$tmp/static" "$tmp/static.c" "${flags[@]}"
"$tmp/static"
echo "abi: $(wc -l < "$tmp/map") functions; version script, header and exports agree; layouts hold"
