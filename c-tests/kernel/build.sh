#!/bin/bash
# build.sh STAGE OUT_DIR
#
# Builds the test programs of the kernel lab, progs/k-*.c, against the library
# that is installed in STAGE, which is found by pkg-config and by nothing else.
# OUT_DIR gets the programs, and only them; those of an earlier build that have
# no source any more are removed. They find the library again by an rpath.
#
# Environment: CC (default cc), PKG_CONFIG (default pkg-config)
set -euo pipefail

if (($# != 2)); then
    echo "usage: build.sh STAGE OUT_DIR" >&2
    exit 2
fi
stage=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
progs=$(cd "$(dirname "$0")/progs" && pwd)
read -ra cc <<<"${CC:-cc}"
pkg_config=${PKG_CONFIG:-pkg-config}

# Only what is installed in the stage may be found, wherever it put its files.
pc=$(find "$stage" -name vfiomig.pc -print -quit)
[[ -n $pc ]] || { echo "build.sh: no vfiomig.pc in $1: install the library there first" >&2; exit 1; }
PKG_CONFIG_LIBDIR=$(dirname "$pc")
export PKG_CONFIG_LIBDIR
unset PKG_CONFIG_PATH
read -ra cflags <<<"$("$pkg_config" --cflags vfiomig)"
read -ra libs <<<"$("$pkg_config" --libs vfiomig)"
libdir=$("$pkg_config" --variable=libdir vfiomig)

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-build.XXXXXX")
trap 'rm -rf "$work"' EXIT

flags=(-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Werror)
objects=()
for helper in lab device uart stream testdev migration; do
    "${cc[@]}" "${flags[@]}" "${cflags[@]}" -c -o "$work/$helper.o" "$progs/$helper.c"
    objects+=("$work/$helper.o")
done

rm -f "$out"/k-*
for source in "$progs"/k-*.c; do
    name=$(basename "$source" .c)
    "${cc[@]}" "${flags[@]}" "${cflags[@]}" -o "$out/$name" "$source" "${objects[@]}" \
        "${libs[@]}" "-Wl,-rpath,$libdir"
done
