#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds and runs the C tests against an installed library, and checks the header.
# Usage: run.sh STAGE PANIC_LIB_DIR BUILD_DIR [name...]     Environment: CC, CXX, CI, JOBS
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
stage=$(cd "$1" && pwd) panic_lib=$(cd "$2" && pwd)
mkdir -p "$3"
build=$(cd "$3" && pwd)
shift 3

export CC=${CC:-cc} CXX=${CXX:-g++} T_HERE=$here T_STAGE=$stage T_PANIC=$panic_lib T_BUILD=$build
# Only the stage: another installation of the library must not be found.
export PKG_CONFIG_PATH=$stage/lib/pkgconfig PKG_CONFIG_LIBDIR=$stage/lib/pkgconfig
T_CFLAGS=$(pkg-config --cflags vfiomig)
T_LIBS=$(pkg-config --libs vfiomig)
T_STATIC=$(pkg-config --static --libs vfiomig)
# The same line, with the archive in place of the shared library.
T_STATIC=${T_STATIC/-lvfiomig/-l:libvfiomig.a}
export T_CFLAGS T_LIBS T_STATIC
T_VALGRIND=$(command -v valgrind || true)
export T_VALGRIND
# The functions that the header declares, for the programs that must know them all.
sed -n 's/^#define VFIOMIG_HAVE_\([A-Z0-9_]*\) 1$/FUNCTION(vfiomig_\L\1)/p' "$stage/include/vfiomig.h" \
	>"$build/functions.new"
# The program at the beginning of the guide, for the test that runs it.
awk '/^```c$/ && !n++ { on = 1; next } /^```/ { on = 0 } on' "$here/../docs/vmm-guide.md" >"$build/smallest-vmm.new"
# In which states or phases each function may be called, as its comment says.
awk '/^\/\*\*/ { text = "" } /^ \*/ { sub(/^ \* ?/, ""); text = text $0 " "; next }
	/^[a-z].*vfiomig_[a-z_]*\(/ && match(text, /(States|Phases): .* Threads: /) {
		line = substr(text, RSTART + 8, RLENGTH - 18)
		match($0, /vfiomig_[a-z_]*\(/)
		printf "ALLOWED(%s, \"%s\")\n", substr($0, RSTART, RLENGTH - 1), line
		text = ""
	}' "$stage/include/vfiomig.h" >"$build/allowed.new"
# The system calls of each group of functions, of those that this machine has.
awk -F'|' '/^## / { on = /By group/ } on && /^\| [a-z]/ && $2 != " group " {
		group = $2; gsub(/^ | $/, "", group)
		while (match($3, /`[a-z0-9_]+`/)) {
			name = substr($3, RSTART + 1, RLENGTH - 2)
			printf "#ifdef SYS_%s\nCALL(\"%s\", %s)\n#endif\n", name, group, name
			$3 = substr($3, RSTART + RLENGTH)
		}
	}' "$here/../docs/system-calls.md" >"$build/syscalls.new"
for made in functions smallest-vmm allowed syscalls; do
	cmp -s "$build/$made.new" "$build/$made.inc" || mv "$build/$made.new" "$build/$made.inc"
done

if [ $# -eq 0 ]; then
	set -- header
	for file in "$here"/t-*.c; do
		set -- "$@" "$(basename "$file" .c)"
	done
fi
begun=$SECONDS
log=$build/results
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -n 1 "$here/job.sh" | tee "$log"

count() { grep -c "^$1 " "$log" || true; }
passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
[ -n "$T_VALGRIND" ] || echo 'SKIPPED: there is no valgrind: leaks and wild reads in the library were not looked for'
echo "$((SECONDS - begun)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 1
[ "${CI:-}" != true ] || [ "$skipped" -eq 0 ]
