#!/bin/bash
# lab-run.sh [OPTION...] -- PROGRAM [ARGUMENT...]
#
# Boots the lab's VM, runs PROGRAM in it as root and exits with its status.
# PROGRAM sees a copy-on-write view of this machine's root file system and
# starts in the same directory; its output (stdout and stderr together) is
# copied to stdout while it runs. Writes are lost, except those to /out.
# The VM is emulated (TCG): no KVM, no privileges and no hardware are needed.
#
#   -k, --kernel KERNEL    stock     Debian's kernel: groups and type1 (default)
#                          iommufd   the same with iommufd and device cdevs
#                          mock      a kernel of the lab's own with the mock
#                                    IOMMU domain; ten minutes to make
#                          PATH      a kernel image; what it must have is in
#                                    README.md
#   -e, --env NAME[=VALUE] set NAME in the VM (its value here if none is given)
#   -o, --out DIR          the directory that is /out in the VM (default: a
#                          temporary one)
#   -t, --timeout SECONDS  for the whole run, boot included (default 300)
#   -m, --memory SIZE      default 1G
#   -c, --cpus N           default 2
#   -a, --append WORDS     more words for the kernel's command line
#   -q, --qemu WORDS       more arguments for QEMU, split at white space
#   -p, --pci DEVICE       a PCI device of QEMU (`edu`) behind an Intel IOMMU,
#                          bound to vfio-pci; $VFIOMIG_LAB_PCI in the VM is its
#                          address
#       --allow-warnings   kernel warnings are printed but do not fail the run
#   -l, --log FILE         keep the kernel's log, and the console, in FILE
#   -v, --verbose          say how the VM gets on
#   -h, --help
#
# Environment: VFIOMIG_LAB_KERNEL   KERNEL when -k is not given, or empty
#              VFIOMIG_LAB_QEMU     the emulator (default: see lib/emulator.sh)
#              VFIOMIG_LAB_CACHE    see lab-setup.sh
#
# Exit status: PROGRAM's own (128+N when signal N killed it), or
#   240  wrong usage, the lab could not be set up, or QEMU refused to start
#   241  the VM came up but could not be prepared
#   242  timeout
#   243  the emulator crashed, three times
#   244  the VM ended without a status: a panic (if that was before user space,
#        three times), or something powered it off
#   245  the kernel warned (whatever PROGRAM's status; that is printed)
# Only a crash of the emulator, and a panic of the kernel before there is any
# user space, are tried again, at most twice and never silently; PROGRAM then
# starts from the beginning.
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"
. "$LAB_HOME/lib/steps.sh"
. "$LAB_HOME/lib/packages.sh"
. "$LAB_HOME/lib/emulator.sh"
. "$LAB_HOME/lib/warnings.sh"

readonly E_USAGE=240 E_GUEST=241 E_TIMEOUT=242 E_EMULATOR=243 E_NO_STATUS=244 E_WARNING=245
readonly ATTEMPTS=3
readonly PCI_SLOT=0x10 PCI_ADDRESS=0000:00:10.0

kernel=
environment=()
out=
timeout=300
memory=1G
cpus=2
append=
qemu_words=()
pci=
allow_warnings=no
log=
verbose=no

while (($#)); do
    case $1 in
    -k | --kernel | -e | --env | -o | --out | -t | --timeout | -m | --memory | -c | --cpus | \
        -a | --append | -q | --qemu | -p | --pci | -l | --log)
        option_needs_value $E_USAGE $# "$1"
        case $1 in
        -k | --kernel) kernel=$2 ;;
        -e | --env) environment+=("$2") ;;
        -o | --out) out=$2 ;;
        -t | --timeout) timeout=$2 ;;
        -m | --memory) memory=$2 ;;
        -c | --cpus) cpus=$2 ;;
        -a | --append) append+=" $2" ;;
        -q | --qemu)
            read -ra more <<<"$2"
            qemu_words+=("${more[@]}")
            ;;
        -p | --pci) pci=$2 ;;
        -l | --log) log=$2 ;;
        esac
        shift
        ;;
    --allow-warnings) allow_warnings=yes ;;
    -v | --verbose) verbose=yes ;;
    -h | --help)
        show_help "$0"
        exit 0
        ;;
    --)
        shift
        break
        ;;
    -*) die $E_USAGE "unknown option $1 (see --help)" ;;
    *) break ;;
    esac
    shift
