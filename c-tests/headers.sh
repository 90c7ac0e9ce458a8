# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The header alone, in the languages that it promises. Part of job.sh.
mkdir -p "$T_BUILD/header"

compiles() { # LABEL EXPECT COMPILER OPTION... ; the source comes on stdin
	local label=$1 expect=$2 out=$T_BUILD/header/$1.out verdict=PASS
	shift 2
	if ! command -v "$1" >/dev/null; then
		echo "SKIP header $label: there is no $1"
		return
	fi
	# shellcheck disable=SC2086
	"$@" -Wall -Wextra -Wpedantic -Werror $T_CFLAGS -fsyntax-only - >"$out" 2>&1 && got=yes || got=no
	[ "$got" = "$expect" ] || verdict=FAIL
	echo "$verdict header $label"
	[ $verdict = PASS ] || sed 's/^/    /' "$out"
}

twice='#include <vfiomig.h>
#include <vfiomig.h>'
# Not only defined: usable where the preprocessor decides, and wrong answers do not compile.
macros='#include <vfiomig.h>
#if !VFIOMIG_CHECK_VERSION(0, 1, 0) || VFIOMIG_CHECK_VERSION(99, 0, 0)
#error version
#endif
#if !VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH)
#error this version
#endif
#if VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH + 1)
#error next patch
#endif
#if !VFIOMIG_HAVE_DEVICE_NEW_OPS || defined VFIOMIG_HAVE_DEVICE_NEW_NOTHING
#error have
#endif
#if VFIOMIG_UNKNOWN != 0xffffffffffffffff
#error unknown
#endif
uint32_t f(void);
uint32_t f(void) { struct vfiomig_device_pending p; VFIOMIG_INIT(&p); return p.argsz + VFIOMIG_ON_FAILURE_RETURN_TO(2); }'
# What the check must refuse, to see that it can.
broken='#include <vfiomig.h>
int f();'

# As on a machine whose pointers have 32 bits.
narrow='#include <stdint.h>
#undef UINTPTR_MAX
#define UINTPTR_MAX 0xffffffffu
#include <vfiomig.h>'

strict=(-Wstrict-prototypes -Wmissing-prototypes)
compiles c99 yes "$CC" -x c -std=c99 "${strict[@]}" <<<"$twice"
compiles c11 yes "$CC" -x c -std=c11 "${strict[@]}" <<<"$twice"
conversions=(-Wconversion -Wsign-conversion -Wundef -Wcast-qual)
compiles c17-conversions yes "$CC" -x c -std=c17 "${strict[@]}" "${conversions[@]}" <<<"$macros"
compiles c++11 yes "$CXX" -x c++ -std=c++11 <<<"$twice"
compiles c++17 yes "$CXX" -x c++ -std=c++17 <<<"$twice"
compiles c++17-macros yes "$CXX" -x c++ -std=c++17 <<<"$macros"
compiles macros-c99 yes "$CC" -x c -std=c99 "${strict[@]}" <<<"$macros"
compiles broken-is-refused no "$CC" -x c -std=c99 "${strict[@]}" <<<"$broken"
compiles 32-bit-is-refused no "$CC" -x c -std=c99 <<<"$narrow"
grep -q '64-bit machines only' "$T_BUILD/header/32-bit-is-refused.out" || echo 'FAIL header 32-bit-says-why'
# Nothing but the library's own names.
base=$'#include <stddef.h>\n#include <stdint.h>\n#include <string.h>'
"$CC" -std=c99 -dM -E -x c - <<<"$base" | sort >"$T_BUILD/header/without"
# shellcheck disable=SC2086
"$CC" -std=c99 $T_CFLAGS -dM -E -x c - <<<"$base"$'\n#include <vfiomig.h>' | sort >"$T_BUILD/header/with"
names=$(comm -13 "$T_BUILD/header/without" "$T_BUILD/header/with" | awk '{ print $2 }')
if grep -q '^VFIOMIG_H$' <<<"$names" && ! grep -v '^VFIOMIG_' <<<"$names"; then
	echo 'PASS header macro-names'
else
	echo 'FAIL header macro-names'
fi
