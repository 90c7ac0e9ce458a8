#!/bin/bash
# LAB_PROGS=DIR lab-check.sh
#
# Runs every test program DIR/k-* in the lab's VM: on the stock kernel with
# the argument `group`, on the iommufd kernel with `group` and with `cdev`,
# one boot for each kernel. With VFIOMIG_LAB_KERNEL set it runs them on that
# kernel only. Every program is run with every argument of its kernel; programs
# for which that makes no sense go into a directory of their own and are run
# with LAB_ARGUMENTS. A program exits with 0 (pass), 77 (skip; its last line of
# output is the reason) or anything else (fail). A warning of the kernel
# during a program fails it too, unless it prints EXPECT-KERNEL-WARNING on a
# line of its own.
#
#   LAB_PROGS          the directory of the programs
#   LAB_ENV            names of variables to pass into the VM (LD_LIBRARY_PATH
#                      is always passed)
#   LAB_TEST_TIMEOUT   seconds for one program on one transport (default 60)
#   LAB_TIMEOUT        seconds for one kernel, boot included (default 900)
#   LAB_ARGUMENTS      what the programs are called with, one run for each word,
#                      in place of `group` and `cdev`
#   LAB_PCI            the PCI device without migration in the VM (default edu;
#                      empty: none, and no IOMMU)
#   CI=true            a skipped test is a failure
#
# Prints a line for each test and `N passed, N failed, N skipped` at the end.
# Exit status: 0 nothing failed, 1 something did, 240 wrong usage or no lab.
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"

case ${1:-} in
"") ;;
-h | --help)
    show_help "$0"
    exit 0
    ;;
*) die 240 "unknown argument $1 (see --help)" ;;
esac
[[ -d ${LAB_PROGS:-} ]] || die 240 "LAB_PROGS must name the directory of the test programs"
progs=$(cd "$LAB_PROGS" && pwd)
programs=()
for program in "$progs"/k-*; do
    if [[ -f $program && -x $program ]]; then programs+=("$program"); fi
done
((${#programs[@]} > 0)) || die 240 "no executable k-* in $LAB_PROGS: nothing would be proved"

options=(-t "${LAB_TIMEOUT:-900}" --allow-warnings -e LD_LIBRARY_PATH)
if [[ -n ${LAB_PCI-edu} ]]; then options+=(-p "${LAB_PCI-edu}"); fi
for name in ${LAB_ENV:-}; do options+=(-e "$name"); done

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-check.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

passed=0 failed=0 skipped=0

show_output() { # TITLE FILE
    echo "---- $1"
    cat "$2" 2>/dev/null || true
    echo "----"
}

# no_result KERNEL NAME TRANSPORT SECONDS WHY: a failure that has no line in the
# results.
no_result() {
    failed=$((failed + 1))
    echo "FAIL $2 $1 $3 $4 ($5)"
}

# count_results KERNEL OUT: adds up what a VM left behind.
count_results() {
    local verdict name transport seconds
    while read -r verdict name transport seconds; do
        case $verdict in
        PASS) passed=$((passed + 1)) ;;
        SKIP)
            skipped=$((skipped + 1))
            echo "skipped: $name $1 $transport: $(tail -n 1 "$2/$name.$transport.log")"
            ;;
        *)
            failed=$((failed + 1))
            show_output "output of $name $1 $transport ($seconds s)" "$2/$name.$transport.log"
            ;;
        esac
    done <"$2/results"
}

# count_missing KERNEL OUT STATUS: what was planned and has no result, for the VM
# went down before its end.
count_missing() {
    local name transport log
    while read -r name transport; do
        if grep -q "^[A-Z]* $name $transport " "$2/results"; then continue; fi
        log=$2/$name.$transport.log
        if [[ -f $log ]]; then
            no_result "$1" "$name" "$transport" - "the VM ended during this test: status $3"
            show_output "output of $name $1 $transport" "$log"
        else
            no_result "$1" "$name" "$transport" - "not run: the VM ended before"
        fi
    done <"$2/plan"
}

# run_kernel KERNEL TRANSPORTS [IMAGE]
run_kernel() {
    local kernel=$1 image=${3:-$1} out=$work/out status=0
    rm -rf "$out"
    mkdir "$out"
    "$LAB_HOME/lab-run.sh" -k "$image" -o "$out" "${options[@]}" -- \
        "$LAB_HOME/guest/run-tests.sh" "$kernel" "$2" "${LAB_TEST_TIMEOUT:-60}" "${programs[@]}" ||
        status=$?

    if [[ ! -s $out/plan ]]; then
        no_result "$kernel" boot - 0 "no test was run; status of lab-run.sh: $status"
        return 0
    fi
    count_results "$kernel" "$out"
    count_missing "$kernel" "$out" "$status"
    if ((status != 0)) && [[ $(wc -l <"$out/plan") == $(wc -l <"$out/results") ]]; then
        no_result "$kernel" end - 0 "all tests ended, but the VM did not end well: status $status"
    fi
}

if [[ -n ${VFIOMIG_LAB_KERNEL:-} ]]; then
    case $VFIOMIG_LAB_KERNEL in
    stock | iommufd | mock) "$LAB_HOME/lab-setup.sh" -k "$VFIOMIG_LAB_KERNEL" || die 240 "no lab" ;;
    *) "$LAB_HOME/lab-setup.sh" -k own || die 240 "no lab" ;;
    esac
    case $VFIOMIG_LAB_KERNEL in
    stock) run_kernel stock "${LAB_ARGUMENTS:-group}" ;;
    iommufd | mock) run_kernel "$VFIOMIG_LAB_KERNEL" "${LAB_ARGUMENTS:-group cdev}" ;;
    *) run_kernel own "${LAB_ARGUMENTS:-auto}" "$VFIOMIG_LAB_KERNEL" ;;
    esac
else
    "$LAB_HOME/lab-setup.sh" || die 240 "no lab"
    run_kernel stock "${LAB_ARGUMENTS:-group}"
    run_kernel iommufd "${LAB_ARGUMENTS:-group cdev}"
fi

echo "$passed passed, $failed failed, $skipped skipped"
if [[ ${CI:-} == true ]] && ((skipped > 0)); then
    echo "CI=true: a skipped test is a failure"
    exit 1
fi
((failed == 0))
