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
. "$LAB_HOME/lib/vm.sh"
. "$LAB_HOME/lib/verdict.sh"

readonly E_USAGE=240 E_GUEST=241 E_TIMEOUT=242 E_EMULATOR=243 E_NO_STATUS=244 E_WARNING=245
readonly ATTEMPTS=3

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

# The options with a value, and what each sets.
declare -A OPTIONS=(
    [-k]=kernel [-e]=env [-o]=out [-t]=timeout [-m]=memory [-c]=cpus [-a]=append [-q]=qemu [-p]=pci [-l]=log
)
for name in "${OPTIONS[@]}"; do OPTIONS[--$name]=$name; done

set_option() { # NAME VALUE
    local more
    case $1 in
    env) environment+=("$2") ;;
    append) append+=" $2" ;;
    qemu)
        read -ra more <<<"$2"
        qemu_words+=("${more[@]}")
        ;;
    *) printf -v "$1" %s "$2" ;;
    esac
}

# parse_options ARGUMENT...: sets the variables above, and `program`.
parse_options() {
    while (($#)); do
        case $1 in
        --allow-warnings) allow_warnings=yes ;;
        -v | --verbose) verbose=yes ;;
        -h | --help) show_help "$0" && exit 0 ;;
        --) shift && break ;;
        -*)
            [[ -n ${OPTIONS[$1]:-} ]] || die $E_USAGE "unknown option $1 (see --help)"
            option_needs_value $E_USAGE $# "$1"
            set_option "${OPTIONS[$1]}" "$2"
            shift
            ;;
        *) break ;;
        esac
        shift
    done
    program=("$@")
}

# prepare_lab: sets `setup`, `lab` and `image` for `kernel`, and EMULATOR. The
# lab is set up now if that was not done yet.
prepare_lab() {
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
}

parse_options "$@"
((${#program[@]} > 0)) || die $E_USAGE "no program given (see --help)"
[[ $timeout =~ ^[1-9][0-9]*$ ]] || die $E_USAGE "not a number of seconds: $timeout"
kernel=${kernel:-${VFIOMIG_LAB_KERNEL:-stock}}
prepare_lab

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

prepare_vm
for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    started=$SECONDS
    boot
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

[[ -z $log ]] || keep_log
if [[ $verbose == yes ]]; then
    { tr -d '\r' <"$work/console" | grep -a '^lab: ' | sed 's/^/  | /' || true; } >&2
    say "kernel $kernel, attempt $attempt, $((SECONDS - started)) s"
fi
find_warnings
[[ -f $ctl/status ]] || die_without_status
status=$(<"$ctl/status")
# The program has ended and said how; what QEMU did afterwards changes nothing.
[[ $ended == 0 ]] || say "note: QEMU ended with $ended after the program's end"
if [[ -n $warnings && $allow_warnings == no ]]; then
    die $E_WARNING "failed by kernel warnings; the program's own status is $status"
fi
exit "$status"
