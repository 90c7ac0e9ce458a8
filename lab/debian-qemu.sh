#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# debian-qemu.sh 11.1|10.0|7.2
#
# Unpacks the distribution's own QEMU and prints the directory that is its root:
# 7.2 of bookworm, 10.0 of bookworm-backports, 11.1 of trixie-backports. 10.0
# emulates the lab's VM (lib/emulator.sh); all are unpatched peers in
# qemu-patches/tests. Nothing is installed, and apt's configuration is not
# touched: the packages come from the mirror that this machine's apt uses, with
# a source list of their own, together with the libraries that are not installed
# here. Those of 11.1 are of another release, so all of them come with it, the C
# library too: it is called by ROOT/qemu.
#
# It is kept in ${XDG_CACHE_HOME:-~/.cache}/vfiomig/qemu/VERSION/debian.
#
# Exit status: 0; 77 when the package cannot be had here (with CI=true 1, unless
# it is 11.1: backports move on), 2 wrong usage.
set -euo pipefail
shopt -s inherit_errexit # a step that fails within $( ) ends it
. "$(dirname "$0")/lib/common.sh"
. "$LAB_HOME/lib/packages.sh"
. "$LAB_HOME/lib/mirror.sh"

# The release whose libraries it takes.
release=bookworm
case ${1:-} in
11.1) suite=trixie-backports release=trixie ;;
10.0) suite=bookworm-backports ;;
7.2) suite=bookworm ;;
-h | --help)
    show_help "$0"
    exit 0
    ;;
*) die 2 "which version? There are 11.1, 10.0 and 7.2 (see --help)" ;;
esac
version=$1
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig/qemu/$version
packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

unavailable() {
    say "there is no unpatched QEMU $version: $*"
    [[ ${CI:-} != true || $version == 11.1 ]] || exit 1
    exit 77
}

mkdir -p "$cache"
if command -v flock >/dev/null; then
    exec 9>"$cache/.debian.lock"
    flock 9
fi
if [[ -f $cache/debian/complete ]]; then
    echo "$cache/debian"
    exit 0
fi

work=$(mktemp -d "$cache/.debian.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
say "fetching QEMU $version from $suite"
# The packages, and what they depend on.
apt_entries deb "$release $release-updates $suite" "$release-security" >"$work/sources.list" ||
    unavailable "apt knows no Debian repository"
# A suite that is missing is no matter, as long as the package is found.
private_apt "$work" apt-get update >"$work/log" 2>&1 || true
# What apt would install on this machine, and no more, is downloaded; of another
# release, what it would install on a machine that has nothing.
status=()
[[ $release == bookworm ]] || { : >"$work/status" && status=(-o "Dir::State::status=$work/status"); }
private_apt "$work" apt-get "${status[@]}" install -y --download-only --no-install-recommends --reinstall --allow-downgrades \
    "${packages[@]/%//$suite}" >>"$work/log" 2>&1 || {
    tail -n 5 "$work/log" >&2
    unavailable "the packages could not be downloaded from $suite"
}
# Some libraries of bookworm are still in /lib: here it is a part of /usr, as on a whole system.
mkdir -p "$work/root/usr/lib"
ln -s usr/lib "$work/root/lib"
for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$work/root"
done
program=$work/root/usr/bin/qemu-system-x86_64
libraries=$work/root/usr/lib/x86_64-linux-gnu
if [[ $release != bookworm ]]; then
    # shellcheck disable=SC2016 # the expansions are for that script
    printf '#!/bin/sh\nroot=%s\n%s\n' "$cache/debian" \
        'exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64" "$@"' \
        >"$work/root/qemu"
    chmod +x "$work/root/qemu"
    sed "s#^root=.*#root=$work/root#" "$work/root/qemu" >"$work/try"
    chmod +x "$work/try"
    program=$work/try libraries=/nonexistent
fi
# The lists change while a release lives; the version must not.
has=$(LD_LIBRARY_PATH=$libraries "$program" --version | sed -n '1s/.*version \([^ ]*\).*/\1/p') ||
    unavailable "the program does not run"
[[ $has == "$version".* ]] || unavailable "$suite has $has"
say "QEMU $version is Debian's $has"
touch "$work/root/complete"
rm -rf "$cache/debian"
mv -T "$work/root" "$cache/debian"
echo "$cache/debian"
