#!/bin/bash
# build.sh STAGE OUT_DIR [progs|mock]
#
# Builds the test programs of the kernel lab, progs/k-*.c or mock/k-*.c, against
# the library that is installed in STAGE, which is found by pkg-config and by
# nothing else.
# OUT_DIR gets the programs, and only them; those of an earlier build that have
# no source any more are removed. They find the library again by an rpath.
#
# Environment: CC (default cc), PKG_CONFIG (default pkg-config)
set -euo pipefail

kind=${3:-progs}
if (($# < 2 || $# > 3)) || [[ $kind != progs && $kind != mock ]]; then
    echo "usage: build.sh STAGE OUT_DIR [progs|mock]" >&2
    exit 2
fi
stage=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
home=$(cd "$(dirname "$0")" && pwd)
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

flags=(-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Wpedantic -Werror -pthread -I "$home/progs")
helpers=("$home"/progs/{lab,device,uart,stream,testdev,migration,group,pages,rawlog}.c)
if [[ $kind == mock ]]; then helpers+=("$home"/mock/{mock,guest}.c); fi
objects=()
for helper in "${helpers[@]}"; do
    object=$work/$(basename "$helper" .c).o
    "${cc[@]}" "${flags[@]}" "${cflags[@]}" -c -o "$object" "$helper"
    objects+=("$object")
done

rm -f "$out"/k-*
for source in "$home/$kind"/k-*.c; do
    name=$(basename "$source" .c)
    "${cc[@]}" "${flags[@]}" "${cflags[@]}" -o "$out/$name" "$source" "${objects[@]}" \
        "${libs[@]}" "-Wl,-rpath,$libdir"
done
