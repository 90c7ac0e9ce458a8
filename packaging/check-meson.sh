#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check-meson.sh VERSION FOLDER CARGO
#
# The project in packaging/meson, with the tarball as its subproject, is built by meson alone and runs. Built without optimizing,
# for speed. Exit status: 0; 77 where meson is missing (with CI=true 1).
set -euo pipefail

version=$1 folder=$2 cargo=$3
cd "$(dirname "$0")/.."
for tool in meson ninja; do
	command -v $tool >/dev/null && continue
	echo "meson: not tried: $tool is missing (Debian: meson ninja-build)"
	[ "${CI:-}" != true ] || exit 1
	exit 77
done
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cp -r packaging/meson "$folder/project"
packages=$folder/project/subprojects/packagefiles
packaging/dist.sh "$version" "$packages" "$cargo"
sum=$(sha256sum <"$packages/vfiomig-$version.tar.xz" | cut -d' ' -f1)
sed -i -e "s/@version@/$version/" -e "s/@sha256@/$sum/" "$folder/project/subprojects/vfiomig.wrap"
unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL PKG_CONFIG_PATH
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
{
	meson setup "$folder/build" "$folder/project" --wrap-mode=forcefallback &&
		meson compile -C "$folder/build"
} >"$folder/log" 2>&1 || { tail -n 20 "$folder/log"; exit 1; }
"$folder/build/vmm" | tee "$folder/said"
grep -q "^vfiomig $version by meson" "$folder/said"
