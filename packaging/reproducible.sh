#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# reproducible.sh VERSION CARGO TARGET OUT
#
# The tarball of a second checkout in another folder has the same bytes; unpacked in a third folder it builds without a network,
# from its own crates, and the bytes of the library, the archive and the command are those that this tree built into OUT.
set -euo pipefail
shopt -s inherit_errexit

version=$1 cargo=$2 target=$3 out=$4
cd "$(dirname "$0")/.."
[ -z "$(git status --porcelain)" ] || { echo "reproducible: commit first: the other folders have only what is committed"; exit 1; }
work=$target/reproducible
rm -rf "$work"
mkdir -p "$work"

packaging/dist.sh "$version" "$work/here" "$cargo"
git clone -q --no-hardlinks . "$work/a folder elsewhere"
"$work/a folder elsewhere/packaging/dist.sh" "$version" "$work/there" "$cargo"
cmp "$work/here/vfiomig-$version.tar.xz" "$work/there/vfiomig-$version.tar.xz"
echo "reproducible: both checkouts make the same tarball"

mkdir -p "$work/built"
tar -xf "$work/there/vfiomig-$version.tar.xz" -C "$work/built"
# Nothing of this build: not its folder for cargo's output, not its crates, and where that is allowed, no network.
offline=()
if unshare -n true 2>/dev/null; then offline=(unshare -n); else echo "reproducible: the network could not be taken away"; fi
(
	cd "$work/built/vfiomig-$version"
	unset CARGO_TARGET_DIR MAKEFLAGS MAKEOVERRIDES
	CARGO_HOME=$work/built/home "${offline[@]}" make CARGO="$cargo" CARGO_TARGET_DIR=target all tools
) >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }

differs=0
for file in "libvfiomig.so.$version" libvfiomig.a vfiomig; do
	if cmp "$out/$file" "$work/built/vfiomig-$version/target/release/$file"; then
		echo "reproducible: $file: $(sha256sum <"$out/$file" | cut -c1-16)"
	else
		differs=1
	fi
	if found=$(grep -aoE "($HOME|$PWD|$target)/[a-z._/-]*" "$out/$file" | sort -u | head -n 3) && [ -n "$found" ]; then
		echo "reproducible: $file names paths of this machine: $found"
		differs=1
	fi
done
diff -rq "$target/man" "$work/built/vfiomig-$version/target/man" || differs=1
[ "$differs" = 0 ] || exit 1
rm -rf "$work"
