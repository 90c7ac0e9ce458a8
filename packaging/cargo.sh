#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# cargo.sh CARGO ARGUMENT...
#
# cargo for what is installed: no path of this machine gets into it, so that two builds in two folders are the same bytes
# (make check-reproducible). The tree becomes /usr/src/vfiomig, what cargo makes /usr/src/vfiomig/target, and each folder of
# crates /usr/src/crates.
#
# The user's own flags stay: those of the environment get these behind them; else these join the [build] rustflags of cargo's
# configuration. Only flags under [target] there win over these, and then paths stay in.
set -euo pipefail

cargo=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd -P)
home=${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}

# So that the folders of crates are there to be named. If crates are missing that this build does not need, it goes on.
"$cargo" fetch --quiet --locked --manifest-path "$root/Cargo.toml" 2>/dev/null || true
# rustc takes the last one that fits.
flags=("--remap-path-prefix=$root=/usr/src/vfiomig"
	"--remap-path-prefix=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")=/usr/src/vfiomig/target")
shopt -s nullglob
for folder in "$home"/registry/src/*/ "$root/vendor/"; do
	flags+=("--remap-path-prefix=${folder%/}=/usr/src/crates")
done

# make gives its job server to recipes only that are marked for it, and cargo would warn. It has jobs of its own.
unset MAKEFLAGS

join() {
	local IFS=$'\x1f'
	printf '%s' "$*"
}

if [[ -n ${CARGO_ENCODED_RUSTFLAGS+x} ]]; then
	CARGO_ENCODED_RUSTFLAGS+=${CARGO_ENCODED_RUSTFLAGS:+$'\x1f'}$(join "${flags[@]}")
	export CARGO_ENCODED_RUSTFLAGS
elif [[ -n ${RUSTFLAGS+x} ]]; then
	read -ra words <<<"${RUSTFLAGS//$'\n'/ }"
	CARGO_ENCODED_RUSTFLAGS=$(join "${words[@]}" "${flags[@]}")
	export CARGO_ENCODED_RUSTFLAGS
else
	list=
	for flag in "${flags[@]}"; do
		flag=${flag//\\/\\\\}
		list+="\"${flag//\"/\\\"}\","
	done
	set -- --config "build.rustflags=[$list]" "$@"
fi
exec "$cargo" "$@"
