#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the fuzz targets and runs them one after the other. Exit: 0, 1 for a finding, 77 with a reason if it cannot run here.
# Usage: run.sh [-m] CARGO TARGET_DIR SECONDS [TARGET...]     Environment: RUSTC, CXX, FUZZ_OPTIONS (for libFuzzer), CI
#   -m    run nothing: put the smallest inputs that reach what all known ones reach into fuzz/corpus
#
# cargo-fuzz is not needed: its part is the compiler options below. A released compiler takes them with RUSTC_BOOTSTRAP. The
# standard library that comes with it is not instrumented; the crate's own accesses, and every allocation, are.
set -euo pipefail

usage() { sed -n '3,5s/^# //p' "$0" >&2; exit 2; }
skip() {
	echo "fuzz: cannot run here: $*" >&2
	# With CI=true a proof that is skipped is a failure.
	[ "${CI:-}" = true ] && exit 1
	exit 77
}

merge=
[ "${1:-}" = -m ] && { merge=1; shift; }
[ $# -ge 3 ] || usage
cargo=$1 target=$2 seconds=$3
shift 3
[[ $seconds =~ ^[0-9]+$ ]] || usage
mkdir -p "$target"
target=$(cd "$target" && pwd)
cd "$(dirname "$0")"
known=(probe session region tracker migration bitmap capi vfio_user wire)
targets=("${@:-${known[@]}}")
for name in "${targets[@]}"; do
	[[ " ${known[*]} " == *" $name "* ]] || { echo "fuzz: no target '$name'; there are ${known[*]}" >&2; exit 2; }
done

rustc=${RUSTC:-rustc}
host=$("$rustc" -vV | sed -n 's/^host: //p')
command -v "${CXX:-c++}" >/dev/null || skip "libFuzzer needs a C++ compiler (${CXX:-c++}): install g++ or set CXX"
RUSTC_BOOTSTRAP=1 "$rustc" -Zsanitizer=address --target "$host" --print cfg >/dev/null 2>&1 ||
	skip "$("$rustc" -V) has no AddressSanitizer for $host"

flags=(-Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing -Cpasses=sancov-module)
for option in sanitizer-coverage-level=4 sanitizer-coverage-inline-8bit-counters sanitizer-coverage-pc-table \
	sanitizer-coverage-trace-compares simplifycfg-branch-fold-threshold=0; do
	flags+=("-Cllvm-args=-$option")
done
# Compilers that know the option refuse to mix with the standard library's build without it.
if RUSTC_BOOTSTRAP=1 "$rustc" -Cunsafe-allow-abi-mismatch=sanitizer --print cfg >/dev/null 2>&1; then
	flags+=(-Cunsafe-allow-abi-mismatch=sanitizer)
fi
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$target
echo "fuzz: $("$rustc" -V), RUSTC_BOOTSTRAP=1 RUSTFLAGS='$RUSTFLAGS'"
"$cargo" build --locked --release --target "$host" --features libfuzzer --bins
bin=$target/$host/release
# A build that is not instrumented would pass for the wrong reason.
for name in "${targets[@]}"; do
	nm "$bin/$name" | grep -c '__asan_report_load' >/dev/null || { echo "$bin/$name is not instrumented" >&2; exit 1; }
done

read -ra options <<<"${FUZZ_OPTIONS:-}"
findings=()
for name in "${targets[@]}"; do
	found=$target/found/$name crashes=$target/crashes/$name
	mkdir -p "$found" "$crashes" "corpus/$name" "regressions/$name"
	if [ -n "$merge" ]; then
		rm -rf "$found.least"
		mkdir "$found.least"
		"$bin/$name" -set_cover_merge=1 -use_counters=0 -max_len=1024 -timeout=10 "$found.least" "corpus/$name" "$found" >"$target/merge.log" 2>&1 ||
			{ tail -n 30 "$target/merge.log"; exit 1; }
		rm -rf "corpus/$name"
		mv "$found.least" "corpus/$name"
		echo "fuzz: corpus/$name: $(find "corpus/$name" -type f | wc -l) files, $(du -bs "corpus/$name" | cut -f1) bytes"
		continue
	fi
	printf '\nfuzz: %s for %s s\n' "$name" "$seconds"
	# New inputs go to the first folder.
	if ! "$bin/$name" "$found" "corpus/$name" "regressions/$name" -artifact_prefix="$crashes/" -max_total_time="$seconds" \
		-timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=4096 -len_control=30 -print_final_stats=1 \
		"${options[@]}" >"$target/$name.log" 2>&1; then
		tail -n 60 "$target/$name.log"
		findings+=("$name")
	fi
	grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb)' "$target/$name.log" || true
done
# Once more what matters, at the end, where it is seen, and with the input itself: of a run elsewhere only the output may be left.
for name in "${findings[@]}"; do
	printf '\nfuzz: %s has a finding; its input is in %s. Again, with every call: KIT_TRACE=1 %s INPUT\n' \
		"$name" "$target/crashes/$name" "$bin/$name"
	grep -aE -A 3 'panicked at|^SUMMARY: |ERROR: ' "$target/$name.log" | cut -c1-300 | tail -n 12 || true
	input=$(sed -n 's/.*Test unit written to //p' "$target/$name.log" | tail -n 1)
	[ -z "$input" ] || printf 'fuzz: the input (base64 -d): %s\n' "$(base64 -w 0 "$input")"
done
exit $((${#findings[@]} > 0))
