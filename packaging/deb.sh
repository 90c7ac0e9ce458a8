#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# deb.sh VERSION FOLDER CARGO
#
# The Debian packages and their source package into FOLDER, from what is committed, without a network, and lintian's word on them.
# Where Build-Depends are installed, they build it. Where Rust alone comes from elsewhere, that one does, and it is said.
# Exit status: 0; 77 where the tools are missing (with CI=true 1).
set -euo pipefail
shopt -s inherit_errexit

version=$1 folder=$2 cargo=$3
cd "$(dirname "$0")/.."
say() { echo "deb: $*"; }
tools=(dpkg-buildpackage:dpkg-dev dh:debhelper lintian:lintian mandoc:mandoc pkg-config:pkg-config python3:python3 xz:xz-utils)
for tool in "${tools[@]}"; do
	command -v "${tool%%:*}" >/dev/null && continue
	say "not built: ${tool%%:*} is missing (Debian: ${tool#*:})"
	[ "${CI:-}" != true ] || exit 1
	exit 77
done

rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
packaging/dist.sh "$version" "$folder" "$cargo"
mv "$folder/vfiomig-$version.tar.xz" "$folder/vfiomig_$version.orig.tar.xz"
tar -xf "$folder/vfiomig_$version.orig.tar.xz" -C "$folder"
cd "$folder/vfiomig-$version"
[ "$(dpkg-parsechangelog -S Version | sed 's/-[^-]*$//')" = "$version" ] ||
	{ say "debian/changelog is not of version $version"; exit 1; }
python3 packaging/crates.py "$cargo" copyright vendor | diff -u debian/copyright - ||
	{ say "debian/copyright is not of these crates: make debian-copyright"; exit 1; }

options=()
if ! unmet=$(dpkg-checkbuilddeps 2>&1); then
	others=$(sed -E 's/.*: //; s/(cargo|rustc) \(>= [0-9.]+\)( \| (cargo|rustc)-web \(>= [0-9.]+\))?//g' <<<"$unmet" | tr -d ' \n')
	[ -z "$others" ] || { say "$unmet"; exit 1; }
	options=(-d)
	# dh gives the build a home of its own, in which rustup would look for its toolchains.
	export RUSTUP_HOME=${RUSTUP_HOME:-${HOME:-/root}/.rustup}
	say "Debian's Rust is not installed; built by $(rustc --version) of the path, which may differ"
fi
offline=()
if unshare -n true 2>/dev/null; then offline=(unshare -n); else say "the network could not be taken away"; fi
# What a developer's shell or a calling make says is not for the build.
env -u RUSTFLAGS -u CARGO_TARGET_DIR -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES "${offline[@]}" \
	dpkg-buildpackage -us -uc "${options[@]}" >"$folder/log" 2>&1 || { tail -n 40 "$folder/log"; exit 1; }
cd ..
say "$(echo ./*.deb)"
lintian --allow-root --tag-display-limit 0 --fail-on error,warning -- *.changes
say "lintian has no error and no warning"
