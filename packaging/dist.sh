#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# dist.sh VERSION FOLDER CARGO
#
# Writes FOLDER/vfiomig-VERSION.tar.xz: what is committed, every crate under vendor/, and a configuration of cargo that takes
# crates from nowhere else, so that it builds without a network. The same commit gives the same bytes, wherever it is made.
# Crates that no build for Linux compiles are there as empty shells, because cargo wants to see them: packaging/shells.py.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C TZ=UTC

version=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cargo=$3
cd "$(dirname "$0")/.."

git rev-parse --git-dir >/dev/null 2>&1 ||
	{ echo "dist.sh: this is no git checkout, and only one knows what belongs into it" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || echo "dist.sh: what is not committed is left out" >&2
epoch=$(git log -1 --format=%ct)

work=$(mktemp -d "$folder/.dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
top=$work/vfiomig-$version
git archive --prefix="vfiomig-$version/" HEAD | tar -x -C "$work"
# From where this machine has its crates; their checksums are those of Cargo.lock.
(cd "$top" && "$cargo" vendor --quiet --locked --versioned-dirs --respect-source-config vendor >/dev/null)
mkdir "$top/.cargo"
cat >"$top/.cargo/config.toml" <<'END'
# Crates come from vendor/ only.
[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "vendor"

[net]
offline = true
END
(cd "$top" && python3 packaging/shells.py "$cargo" vendor)

tar --sort=name --format=gnu --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r,go-w,a+X \
	-C "$work" -c "vfiomig-$version" | xz -T1 -6 >"$work/tar"
mv "$work/tar" "$folder/vfiomig-$version.tar.xz"
(cd "$folder" && sha256sum "vfiomig-$version.tar.xz")
