#!/bin/bash
# check.sh
#
# Tests the test driver itself: builds tests/k-driver-*.c, which use nothing
# but the kernel, and runs them on both kernels of the lab, one boot each. The
# variables, the output and the exit status are those of ../lab-check.sh.
#
# Environment: CC (default cc)
set -euo pipefail
. "$(dirname "$0")/../lib/common.sh"

case ${1:-} in
"") ;;
-h | --help)
    show_help "$0"
    exit 0
    ;;
*) die 240 "unknown argument $1 (see --help)" ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-driver.XXXXXX")
trap 'rm -rf "$work"' EXIT
read -ra cc <<<"${CC:-cc}"
flags=(-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -pthread)

mkdir "$work/progs"
"${cc[@]}" "${flags[@]}" -c -o "$work/raw.o" "$LAB_HOME/driver/tests/raw.c"
for source in "$LAB_HOME"/driver/tests/k-*.c; do
    "${cc[@]}" "${flags[@]}" -o "$work/progs/$(basename "$source" .c)" "$source" "$work/raw.o"
done

# Where the VM finds the module to load it again; it sees the cache, too.
export DRIVER_MODULES=$LAB_CACHE/current
export LAB_ENV="DRIVER_MODULES ${LAB_ENV:-}"
LAB_PROGS=$work/progs "$LAB_HOME/lab-check.sh"