done
(($# > 0)) || die $E_USAGE "no program given (see --help)"
[[ $timeout =~ ^[1-9][0-9]*$ ]] || die $E_USAGE "not a number of seconds: $timeout"
kernel=${kernel:-${VFIOMIG_LAB_KERNEL:-stock}}

# The lab, set up now if that was not done yet.
case $kernel in
stock | iommufd | mock) setup=$kernel lab=$LAB_CACHE/current ;;
*)
    [[ -f $kernel ]] || die $E_USAGE "no kernel image $kernel"
    setup=own lab=$LAB_CACHE/own
    ;;
esac
if ! { [[ -d $lab ]] && lab_is_ready "$(readlink -f "$lab")" "$setup"; }; then
    "$LAB_HOME/lab-setup.sh" -k "$setup" || die $E_USAGE "the lab could not be set up"
fi
find_emulator || die $E_USAGE "there is no QEMU for the VM"
lab=$(readlink -f "$lab")
image=$kernel
[[ $setup == own ]] || image=$(lab_image "$lab" "$setup")

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-lab.XXXXXX")
ctl=$work/ctl
qemu_pid=
# shellcheck disable=SC2317 # called by the trap
clean_up() {
    [[ -z $qemu_pid ]] || kill -KILL "$qemu_pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z $out ]]; then out=$work/out; fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

qemu=(
    "${EMULATOR[@]}"
    -nodefaults -no-user-config -display none -no-reboot
    -accel "tcg,thread=multi" -cpu max -m "$memory" -smp "$cpus"
    -serial "file:$work/console"
    -virtfs "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap"
    -virtfs "local,path=$ctl,mount_tag=ctl,security_model=none,multidevs=remap"
    -virtfs "local,path=$out,mount_tag=out,security_model=none,multidevs=remap"
    -kernel "$image" -initrd "$lab/initramfs-$setup/initramfs"
    -machine q35
)
# loglevel=5 puts warnings, and no more, on the slow serial console; the whole
# log is read with dmesg. On a busy host the emulated CPUs stand still at
# times, so the watchdogs of lockups and RCU stalls would bark at nothing, and
# behind an IOMMU a timer that is late is a panic at boot.
boot_words="console=ttyS0 loglevel=5 log_buf_len=4M panic=-1 nokaslr mitigations=off"
boot_words+=" nowatchdog rcupdate.rcu_cpu_stall_suppress=1 no_timer_check"
if [[ -n $pci ]]; then
    qemu+=(-device "intel-iommu,intremap=on,caching-mode=on" -device "$pci,addr=$PCI_SLOT")
    boot_words+=" intel_iommu=on lab.vfiopci=$PCI_ADDRESS"
    environment+=("VFIOMIG_LAB_PCI=$PCI_ADDRESS")
fi
qemu+=(-append "$boot_words$append" "${qemu_words[@]}")

# The script that the VM runs. Output goes through a pipe, as it would in a
# shell; a process that PROGRAM leaves behind with the pipe open may not hold
# up the VM.
write_command() {
    local entry
    printf 'cd %q || cd /\n' "$PWD"
    printf 'export PATH=%q HOME=/root VFIOMIG_LAB=%q\n' "$PATH" "$kernel"
    for entry in "${environment[@]}"; do
        case $entry in
        *=*) printf 'export %s=%q\n' "${entry%%=*}" "${entry#*=}" ;;
        *) [[ -z ${!entry+set} ]] || printf 'export %s=%q\n' "$entry" "${!entry}" ;;
        esac
    done
    echo 'mkfifo /run/pipe'
    echo 'cat </run/pipe >/run/lab/output & copier=$!'
    printf '%q ' "$@"
    cat <<'END'
>/run/pipe 2>&1
status=$?
for ((i = 0; i < 50; i++)); do
    kill -0 "$copier" 2>/dev/null || break
    sleep 0.1
