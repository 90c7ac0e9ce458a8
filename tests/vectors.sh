#!/bin/bash
# The bitmap code as other processors run it, under user emulation: every way of `bitmap/vector.rs` against the plain loops and
# against a model that handles one bit at a time, on random bitmaps at every alignment.
# Usage: vectors.sh CARGO     Environment: PROPTEST_CASES
#
# The processors: one with AVX2 and no more, one with SSE only, and an arm64 where its compiler is there (rustup target add
# aarch64-unknown-linux-gnu, gcc-aarch64-linux-gnu). What this machine has itself is what `make check` runs. 77: no emulator.
set -euo pipefail
cargo=$1
cd "$(dirname "$0")/.."
export PROPTEST_CASES=${PROPTEST_CASES:-24}

if ! command -v qemu-x86_64 >/dev/null; then
	echo 'vectors.sh: other processors are not tried: there is no qemu-x86_64 (qemu-user)' >&2
	[[ ${CI:-} != true ]] || exit 1
	exit 77
fi

programs() { # [OPTION...]
	"$cargo" test --locked --lib --test bitmap --no-run "$@" 2>&1 | sed -n 's/.*Executable.*(\(.*\)).*/\1/p'
}

run() { # NAME PROGRAM... ; how to run one is in `emulator`
	local name=$1 program
	shift
	[[ $# -eq 2 ]] || { echo "FAIL vectors $name: the tests do not build"; exit 1; }
	for program in "$@"; do
		# The large ones take too long here.
		"${emulator[@]}" "$program" --skip large bitmap::vector the_model
	done
	echo "PASS vectors $name"
}

if [[ $(uname -m) == x86_64 ]]; then
	mapfile -t found < <(programs)
	for processor in Haswell Westmere; do
		emulator=(qemu-x86_64 -cpu "$processor")
		run "$processor" "${found[@]}"
	done
fi
target=aarch64-unknown-linux-gnu
if command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null && [[ -d $("${RUSTC:-rustc}" --print target-libdir --target $target) ]]; then
	export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
	mapfile -t found < <(programs --target $target)
	emulator=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
	run arm64 "${found[@]}"
else
	echo 'vectors.sh: arm64 is not tried: there is no compiler for it, or no emulator'
fi
