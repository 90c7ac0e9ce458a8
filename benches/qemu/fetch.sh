#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# fetch.sh [--help]
#
# Gets the few files of QEMU 10.0.13 that the benchmark measures, from Debian's
# source package of that version, and prints the directory they are in. What is
# there already is not fetched again.
#
# The mirror is the one that this machine's apt uses for Debian. The private
# source list and its package lists are deleted again; apt's own are not
# touched. The package is verified by apt and never installed, and Debian's own
# patches are not applied: what is measured is upstream's text.
#
# The directory is ${XDG_CACHE_HOME:-~/.cache}/vfiomig/qemu-10.0.13. QEMU's
# code is under the GNU GPL; it stays there.
#
# Exit status: 0 it is there, 77 it cannot be had here, and why; with CI=true
# that is 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../lab/lib
# shellcheck source=lab/lib/common.sh
. "$lab/common.sh"
# shellcheck source=lab/lib/packages.sh
. "$lab/packages.sh"
# shellcheck source=lab/lib/mirror.sh
. "$lab/mirror.sh"
# shellcheck source=qemu-patches/lib/debian-source.sh
. "$here/../../qemu-patches/lib/debian-source.sh"

suite=${QEMU_SUITE[10.0]}
version=10.0.13
files=(
    VERSION COPYING meson.build meson_options.txt
    hw/vfio/common.c hw/vfio/helpers.c util/bitmap.c util/bitops.c
    include/exec/cpu-common.h include/exec/hwaddr.h include/exec/memory.h
    include/exec/ram_addr.h include/exec/ramblock.h include/exec/ramlist.h include/exec/target_page.h
    include/hw/vfio/vfio-container-base.h include/system/tcg.h
    include/qemu/atomic.h include/qemu/bitmap.h include/qemu/bitops.h include/qemu/bswap.h
    include/qemu/compiler.h include/qemu/coroutine-tls.h include/qemu/host-utils.h include/qemu/int128.h
    include/qemu/notify.h include/qemu/osdep.h include/qemu/queue.h include/qemu/rcu.h
    include/qemu/rcu_queue.h include/qemu/sys_membarrier.h
)
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig
target=$cache/qemu-$version
stamp=$(printf '%s\n' "$version" "${files[@]}" | sha256sum | cut -d' ' -f1)

# unavailable REASON: not a failure of the benchmark, unless nothing may be skipped.
unavailable() {
    say "$*"
    [[ ${CI:-} != true ]] || die 1 "with CI=true this is a failure"
    exit 77
}

while (($#)); do
    case $1 in
    -h | --help) show_help "$0" && exit 0 ;;
    *) die 2 "unknown argument $1 (see --help)" ;;
    esac
done

mkdir -p "$cache"
if command -v flock >/dev/null; then
    exec 9>"$cache/.qemu.lock"
    flock 9
fi
if [[ -f $target/.stamp && $(<"$target/.stamp") == "$stamp" ]]; then
    echo "$target"
    exit 0
fi

work=$(mktemp -d "$cache/.qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree"
say "fetching the source package of QEMU $version from $suite"
found=$(find_source "$suite" "$work") || unavailable "so the source of QEMU $version cannot be had"
package=
while read -r candidate; do
    [[ $(upstream "$candidate") != "$version" ]] || package=$candidate
done <<<"$found"
[[ -n $package ]] ||
    unavailable "the benchmark is written for QEMU $version; the mirror has ${found//$'\n'/ and }"
download_source "$package" "$work" || unavailable "so the source of QEMU $version cannot be had"

members=("${files[@]/#/qemu-$version/}")
tar -xJf "$work"/package/qemu_*.orig.tar.xz -C "$work/tree" --strip-components=1 "${members[@]}" ||
    die 1 "the source package of qemu $package lacks files that the benchmark needs"
[[ $(<"$work/tree/VERSION") == "$version" ]] ||
    die 1 "the source package of qemu $package holds QEMU $(<"$work/tree/VERSION")"
echo "$package" >"$work/tree/PACKAGE"
echo "$stamp" >"$work/tree/.stamp"
rm -rf "$target"
mv -T "$work/tree" "$target"
say "QEMU $version, of Debian's $package, is in $target ($(du -sh "$target" | cut -f1))"
echo "$target"
