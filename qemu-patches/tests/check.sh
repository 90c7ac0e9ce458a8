#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check.sh [OPTION...] [SCENARIO...]
#
# Live-migrates VFIO devices between real QEMUs in the kernel lab's VM: builds
# the patched ones, fetches the distribution's, boots the lab's kernels and runs
# the scenarios of table.py, in one boot for each kernel.
#
#       --full         all scenarios, not only those of `make check-qemu`
#       --list         print the scenarios that would be run, and end
#       --debian       only scenarios that need no patched QEMU: what the
#                      harness itself is proved with
#       --stage DIR    an installation of the library, for the patched QEMUs
#                      (default: this checkout's own, made now: make stage)
#       --commit VERSION=REV
#                      build this commit of the scratch repository, not the
#                      series (see ../build.sh)
#       --program VERSION=PATH
#                      this patched QEMU, not the one that ../build.sh makes;
#                      VERSION-baseline too
#   -o, --out DIR      keep logs, traces and messages in DIR
#   -h, --help
#
# A SCENARIO is a name, or a pattern as in the shell; without any, all.
#
# Prints `PASS|FAIL|SKIP NAME KERNEL SECONDS s` for each scenario, with its
# figures, or the reason, below. Exit status: 0 all passed; 1 one failed, or
# the VM did; 77 none failed, but some were skipped, and why is printed (with
# CI=true 1, or 0 if all of these need a rolling base that the mirror does not
# serve any more); 2 wrong usage.
set -euo pipefail
shopt -s inherit_errexit # a step that fails within $( ) ends it
TESTS_HOME=$(cd "$(dirname "$0")" && pwd)
lab=$TESTS_HOME/../../lab
# shellcheck source=lab/lib/common.sh
. "$lab/lib/common.sh"
# shellcheck source=lab/lib/packages.sh
. "$lab/lib/packages.sh"
# shellcheck source=lab/lib/warnings.sh
. "$lab/lib/warnings.sh"
# shellcheck source=qemu-patches/lib/debian-source.sh
. "$TESTS_HOME/../lib/debian-source.sh"
# shellcheck source=qemu-patches/lib/test-options.sh
. "$TESTS_HOME/../lib/test-options.sh"

VM_SECONDS=14400 # for one kernel, all scenarios; they have limits of their own
tier=check
only=
declare -A commit=() program_of=()
take_option() {
    case $1 in
    --full) tier=full ;;
    --debian) only=debian ;;
    --commit) commit[${2%%=*}]=${2#*=} ;;
    --program) program_of[${2%%=*}]=$(readlink -f "${2#*=}") ;;
    esac
}
read_options "--full --debian" "--commit --program" "$@"

# The harness runs on Debian's python3, in the VM and here.
python=/usr/bin/python3
[[ -x $python ]] || install_packages python3
mapfile -t rows < <("$python" "$TESTS_HOME/choose.py" "$tier" "$only" "${patterns[@]}")
((${#rows[@]} > 0)) || die 2 "no scenario is like that; see --list"
if [[ $list == yes ]]; then
    printf '%s\n' "${rows[@]}" | cut -d' ' -f1-3
    exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
[[ -n $out ]] || out=$work/out
mkdir -p "$out"
out=$(cd "$out" && pwd)

# find_binary NAME: a line for harness/binary.py.
find_binary() {
    local name=$1 version=${1%%-*} root program libraries status=0 words=()
    if [[ $name == *-debian ]]; then
        root=$("$lab/debian-qemu.sh" "$version") || status=$?
        program=$root/usr/bin/qemu-system-x86_64
        libraries=$root/usr/lib/x86_64-linux-gnu
        # One that finds its libraries itself.
        [[ ! -x $root/qemu ]] || program=$root/qemu libraries=/nonexistent
        printf '%s\t%s\t%s\t%s\n' "$name" "$program" "$libraries" "$root/usr/share/seabios:$root/usr/share/qemu"
    elif [[ $name == *-plain ]]; then
        program=$("$TESTS_HOME/../build.sh" --no-patches "$version") || status=$?
        printf '%s\t%s\t%s\t%s\n' "$name" "$program" /nonexistent /usr/share/seabios:/usr/share/qemu
    else
        words+=(--stage "$stage")
        [[ $name != *-baseline ]] || words+=(--baseline)
        [[ -z ${commit[$version]:-} ]] || words+=(--commit "${commit[$version]}")
        program=${program_of[$name]:-}
        [[ -n $program ]] || program=$("$TESTS_HOME/../build.sh" "${words[@]}" "$version") || status=$?
        printf '%s\t%s\t%s\t%s\n' "$name" "$program" "$stage/lib" /usr/share/seabios:/usr/share/qemu
    fi >"$work/line"
    case $status in
    0) cat "$work/line" ;;
    77) printf '%s\tQEMU %s cannot be had here\n' "$name" "$name" ;;
    *) die 1 "there is no QEMU $name (status $status)" ;;
    esac
}

