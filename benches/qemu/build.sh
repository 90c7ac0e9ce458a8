#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# build.sh STAGE QEMU_SOURCE OUT_DIR
#
# Builds OUT_DIR/bench-qemu: QEMU's code out of QEMU_SOURCE (of fetch.sh), with
# the flags that QEMU's own build has on x86-64, and the harness, linked with
# the library that is installed in STAGE, found by pkg-config and nothing else.
# The program is under the GNU GPL, as part of it is QEMU's; it is for
# measuring here, not for giving away.
#
# Environment: CC (default cc), QEMU_CFLAGS (added to the flags of QEMU's code,
# -march=native for one)
set -euo pipefail

if (($# != 3)); then
    echo "usage: build.sh STAGE QEMU_SOURCE OUT_DIR" >&2
    exit 2
fi
stage=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")"

read -ra cc <<<"${CC:-cc}"
read -ra more <<<"${QEMU_CFLAGS:-}"
export PKG_CONFIG_LIBDIR=$stage/lib/pkgconfig
unset PKG_CONFIG_PATH
cflags=$(pkg-config --cflags vfiomig)
libs=$(pkg-config --libs vfiomig)
read -ra cflags <<<"$cflags"
read -ra libs <<<"$libs"

./extract.py "$source" "$out"

supported() { "${cc[@]}" -Werror "$1" -x c -c -o /dev/null /dev/null 2>/dev/null; }

# meson.build of QEMU, in its default configuration; extract.py has looked that these flags are in it. Those for one
# kind of processor, or of newer compilers, are left out where they are unknown, as QEMU does it.
qemu_flags=(-O2)
for flag in -mcx16 -msse2 -fstack-protector-strong -ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr; do
    ! supported "$flag" || qemu_flags+=("$flag")
done
qemu_flags+=(-fno-strict-aliasing -fno-common -fwrapv -fPIE "${more[@]}")
env=(-std=gnu11 -g -D_GNU_SOURCE -Wall -Werror=implicit -Ienv -I"$out" -I"$source/include")
"${cc[@]}" "${qemu_flags[@]}" "${env[@]}" -DBENCH_VGA=0 -c -o "$out/code.o" env/code.c
"${cc[@]}" "${qemu_flags[@]}" "${env[@]}" -DBENCH_VGA=1 -c -o "$out/code-vga.o" env/code.c
for file in bitmap bitops; do
    "${cc[@]}" "${qemu_flags[@]}" "${env[@]}" -c -o "$out/$file.o" "$source/util/$file.c"
done
"${cc[@]}" "${qemu_flags[@]}" "${env[@]}" -c -o "$out/env.o" env/env.c

compiler=$("${cc[@]}" --version | head -n1)
"${cc[@]}" -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -fPIE -pie "${cflags[@]}" \
    -DBENCH_QEMU_PACKAGE="\"$(<"$source/VERSION") (Debian's source package $(<"$source/PACKAGE"))\"" \
    -DBENCH_QEMU_FLAGS="\"$compiler, ${qemu_flags[*]}\"" \
    -o "$out/bench-qemu" harness/*.c "$out"/{code,code-vga,bitmap,bitops,env}.o "${libs[@]}" -Wl,-rpath,"$stage/lib" -pthread
