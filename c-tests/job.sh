#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds one test program in all its variants and runs them; run.sh calls it with its environment set.
# Usage: job.sh t-NAME | job.sh header
#
# A program may say, at the start of a line in its first comment:
#   variants: WORDS   of plain static asan valgrind; default all
#   library: panic    it runs with the library whose functions panic on demand
set -euo pipefail

name=$1
warnings=(-Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror)
if [ "$name" = header ]; then
	# shellcheck source=c-tests/headers.sh
	. "$T_HERE/headers.sh"
	exit
fi

source=$T_HERE/$name.c
says() { sed -n "1,12s/^ \* $1: //p" "$source"; }
variants=$(says variants)
library=$T_STAGE/lib
[ "$(says library)" != panic ] || library=$T_PANIC

# Two jobs print: one result at a time.
report() { # VERDICT VARIANT [OUTPUT_FILE]
	{
		flock 9
		echo "$1 $name $2"
		[ -z "${3:-}" ] || sed 's/^/    /' "$3"
	} 9>"$T_BUILD/lock"
}

stale() { # PROGRAM
	local file
	[ -e "$1" ] || return 0
	for file in "$source" "$T_HERE"/*.h "$T_HERE/job.sh" "$T_BUILD"/*.inc "$T_STAGE/.done" \
		"$T_STAGE/lib/libvfiomig.a"; do
		[ ! "$file" -nt "$1" ] || return 0
	done
	return 1
}

# The words of pkg-config are several arguments.
# shellcheck disable=SC2086
compile() { # VARIANT
	local program=$T_BUILD/$1/$name options libs=$T_LIBS
	mkdir -p "$T_BUILD/$1"
	stale "$program" || return 0
	case $1 in
	plain) options=-O1 ;;
	static) options=-O1 libs=$T_STATIC ;;
	asan) options='-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' ;;
	esac
	# A program that opens the library by itself must not be linked to it.
	[[ $(says link) != none ]] || libs=
	cd "$T_HERE" # so that messages name files without this machine's directories
	"$CC" -std=c11 -D_GNU_SOURCE -g $options "${warnings[@]}" $T_CFLAGS -I"$T_BUILD" -pthread -o "$program" \
		"$name.c" $libs -ldl
	case $1 in
	# A program that is not what it says proves nothing.
	static) [ "$(readelf -d "$program" | grep -c 'NEEDED.*libvfiomig')" = 0 ] ;;
	asan) [ "$(nm "$program" | grep -c __asan_init)" != 0 ] ;;
	esac
}

run() { # VARIANT
	local program=$T_BUILD/$1/$name wrap=() result=0
	# The backtrace of a panic that is wanted says nothing.
	export LD_LIBRARY_PATH=$library RUST_BACKTRACE=0
	case $1 in
	static) unset LD_LIBRARY_PATH ;;
	asan)
		export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:exitcode=1
		export UBSAN_OPTIONS=print_stacktrace=1
		;;
	valgrind)
		program=$T_BUILD/plain/$name
		# Reachable at the end is legal: the library keeps its log sink, glibc its own. parking_lot's table is
		# reachable.
		wrap=("$T_VALGRIND" -q --fair-sched=try --leak-check=full --show-leak-kinds=all --num-callers=25
			"--errors-for-leak-kinds=definite,indirect,possible" "--suppressions=$T_HERE/valgrind.supp"
			--error-exitcode=9)
		;;
	esac
	T_VARIANT=$1 timeout -k 5 120 "${wrap[@]}" "$program" || result=$?
	return "$result"
}

for variant in ${variants:-plain static asan valgrind}; do
	out=$T_BUILD/$variant.$name.out
	if [ "$variant" = valgrind ]; then
		if [ -z "$T_VALGRIND" ]; then
			report SKIP "$variant: there is no valgrind"
			continue
		fi
		if ! [ -e "$T_BUILD/plain/$name" ] && ! compile plain >"$out" 2>&1; then
			report FAIL "$variant: does not build" "$out"
			continue
		fi
	elif ! compile "$variant" >"$out" 2>&1; then
		rm -f "$T_BUILD/$variant/$name"
		report FAIL "$variant: does not build" "$out"
		continue
	fi
	result=0
	(run "$variant") >"$out" 2>&1 || result=$?
	case $result in
	0) report PASS "$variant" ;;
	77) report SKIP "$variant: $(tail -n 1 "$out")" ;;
	124 | 137 | 142) report FAIL "$variant: hangs" "$out" ;;
	*) report FAIL "$variant: exit $result" "$out" ;;
	esac
done
