#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The thread tests under ThreadSanitizer. A race fails; so does a checker that finds no race where one is.
# Usage: race.sh CARGO TARGET_DIR     Environment: CC, RUSTC
#
# What runs is the C programs, with an instrumented build of the library. A released compiler does -Zsanitizer with
# RUSTC_BOOTSTRAP, so no other toolchain is needed; but the standard library that comes with it is not instrumented.
# That is harmless for the library, whose locks are parking_lot's, compiled with it. It is not for Rust tests: the
# checker sees neither std's Mutex under contention nor the end of a scoped thread nor the test harness's own channel,
# and reports some 25 races in tests/threads.rs, all of them in the test. C programs have pthreads, semaphores and C11
# atomics, all of which it sees.
set -euo pipefail

cargo=$1 target=$2
mkdir -p "$target"
target=$(cd "$target" && pwd)
cd "$(dirname "$0")/.."

cc=${CC:-cc} rustc=${RUSTC:-rustc}
host=$("$rustc" -vV | sed -n 's/^host: //p')
flags='-Zsanitizer=thread -Zshare-generics=no'
# Compilers that know the option refuse to mix with the standard library's build without it.
if "$rustc" -Cunsafe-allow-abi-mismatch=sanitizer --print cfg >/dev/null 2>&1; then
	flags+=' -Cunsafe-allow-abi-mismatch=sanitizer'
fi
# Kernels with much randomness place memory where the checker's shadow is.
fixed=()
if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi
export TSAN_OPTIONS="exitcode=66 halt_on_error=0 suppressions=$PWD/c-tests/race.supp"

archive() { # MANIFEST [OPTION...] ; prints what else must be linked
	local manifest=$1
	shift
	# Warnings are the business of `make lint`.
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags --cap-lints allow" CARGO_TARGET_DIR=$target \
		"$cargo" rustc --lib "$@" --manifest-path "$manifest" --target "$host" --crate-type staticlib \
		-- --print native-static-libs 2>"$target/cargo.out" || { cat "$target/cargo.out" >&2; return 1; }
	sed -n 's/.*native-static-libs: //p' "$target/cargo.out"
}

program() { # RESULT SOURCE ARCHIVE LIBRARIES
	# shellcheck disable=SC2086
	"$cc" -std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -fsanitize=thread -Iinclude -Ic-tests -pthread \
		-o "$1" "$2" c-tests/race-shim.c "$3" $4
}

# The control: the same tools on a function of Rust that is called by two threads, with its lock and without.
control=$target/control
mkdir -p "$control/src"
printf '[package]\nname = "control"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$control/Cargo.toml"
cat >"$control/src/lib.rs" <<'RUST'
use std::sync::atomic::{AtomicBool, Ordering};
static LOCK: AtomicBool = AtomicBool::new(false);
static mut COUNT: u64 = 0;
#[no_mangle]
pub extern "C" fn control_add(locked: bool) {
    for _ in 0..10_000 {
        while locked && LOCK.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        unsafe { std::ptr::addr_of_mut!(COUNT).write(std::ptr::addr_of!(COUNT).read() + 1) }
        LOCK.store(false, Ordering::Release);
    }
}
RUST
cat >"$control/main.c" <<'C'
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
void control_add(bool locked);
static bool locked;
static void *add(void *unused)
{
	control_add(locked);
	return unused;
}
int main(int argc, char **argv)
{
	pthread_t other;
	(void)argv;
	locked = argc > 1;
	pthread_create(&other, NULL, add, NULL);
	add(NULL);
	return pthread_join(other, NULL);
}
C
libs=$(archive "$control/Cargo.toml")
program "$control/main" "$control/main.c" "$target/$host/debug/libcontrol.a" "$libs"
result=0
"${fixed[@]}" "$control/main" >"$control/racy" 2>&1 || result=$?
if [ $result -ne 66 ] || ! grep -q 'WARNING: ThreadSanitizer: data race' "$control/racy"; then
	cat "$control/racy"
	echo "FAIL race: the checker does not see a race that is there (exit $result)"
	exit 1
fi
if ! "${fixed[@]}" "$control/main" locked >"$control/locked" 2>&1; then
	cat "$control/locked"
	echo 'FAIL race: the checker sees a race where a lock is taken'
	exit 1
fi
echo 'PASS race control'

libs=$(archive Cargo.toml --features capi)
if [ "$(nm "$target/$host/debug/libvfiomig.a" 2>/dev/null | grep -c ' U __tsan_')" -lt 100 ]; then
	echo 'FAIL race: the library is not instrumented'
	exit 1
fi
failed=0
for name in t-threads t-free t-reentry t-harvest-threads t-workers t-drain t-ahead t-behind t-bitmap t-wire-group; do
	program "$target/$name" "c-tests/$name.c" "$target/$host/debug/libvfiomig.a" "$libs"
	result=0
	timeout -k 5 300 "${fixed[@]}" "$target/$name" >"$target/$name.out" 2>&1 || result=$?
	if [ $result -ne 0 ] || grep -q 'WARNING: ThreadSanitizer' "$target/$name.out"; then
		cat "$target/$name.out"
		echo "FAIL race $name: exit $result"
		failed=1
	else
		echo "PASS race $name"
	fi
done
exit $failed