done
echo "$status" >/run/lab/status.new
mv /run/lab/status.new /run/lab/status
END
}

# boot: runs the VM once. Sets `ended` to timeout or to QEMU's exit status.
boot() {
    local deadline tail_pid
    rm -rf "$ctl"
    mkdir "$ctl"
    : >"$ctl/output"
    : >"$work/console"
    write_command "$@" >"$ctl/command"

    ended=
    deadline=$((SECONDS + timeout))
    "${qemu[@]}" </dev/null >"$work/qemu" 2>&1 &
    qemu_pid=$!
    tail -c +1 -s 0.1 -f --pid="$qemu_pid" "$ctl/output" &
    tail_pid=$!
    while kill -0 "$qemu_pid" 2>/dev/null; do
        if ((SECONDS >= deadline)); then
            ended=timeout
            kill -KILL "$qemu_pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    local status=0
    wait "$qemu_pid" 2>/dev/null || status=$?
    qemu_pid=
    wait "$tail_pid" || true
    ended=${ended:-$status}
}

show_console() {
    say "end of the console:"
    tr -d '\r' <"$work/console" | tail -n 15 | sed 's/^/  | /' >&2
}

# failed_early: sets `failure` when the VM ended for a reason that says nothing
# about the program. A crash: a signal ended QEMU before the VM had reported a
# status. A panic: the kernel never got to /init, which loads all modules.
failed_early() {
    local reason
    failure=
    [[ $ended != timeout && ! -f $ctl/status ]] || return 1
    if ((ended > 128)); then
        failure="THE EMULATOR CRASHED (signal $((ended - 128)))"
    elif reason=$(grep -aom1 'Kernel panic - .*' "$work/console") && ! grep -aq '^lab: ' "$work/console"; then
        failure="THE KERNEL PANICKED BEFORE USER SPACE (${reason%$'\r'})"
    fi
    [[ -n $failure ]]
}

for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    started=$SECONDS
    boot "$@"
    failed_early || break
    say "$failure in attempt $attempt of $ATTEMPTS; this says nothing about the program"
    tail -n 5 "$work/qemu" >&2
    if ((attempt == ATTEMPTS)); then
        ((ended <= 128)) || die $E_EMULATOR "giving up"
        break
    fi
    ((ended > 128)) || show_console
    say "trying again"
done

# The log of a VM that went down in order is whole; else there is the console.
kernel_log=$work/console
[[ ! -s $ctl/dmesg ]] || kernel_log=$ctl/dmesg
if [[ -n $log ]]; then
    { cat "$ctl/dmesg" 2>/dev/null || true; echo "--- console"; tr -d '\r' <"$work/console"; } >"$log"
fi
if [[ $verbose == yes ]]; then
    { tr -d '\r' <"$work/console" | grep -a '^lab: ' | sed 's/^/  | /' || true; } >&2
    say "kernel $kernel, attempt $attempt, $((SECONDS - started)) s"
fi

warnings=$(kernel_warnings <"$kernel_log") || warnings=
if [[ -n $warnings ]]; then
    say "warnings of the VM's kernel:"
    printf '%s\n' "$warnings" | sed 's/^/  | /' >&2
fi

if [[ ! -f $ctl/status ]]; then
    if [[ $ended == timeout ]]; then
        show_console
        die $E_TIMEOUT "timeout after $timeout s"
    fi
    if reason=$(grep -a '^lab: error: ' "$work/console"); then
        show_console
        die $E_GUEST "the VM could not be prepared: ${reason#lab: error: }"
    fi
    if ((ended != 0)) && [[ ! -s $work/console ]]; then
        cat "$work/qemu" >&2
        die $E_USAGE "QEMU did not start (status $ended)"
    fi
    show_console
    die $E_NO_STATUS "the VM ended without a status (QEMU's is $ended)"
fi

status=$(<"$ctl/status")
# The program has ended and said how; what QEMU did afterwards changes nothing.
[[ $ended == 0 ]] || say "note: QEMU ended with $ended after the program's end"
if [[ -n $warnings && $allow_warnings == no ]]; then
    die $E_WARNING "failed by kernel warnings; the program's own status is $status"
fi
exit "$status"