if [[ -z $stage && $only != debian ]]; then
    make -s -C "$TESTS_HOME/../.." stage >&2
    stage=$(make -s -C "$TESTS_HOME/../.." print-stage)
fi
mapfile -t names < <(printf '%s\n' "${rows[@]}" | cut -d' ' -f4- | tr ' ' '\n' | sort -u)
for name in "${names[@]}"; do find_binary "$name"; done >"$work/binaries"

passed=0 failed=0 skipped=0 gone=0

# rolled_away NAME: whether a QEMU of this scenario is of a rolling base that
# cannot be had any more.
rolled_away() {
    local binaries name
    binaries=$(printf '%s\n' "${rows[@]}" | sed -n "s/^$1 [^ ]* [^ ]* //p")
    for name in $binaries; do
        [[ -z ${QEMU_ROLLING[${name%%-*}]:-} ]] ||
            awk -F '\t' -v name="$name" '$1 == name && NF > 2 { had = 1 } END { exit !had }' "$work/binaries" || return 0
    done
    return 1
}

# count KERNEL LOGS STATUS NAME...: adds up what a VM has left behind.
count() {
    local kernel=$1 logs=$2 status=$3 row name
    shift 3
    for name in "$@"; do
        row=$(grep -E "^[A-Z]+ $name " "$logs/results" || true)
        case $row in
        PASS*) passed=$((passed + 1)) ;;
        SKIP*) if rolled_away "$name"; then gone=$((gone + 1)); else skipped=$((skipped + 1)); fi ;;
        FAIL*) failed=$((failed + 1)) ;;
        *)
            failed=$((failed + 1))
            echo "FAIL $name $kernel - (the VM ended before it: status $status)"
            ;;
        esac
    done
}

# run_kernel KERNEL: runs its scenarios, in one boot.
run_kernel() {
    local kernel=$1 logs=$out/$1 status=0
    local -a scenarios
    mapfile -t scenarios < <(printf '%s\n' "${rows[@]}" | sed -n "s/^\([^ ]*\) $kernel .*/\1/p")
    ((${#scenarios[@]} > 0)) || return 0
    mkdir -p "$logs"
    cp "$work/binaries" "$logs/"
    : >"$logs/results"
    # Warnings of the kernel fail the scenario in which they came.
    "$lab/lab-run.sh" -k "$kernel" -m 2G -t "$VM_SECONDS" --allow-warnings -o "$logs" -l "$logs/kernel.log" \
        -e "LAB_WARNING_PATTERN=$LAB_WARNING_PATTERN" -- \
        "$python" "$TESTS_HOME/run.py" "$kernel" "${scenarios[@]}" || status=$?
    count "$kernel" "$logs" "$status" "${scenarios[@]}"
    ((status <= 1)) || say "lab-run.sh ended with $status"
    if ((status != 0 && failed == 0)); then
        failed=$((failed + 1))
        echo "FAIL end $kernel - (all scenarios ended, but the VM did not end well: status $status)"
    fi
}
run_kernel iommufd
run_kernel stock

echo "$passed passed, $failed failed, $((skipped + gone)) skipped"
((gone == 0)) || echo "WARNING: $gone NOT RUN, the mirror serves no more what they need: QEMU ${!QEMU_ROLLING[*]} (lib/debian-source.sh)"
((failed == 0)) || exit 1
[[ ${CI:-} != true ]] || {
    ((skipped == 0)) || die 1 "CI=true: a skipped scenario is a failure"
    exit 0
}
((skipped + gone == 0)) || exit 77
