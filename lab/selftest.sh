#!/bin/bash
# selftest.sh: proves that the lab itself can be relied on: statuses are
# carried through, and a timeout, a crash of the emulator, a warning of the
# kernel and a panic are each told from a failed test. Takes about two
# minutes. Exit status: 0 all held, 1 something did not.
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"
. "$LAB_HOME/lib/packages.sh"
. "$LAB_HOME/lib/emulator.sh"

run=$LAB_HOME/lab-run.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-selftest.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset VFIOMIG_LAB_KERNEL VFIOMIG_LAB_QEMU CI LAB_ENV LAB_PROGS LAB_TEST_TIMEOUT LAB_TIMEOUT LAB_PCI LAB_ARGUMENTS
broken=0

# expect TITLE STATUS [-s TEXT | -S TEXT]... -- COMMAND...
# Runs COMMAND and compares its exit status. Its output (stdout and stderr)
# must have TEXT in it (-s) or must not (-S).
expect() {
    local title=$1 want=$2 got=0 wrong=() present=() absent=() from=$SECONDS
    shift 2
    while [[ $1 != -- ]]; do
        case $1 in
        -s) present+=("$2") ;;
        -S) absent+=("$2") ;;
        esac
        shift 2
    done
    shift
    "$@" >"$work/output" 2>&1 || got=$?
    ((got == want)) || wrong+=("exit status $got, not $want")
    look_for
    if ((${#wrong[@]} == 0)); then
        echo "ok   $title ($((SECONDS - from)) s)"
    else
        broken=$((broken + 1))
        echo "FAIL $title"
        printf '     %s\n' "${wrong[@]}"
        sed 's/^/     | /' "$work/output"
    fi
}

# look_for: the texts of `expect` in the output; what is not as it should be
# goes to `wrong`.
look_for() {
    local text
    for text in "${present[@]}"; do
        grep -qaF -- "$text" "$work/output" || wrong+=("no '$text' in the output")
    done
    for text in "${absent[@]}"; do
        ! grep -qaF -- "$text" "$work/output" || wrong+=("'$text' in the output")
    done
}

# script NAME: an executable from stdin.
script() {
    mkdir -p "$(dirname "$work/$1")"
    cat >"$work/$1"
    chmod 755 "$work/$1"
}

"$LAB_HOME/lab-setup.sh"

### The set-up

second_setup() {
    local from=${EPOCHREALTIME/[.,]/}
    "$@" || return
    local spent=$(((${EPOCHREALTIME/[.,]/} - from) / 1000))
    echo "took $spent ms"
    ((spent < 2000))
}
expect "a second set-up has nothing to do and takes less than 2 s" 0 \
    -S "done in" -- second_setup "$LAB_HOME/lab-setup.sh"
if ((EUID == 0)) && unshare -n true 2>/dev/null; then
    expect "the same without a network" 0 -S "done in" -- \
        second_setup unshare -n "$LAB_HOME/lab-setup.sh"
fi

# A copy of the scripts with a changed init, and a copy of the cache.
cp -r "$LAB_HOME" "$work/scripts"
echo "# changed" >>"$work/scripts/guest/init"
mkdir "$work/cache"
cp -a "$LAB_CACHE/current" "$(readlink -f "$LAB_CACHE/current")" "$work/cache/"
expect "a changed init makes the initramfs again, and nothing else" 0 \
    -s "initramfs-stock done" -s "initramfs-iommufd done" \
    -S "modules-iommufd done" -S "image done" -S "debs done" -- \
    env VFIOMIG_LAB_CACHE="$work/cache" "$work/scripts/lab-setup.sh"
rm -rf "$work/cache" "$work/scripts"

### Statuses and output

mkdir "$work/out"
# shellcheck disable=SC2016 # the shell in the VM expands this
expect "status 0, output, an argument with a space, a variable and /out" 0 \
    -s "<a  b>" -s "variable=two words" -- \
    "$run" -o "$work/out" -e "SOME=two words" -- \
    sh -c 'echo "<$1>"; echo "variable=$SOME"; echo kept >/out/file' sh "a  b"
expect "what was written to /out is here" 0 -s kept -- cat "$work/out/file"
expect "status 3" 3 -- "$run" -k stock -- sh -c 'exit 3'
expect "status 77 on the other kernel, which has /dev/iommu" 77 -- \
    "$run" -k iommufd -- sh -c 'test -c /dev/iommu && exit 77'
expect "a program killed by a signal: 128 + 11" 139 -- "$run" -- sh -c 'kill -SEGV $$'
expect "a timeout, with the output so far" 242 -s "started" -s "timeout after 20 s" -S "CRASHED" -- \
    "$run" -t 20 -- sh -c 'echo started; sleep 600'
expect "no program" 240 -s "no program given" -- "$run" -k stock
expect "no such kernel" 240 -s "no kernel image" -- "$run" -k "$work/none" -- true
expect "QEMU refuses its arguments: no retry" 240 -s "QEMU did not start" -S "CRASHED" -- \
    "$run" -q "-device no-such-device" -- true

### The emulator

find_emulator
script crash-once <<END
#!/bin/bash
if [[ ! -e $work/crashed ]]; then
    touch $work/crashed
    kill -ABRT \$\$
fi
exec ${EMULATOR[@]@Q} "\$@"
END
script crash-always <<'END'
#!/bin/bash
kill -SEGV $$
END
expect "the emulator crashes once: told, and tried again" 3 \
    -s "THE EMULATOR CRASHED (signal 6) in attempt 1 of 3" -S "attempt 2 of 3" -- \
    env VFIOMIG_LAB_QEMU="$work/crash-once" "$run" -- sh -c 'exit 3'
expect "the emulator crashes always: three attempts" 243 \
    -s "attempt 1 of 3" -s "attempt 3 of 3" -s "giving up" -- \
    env VFIOMIG_LAB_QEMU="$work/crash-always" "$run" -- true

### The kernel

warn='echo "WARNING: of the self-test" >/dev/kmsg'
expect "a kernel warning fails a program that passed" 245 -s "WARNING: of the self-test" \
    -s "own status is 0" -- "$run" -- sh -c "$warn"
expect "--allow-warnings prints it only" 0 -s "WARNING: of the self-test" -- \
    "$run" --allow-warnings -- sh -c "$warn"
expect "a panic is not a crash of the emulator" 244 -s "Kernel panic" -S "CRASHED" -S "PANICKED" -- \
    "$run" -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'
script panic-once <<END
#!/bin/bash
[[ -e $work/panicked ]] || set -- "\$@" -append "console=ttyS0 panic=-1 rdinit=/none"
touch $work/panicked
exec ${EMULATOR[@]@Q} "\$@"
END
expect "a panic before user space: told, and tried again" 3 \
    -s "THE KERNEL PANICKED BEFORE USER SPACE (Kernel panic - not syncing: VFS: Unable to mount root" \
    -s "in attempt 1 of 3" -S "attempt 2 of 3" -- \
    env VFIOMIG_LAB_QEMU="$work/panic-once" "$run" -- sh -c 'exit 3'
expect "a panic before user space, always: three attempts" 244 \
    -s "attempt 1 of 3" -s "attempt 3 of 3" -s "ended without a status" -- "$run" -a rdinit=/none -- true

### Devices and lab-check.sh

"${CC:-gcc}" -std=c11 -D_DEFAULT_SOURCE -Wall -Wextra -o "$work/k-flags" "$LAB_HOME/selftest/k-flags.c"
mkdir "$work/good"
mv "$work/k-flags" "$work/good/"
script good/k-pci <<'END'
#!/bin/bash
# The PCI device without migration is there, behind an IOMMU.
[[ $(readlink "/sys/bus/pci/devices/$VFIOMIG_LAB_PCI/driver") == */vfio-pci ]] &&
    [[ -c /dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$VFIOMIG_LAB_PCI/iommu_group")") ]]
END
expect "mtty through its group, and its migration flags" 0 -s "migration flags 0x7" -- \
    "$run" -k iommufd -- "$work/good/k-flags" group
expect "lab-check.sh: a pass and a skip on both kernels" 0 \
    -s "PASS k-flags stock group" -s "PASS k-flags iommufd group" -s "SKIP k-flags iommufd cdev" \
    -s "only the group transport" -s "PASS k-pci iommufd cdev" -s "5 passed, 0 failed, 1 skipped" -- \
    env LAB_PROGS="$work/good" "$LAB_HOME/lab-check.sh"
expect "lab-check.sh: with CI=true a skip is a failure" 1 -s "a skipped test is a failure" -- \
    env CI=true LAB_PROGS="$work/good" VFIOMIG_LAB_KERNEL=iommufd "$LAB_HOME/lab-check.sh"

script alone/k-argument <<'END'
#!/bin/bash
[[ $1 == mine && -z ${VFIOMIG_LAB_PCI:-} ]]
END
expect "lab-check.sh: programs with an argument of their own, in a VM without a PCI device" 0 \
    -s "PASS k-argument stock mine" -s "1 passed, 0 failed, 0 skipped" -- \
    env LAB_PROGS="$work/alone" LAB_ARGUMENTS=mine LAB_PCI= VFIOMIG_LAB_KERNEL=stock "$LAB_HOME/lab-check.sh"

script bad/k-1-fails <<'END'
#!/bin/bash
echo "this is why"
exit 4
END
script bad/k-2-warns <<'END'
#!/bin/bash
echo "BUG: of the self-test" >/dev/kmsg
END
script bad/k-3-warns-on-purpose <<'END'
#!/bin/bash
echo EXPECT-KERNEL-WARNING
echo "BUG: expected" >/dev/kmsg
END
script bad/k-4-hangs <<'END'
#!/bin/bash
sleep 600
END
script bad/k-5-panics <<'END'
#!/bin/bash
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
END
script bad/k-6-comes-late <<'END'
#!/bin/bash
END
expect "lab-check.sh: a failure, a warning, a hang, a panic and what comes after it" 1 \
    -s "FAIL k-1-fails stock group" -s "this is why" -s "exit status 4" \
    -s "FAIL k-2-warns stock group" -s "BUG: of the self-test" \
    -s "PASS k-3-warns-on-purpose stock group" -s "killed after 3 s" \
    -s "FAIL k-5-panics stock group - (the VM ended during this test" \
    -s "FAIL k-6-comes-late stock group - (not run" \
    -s "1 passed, 5 failed, 0 skipped" -- \
    env LAB_PROGS="$work/bad" VFIOMIG_LAB_KERNEL=stock LAB_TEST_TIMEOUT=3 "$LAB_HOME/lab-check.sh"
mkdir "$work/empty"
expect "lab-check.sh: no programs prove nothing" 240 -s "nothing would be proved" -- \
    env LAB_PROGS="$work/empty" "$LAB_HOME/lab-check.sh"

if ((broken > 0)); then
    echo "$broken of the lab's promises do not hold"
    exit 1
fi
echo "the lab holds its promises"
