#!/bin/bash
# build.sh STAGE SIMDEV_A OUT_DIR
#
# Builds all examples into OUT_DIR against the library installed in STAGE, through pkg-config and nothing else. SIMDEV_A
# is the archive of the software devices, which only live-migrate needs; it may have no global symbols but its own.
# Environment: CC (default cc), CFLAGS and LDFLAGS (added to the project's own).
set -euo pipefail

if (($# != 3)); then
    echo "usage: build.sh STAGE SIMDEV_A OUT_DIR" >&2
    exit 2
fi
stage=$(cd "$1" && pwd)
simdev=$(realpath "$2")
mkdir -p "$3"
out=$(cd "$3" && pwd)
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

# build NAME ARGUMENT...
build() {
    local name=$1
    shift
    "${cc[@]}" -std=c11 -D_GNU_SOURCE -O2 -g "${warnings[@]}" "${cflags[@]}" "${more_cflags[@]}" "$@" -o "$out/$name" \
        "${more_ldflags[@]}" "${libs[@]}" -Wl,-rpath,"$stage/lib" -pthread
}

# The archive is Rust and holds Rust code of the library a second time. If its C functions stood in for those of the
# shared library, the demo would not run what is installed.
check_library() {
    local symbols
    symbols=$(nm "$1")
    if grep -q ' [TW] vfiomig_' <<<"$symbols" ||
        ! grep -q ' U vfiomig_' <<<"$symbols"; then
        echo "build.sh: $1 has functions of the library inside, not those of $stage" >&2
        exit 1
    fi
}

build live-migrate -I../simdev/include live-migrate.c live-migrate/*.c "$simdev"
check_library "$out/live-migrate"
build save save.c one-device.c vfio-open.c
build load load.c one-device.c vfio-open.c
echo "examples: built live-migrate, save and load in $out"
