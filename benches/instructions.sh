#!/bin/bash
# Counts what twelve fixed cases execute (benches/instructions/main.rs) and compares it with benches/instructions.txt.
# Usage: instructions.sh CARGO [write]     Environment: RUSTC
#
# Fails if a count has grown by more than 5 %. Who means it writes the file anew, in the same commit. Counts do not depend on the
# machine: valgrind shows every program a processor with AVX2 and no more, which decides the way that the library takes, and
# the C library is told to use nothing beyond SSE2. They do depend on the compiler, whose version stands in the file. 77: they
# cannot be counted here, and why.
set -euo pipefail
cargo=$1 mode=${2:-check}
cd "$(dirname "$0")/.."
file=benches/instructions.txt

skip() {
	echo "instructions.sh: nothing is counted: $1" >&2
	[[ ${CI:-} != true ]] || exit 1
	exit 77
}
command -v valgrind >/dev/null || skip 'there is no valgrind'
[[ $(uname -m) == x86_64 ]] || skip 'the counts are of x86-64'
grep -qw avx2 /proc/cpuinfo || skip 'this processor has no AVX2, so valgrind has none'
compiler=$("${RUSTC:-rustc}" -V | cut -d' ' -f1,2)
[[ $mode == write ]] || grep -qxF "# $compiler" "$file" ||
	echo "instructions.sh: the file is of $(sed -n '1s/^# //p' "$file"), this is $compiler; a new compiler may need a new file"

program=$("$cargo" bench --locked --bench instructions --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\)).*/\1/p')
[[ -n $program ]] || { echo "instructions.sh: the bench does not build" >&2; exit 1; }
mapfile -t names < <("$program")

count() {
	GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM valgrind --tool=callgrind --callgrind-out-file=/dev/null \
		--collect-atstart=no --toggle-collect=vfiomig_measured "$program" "$1" 2>&1 | sed -n 's/.*Collected *: *//p'
}

failed=0
[[ $mode != write ]] || echo "# $compiler" >"$file"
for number in "${!names[@]}"; do
	name=${names[number]} now=$(count "$number")
	if [[ $mode == write ]]; then
		printf '%s\t%s\n' "$now" "$name" >>"$file"
		continue
	fi
	before=$(awk -F'\t' -v name="$name" '$2 == name { print $1 }' "$file")
	percent=$((before ? (now - before) * 1000 / before : 9999))
	printf '%12s %12s %+5d.%d %%  %s\n' "${before:-none}" "$now" $((percent / 10)) $((percent < 0 ? -percent % 10 : percent % 10)) "$name"
	if ((percent > 50)); then
		echo "FAIL instructions: $name executes more than it did; if that is meant: make instructions"
		failed=1
	fi
done
exit $failed
