#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# asan.sh CARGO TARGET_DIR: the Rust tests of devices and windows under AddressSanitizer. Environment: RUSTC
#
# What a device says decides which memory is touched, so the tests with lying and failing devices run here again. A released
# compiler does -Zsanitizer with RUSTC_BOOTSTRAP. The standard library that comes with it is not instrumented; the crate's own
# accesses, and every allocation, are.
set -euo pipefail
cargo=$1 target=$2
cd "$(dirname "$0")/.."
rustc=${RUSTC:-rustc}
host=$("$rustc" -vV | sed -n 's/^host: //p')
flags='-Zsanitizer=address --cap-lints allow'
# Compilers that know the option refuse to mix with the standard library's build without it.
if "$rustc" -Cunsafe-allow-abi-mismatch=sanitizer --print cfg >/dev/null 2>&1; then
	flags+=' -Cunsafe-allow-abi-mismatch=sanitizer'
fi
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags CARGO_TARGET_DIR=$target
tests=(--test region --test behaviour --test faults)

"$cargo" test --locked --target "$host" "${tests[@]}" --no-run
# A build that is not instrumented would pass for the wrong reason.
checked=0
for program in "$target/$host/debug/deps/"{region,behaviour,faults}-*; do
	[[ -x $program && $program != *.d ]] || continue
	nm "$program" | grep -c '__asan_report_load' >/dev/null || { echo "$program is not instrumented"; exit 1; }
	checked=$((checked + 1))
done
[ "$checked" -ge 3 ] || { echo "found $checked of 3 programs"; exit 1; }
"$cargo" test --locked --target "$host" "${tests[@]}" --quiet
