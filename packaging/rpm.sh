#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# rpm.sh VERSION FOLDER CARGO
#
# The RPM packages into FOLDER, from what is committed, and rpmlint's word on them. On a system whose packages are not RPMs what the
# spec requires cannot be seen by rpmbuild; then the build itself must find it.
# Exit status: 0; 77 where the tools are missing (with CI=true 1).
set -euo pipefail
shopt -s inherit_errexit

version=$1 folder=$2 cargo=$3
cd "$(dirname "$0")/.."
for tool in rpmbuild:rpm rpmlint:rpmlint mandoc:mandoc; do
	command -v "${tool%%:*}" >/dev/null && continue
	echo "rpm: not built: ${tool%%:*} is missing (Debian: ${tool#*:})"
	[ "${CI:-}" != true ] || exit 1
	exit 77
done
rm -rf "$folder"
mkdir -p "$folder"/{SOURCES,SPECS}
folder=$(cd "$folder" && pwd)
packaging/dist.sh "$version" "$folder/SOURCES" "$cargo"
sed "s/@version@/$version/" packaging/vfiomig.spec >"$folder/SPECS/vfiomig.spec"

options=()
rpm -q rpm >/dev/null 2>&1 || options=(--nodeps)
offline=()
if unshare -n true 2>/dev/null; then offline=(unshare -n); fi
env -u RUSTFLAGS -u CARGO_TARGET_DIR -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES "${offline[@]}" \
	rpmbuild -ba "${options[@]}" --define "_topdir $folder" --define "_build_id_links none" "$folder/SPECS/vfiomig.spec" \
	>"$folder/log" 2>&1 || { tail -n 40 "$folder/log"; exit 1; }
find "$folder" -name '*.rpm' -printf 'rpm: %P\n' | sort
rpmlint --strict --config packaging/rpmlint.toml "$folder"/SPECS/vfiomig.spec "$folder"/RPMS/*/*.rpm "$folder"/SRPMS/*.rpm
