#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# release-check.sh VERSION FOLDER CARGO: what a release needs beside the tests (docs/releasing.md), and its files in FOLDER.
#
# All is looked at before it fails, so that one run names everything that is left.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

version=$1 folder=$2 cargo=$3
sbom_version=0.5.9
cd "$(dirname "$0")/.."
left=0
fail() { echo "release: $*"; left=$((left + 1)); }
# look GOOD BAD COMMAND...
look() {
	local good=$1 bad=$2
	shift 2
	if "$@"; then echo "ok: $good"; else fail "$bad"; fi
}

look "it is a version" "$version is no version" grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+' <<<"$version"
versions=$(git grep -n '^version = "' -- '*Cargo.toml' ':!fuzz') # Cargo.toml's own at least
others=$(sed '/^Cargo.toml:/d' <<<"$versions")
look "the version stands in Cargo.toml alone" "the version stands elsewhere, too: $others" test -z "$others"
look "CHANGELOG.md has $version" "CHANGELOG.md has no \"## $version - date\"" grep -q "^## $version - 20" CHANGELOG.md
packaged=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' debian/changelog)
look "debian/changelog has $version" "debian/changelog is of $packaged" test "$packaged" = "$version"
look "the spec has $version" "packaging/vfiomig.spec has no entry for $version" grep -q -- "- $version-1\$" packaging/vfiomig.spec
node=$(sed -n 's/^VFIOMIG_\([0-9.]*\) *{.*/\1/p' abi/libvfiomig.map | sort -V | tail -n 1)
newest=$(printf '%s\n%s\n' "$node" "$version" | sort -V | tail -n 1)
look "no function is of a later version" "abi/libvfiomig.map has $node already" test "$newest" = "$version"
look "everything is committed" "something is not committed" test -z "$(git status --porcelain)"
if tagged=$(git rev-list -n 1 "refs/tags/v$version" 2>/dev/null); then
	look "the tag is of this commit" "the tag v$version is of another commit" test "$tagged" = "$(git rev-parse HEAD)"
fi
packaging/released.sh || fail "the C API broke with the last release"
python3 packaging/crates.py "$cargo" check || fail "licences"

rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
packaging/dist.sh "$version" "$folder" "$cargo" >/dev/null
# The bill of materials, of the library and of the command.
tools=$folder/../sbom
if [[ $("$tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null) != *" $sbom_version" ]]; then
	"$cargo" install --quiet cargo-cyclonedx --version "=$sbom_version" --root "$tools" --target-dir "$tools/build"
	rm -rf "$tools/build"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xf "$folder/vfiomig-$version.tar.xz" -C "$work" --exclude=vendor --exclude=.cargo
(
	cd "$work/vfiomig-$version"
	SOURCE_DATE_EPOCH=$(git -C "$OLDPWD" log -1 --format=%ct)
	export SOURCE_DATE_EPOCH
	PATH=$tools/bin:$PATH "$cargo" cyclonedx --quiet --format json --spec-version 1.5 --target all
)
for name in vfiomig vfiomig-tools; do
	find "$work" -name "$name.cdx.json" -exec sed "s|file://$work/vfiomig-$version|file:///usr/src/vfiomig|g" {} + \
		>"$folder/$name-$version.cdx.json"
	python3 - "$folder/$name-$version.cdx.json" <<-'END'
		import json, sys
		bill = json.load(open(sys.argv[1]))
		crates = [c for c in bill["components"] if "download_url" not in c["purl"]]
		bare = [c["name"] for c in crates if not (c.get("hashes") and c.get("licenses"))]
		assert bill["bomFormat"] == "CycloneDX" and len(crates) > 10 and not bare, bare
	END
	echo "ok: $name-$version.cdx.json"
done
(cd "$folder" && sha256sum -- *."tar.xz" *.json >SHA256SUMS && cat SHA256SUMS)
[ "$left" = 0 ] || { echo "release: $left things are left"; exit 1; }
echo "release: $version is ready: git tag -s v$version, and publish what is in $folder"
