#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check-deb.sh FOLDER [SUITE]
#
# Installs the packages in FOLDER into a fresh system of Debian (SUITE, default bookworm), made from the mirror that this machine's
# apt uses, and runs their autopkgtests there. As root.
# Exit status: 0; 77 where that cannot be done (with CI=true 1).
set -euo pipefail
shopt -s inherit_errexit

folder=$(cd "$1" && pwd)
suite=${2:-bookworm}
cd "$(dirname "$0")/.."
. lab/lib/common.sh
. lab/lib/packages.sh
. lab/lib/mirror.sh

unavailable() {
	say "not checked: $*"
	[ "${CI:-}" != true ] || exit 1
	exit 77
}
[ "$(id -u)" = 0 ] || unavailable "only root can make a chroot"
for tool in debootstrap autopkgtest; do
	command -v $tool >/dev/null || unavailable "$tool is missing (Debian: $tool)"
done

work=$(mktemp -d)
clean() {
	! mountpoint -q "$work/root/proc" || umount "$work/root/proc"
	rm -rf --one-file-system "$work"
}
trap clean EXIT
apt_entries deb "$suite $suite-updates" "$suite-security" >"$work/sources.list" || unavailable "apt knows no Debian repository"
mirror=$(debian_mirrors | sed -n '/ Debian$/{s/ .*//p;q}')
begun=$SECONDS
debootstrap --variant=minbase "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 ||
	{ tail -n 5 "$work/log"; unavailable "debootstrap failed"; }
cp "$work/sources.list" "$work/root/etc/apt/sources.list"
# How this machine reaches its mirror.
apt-config dump | sed -nE '/^Acquire::(Check-|http|Retries)/p' >"$work/root/etc/apt/apt.conf.d/00mirror"
chroot "$work/root" apt-get update -q >"$work/log" 2>&1 || { tail -n 5 "$work/log"; exit 1; }
say "a fresh $suite was made in $((SECONDS - begun)) s"

autopkgtest --quiet --output-dir="$work/out" "$folder"/*.deb "$folder"/*.dsc -- chroot "$work/root" \
	>"$work/log" 2>&1 || {
	status=$?
	tail -n 60 "$work/log"
	exit $status
}
cat "$work/out/summary"
# shellcheck disable=SC2016 # dpkg expands it
chroot "$work/root" dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' '*vfiomig*'
