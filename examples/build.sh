#!/bin/bash
# build.sh STAGE OUT_DIR
#
# Builds all examples against the library installed in STAGE, through pkg-config and nothing else, into OUT_DIR.
# Environment: CC (default cc), CFLAGS and LDFLAGS (added to the project's own).
set -euo pipefail

if (($# != 2)); then
    echo "usage: build.sh STAGE OUT_DIR" >&2
    exit 2
fi
stage=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")"

read -ra cc <<<"${CC:-cc}"
read -ra more_cflags <<<"${CFLAGS:-}"
read -ra more_ldflags <<<"${LDFLAGS:-}"
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
# Assignments, so that a failure of pkg-config ends the script.
cflags=$(pkg-config --cflags vfiomig)
libs=$(pkg-config --libs vfiomig)
read -ra cflags <<<"$cflags"
read -ra libs <<<"$libs"
warnings=(-Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror)

# build NAME SOURCE...
build() {
    local name=$1
    shift
    "${cc[@]}" -std=c11 -D_GNU_SOURCE -O2 -g "${warnings[@]}" "${cflags[@]}" "${more_cflags[@]}" "$@" -o "$out/$name" \
        "${more_ldflags[@]}" "${libs[@]}" -Wl,-rpath,"$stage/lib" -pthread
}

build live-migrate live-migrate.c live-migrate/*.c softdev.c softdev-migration.c
build save save.c vfio-open.c
build load load.c vfio-open.c
echo "examples: built live-migrate, save and load in $out"
