#!/bin/bash
# run-tests.sh KERNEL TRANSPORTS TIMEOUT PROGRAM...    (runs inside the VM)
#
# Runs every program once for each transport and leaves the results in /out,
# where lab-check.sh reads them:
#   plan      one line for each run that should take place: NAME TRANSPORT
#   results   one line for each that did: STATUS NAME TRANSPORT SECONDS
#   NAME.TRANSPORT.log    what it printed, with the kernel's warnings
# TRANSPORTS is a list (`group cdev`) or `auto`: what this kernel has.
set -euo pipefail
# shellcheck source=../lib/warnings.sh
. "$(dirname "$0")/../lib/warnings.sh"

kernel=$1
transports=$2
limit=$3
shift 3

if [[ $transports == auto ]]; then
    transports=
    if [[ -e /dev/vfio/vfio ]]; then transports+=" group"; fi
    if [[ -e /dev/iommu && -d /dev/vfio/devices ]]; then transports+=" cdev"; fi
fi

# After a crash of the emulator this is not the first attempt.
rm -f /out/*.log
: >/out/plan
: >/out/results
for program in "$@"; do
    for transport in $transports; do echo "${program##*/} $transport" >>/out/plan; done
done

# Everything the kernel has logged since `mark WHAT`. A line of our own in the
# log marks the place, which also tells a reader of the log where each test is.
mark_text=
mark() {
    mark_text="lab-test: $*"
    echo "$mark_text" >/dev/kmsg
}
log_since_mark() { dmesg | awk -v mark="$mark_text" 'found; index($0, mark) { found = 1 }'; }

report() { # STATUS NAME TRANSPORT SECONDS
    echo "$*" >>/out/results
    printf '%s %s %s %s %s\n' "$1" "$2" "$kernel" "$3" "$4"
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# judge STATUS LOG: sets `verdict`; the log gets the reason of a failure.
judge() {
    local status=$1 log=$2 warnings
    case $status in
    0) verdict=PASS ;;
    77) verdict=SKIP ;;
    124)
        verdict=FAIL
        echo "run-tests: killed after $limit s" >>"$log"
        ;;
    *)
        verdict=FAIL
        echo "run-tests: exit status $status" >>"$log"
        ;;
    esac
    if ! grep -qax EXPECT-KERNEL-WARNING "$log" && warnings=$(log_since_mark | kernel_warnings); then
        verdict=FAIL
        printf 'run-tests: warnings of the kernel:\n%s\n' "$warnings" >>"$log"
    fi
}

run_test() { # PROGRAM TRANSPORT
    local program=$1 transport=$2 name=${1##*/} log status=0 from spent verdict
    log=/out/$name.$transport.log
    mark "$name $transport"
    from=$(milliseconds)
    timeout -k 5 "$limit" "$program" "$transport" >"$log" 2>&1 </dev/null || status=$?
    spent=$(($(milliseconds) - from))
    judge "$status" "$log"
    report "$verdict" "$name" "$transport" "$((spent / 1000)).$(printf %03d $((spent % 1000)))"
}

# A kernel that warned before the first test is a failure of its own.
if warnings=$(dmesg | kernel_warnings); then
    echo "boot -" >>/out/plan
    printf 'warnings of the kernel before the first test:\n%s\n' "$warnings" >/out/boot.-.log
    report FAIL boot - 0
fi

for program in "$@"; do
    for transport in $transports; do run_test "$program" "$transport"; done
done
