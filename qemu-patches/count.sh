#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# count.sh [--check] [SERIES...]
#
# How large the code of each series is, from its patches, without QEMU's docs/
# and tests/: lines of the glue (the files
# migration-vfiomig.c and .h), lines that are added and removed outside of it,
# and hooks: places in QEMU's own C code that ask or call the glue, neighbouring
# lines being one. Without SERIES all of them.
#
#       --check   fail if a series is larger than it may be (GOALS)
#   -h, --help
#
# Exit status: 0; 1 a series is too large; 2 wrong usage.
set -euo pipefail
cd "$(dirname "$0")"

# SERIES: lines of the glue, added and removed outside, hooks.
declare -A GOALS=([10.2]="900 150 30 15" [10.2/vfio-user]="200 200 60 15" [10.0]="900 150 30 15" [7.2]="900 80 20 10")

# Prints the four numbers of the patches on standard input.
measure() {
    awk '
        /^diff --git / { skip = / b\/(docs|tests)\//; glue = / b\/.*migration-vfiomig\.[ch]$/; code = / b\/.*\.c$/ && !glue; in_hunk = in_hook = 0; next }
        /^From 00000000/ { in_hunk = 0; next }
        /^@@ / { in_hunk = 1; in_hook = 0; next }
        !in_hunk || skip { next }
        /^ / || /^$/ { in_hook = 0; next }
        /^[+-]/ && glue { lines += /^[+]/ ? 1 : -1; next }
        /^[+]/ { added++ }
        /^-/ { removed++ }
        /^[+].*vfio_vmig/ && code { hooks += !in_hook; in_hook = 1 }
        END { print lines + 0, added + 0, removed + 0, hooks + 0 }'
}

check=no
series=()
while (($#)); do
    case $1 in
    --check) check=yes ;;
    -h | --help) sed -n '3,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 0 ;;
    -*) echo "count.sh: unknown option $1 (see --help)" >&2 && exit 2 ;;
    *) series+=("$1") ;;
    esac
    shift
done
((${#series[@]})) || for one in [0-9]*/ [0-9]*/vfio-user/; do series+=("${one%/}"); done

status=0
for one in "${series[@]}"; do
    compgen -G "$one/*.patch" >/dev/null || { echo "count.sh: there is no series $one" >&2 && exit 2; }
    # Mail signatures would look like removed lines; the series has none.
    read -r -a found < <(cat "$one"/*.patch | measure)
    printf '%-14s glue %5d, outside +%d -%d, hooks %d' "$one" "${found[@]}"
    if [[ -n ${GOALS[$one]:-} ]]; then
        read -r -a goal <<<"${GOALS[$one]}"
        printf ' (at most %d, +%d -%d, %d)' "${goal[@]}"
        for index in "${!goal[@]}"; do
            ((found[index] <= goal[index])) || status=1
        done
    fi
    echo
done
[[ $check == yes ]] || exit 0
((status == 0)) || echo "count.sh: a series is larger than it may be" >&2
exit "$status"
