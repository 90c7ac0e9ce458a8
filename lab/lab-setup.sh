#!/bin/bash
# lab-setup.sh [-k KERNEL] [--help]
#
# Makes the kernel lab ready: from Debian packages to a VM that boots. What is
# made already is not made again; a run with nothing to do takes less than two
# seconds and no network.
#
#   -k, --kernel KERNEL   only what KERNEL needs to boot: stock, iommufd, mock
#                         (which is made only when asked for by name: it takes
#                         ten minutes), or own (a kernel given by path: no
#                         kernel is fetched)
#       --keep-packages   do not delete the downloaded packages (270 MB)
#   -h, --help, --full-help
#
# VFIOMIG_LAB_CACHE   where everything is kept; default
#                     ${XDG_CACHE_HOME:-~/.cache}/vfiomig/lab
#
# Exit status: 0 the lab is ready, 1 it is not (the reason is printed).
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"
. "$LAB_HOME/lib/steps.sh"
. "$LAB_HOME/lib/packages.sh"
. "$LAB_HOME/lib/emulator.sh"

# depmod and modprobe are not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin
arguments=("$@")
kernel=all
keep_packages=no
while (($#)); do
    case $1 in
    -k | --kernel)
        option_needs_value 1 $# "$1"
        kernel=$2
        shift
        ;;
    --keep-packages) keep_packages=yes ;;
    -h | --help | --full-help)
        show_help "$0"
        exit 0
        ;;
    *) die 1 "unknown argument $1 (see --help)" ;;
    esac
    shift
done
# Headers, sources and symbol versions stay in the cache for test drivers.
case $kernel in
all) goals=(image initramfs-stock initramfs-iommufd headers sources modules-stock modules-iommufd) ;;
stock | iommufd) goals=(image "initramfs-$kernel" headers sources "modules-$kernel") ;;
mock) goals=(kernel-mock initramfs-mock) ;;
own) goals=(initramfs-own) ;;
*) die 1 "no kernel $kernel; there are stock, iommufd, mock and own" ;;
esac

started=$SECONDS
tell() { say "[$((SECONDS - started)) s] $*"; }

[[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] ||
    die 1 "the lab is made from Debian packages on amd64; this machine is something else"

# One at a time: another run may be building the same things. The steps hold
# the lock too, so one that outlives this script is waited for.
mkdir -p "$LAB_CACHE"
if command -v flock >/dev/null; then
    exec 9>"$LAB_CACHE/.lock"
    flock -n 9 || {
        say "waiting for another lab-setup.sh"
        flock 9
    }
fi

mapfile -t missing < <(missing_packages "$kernel")
((${#missing[@]} == 0)) || install_packages "${missing[@]}"
find_emulator || die 1 "there is no QEMU for the VM"

# Which kernel? When apt knows none any more, the last one built will do.
LAB_VERSION=own
LAB_ABI=
if [[ $kernel != own ]] && ! find_kernel; then
    if [[ -e $LAB_CACHE/current ]] && lab_is_ready "$(readlink -f "$LAB_CACHE/current")" stock; then
        LAB_VERSION=$(basename "$(readlink -f "$LAB_CACHE/current")")
    elif ! { update_lists && find_kernel; }; then
        say "apt knows no package linux-image-$LAB_SERIES-amd64"
        die 1 "the lab needs it; bookworm-security carries it: is that suite in apt's sources?"
    fi
fi
LAB_VERDIR=$LAB_CACHE/$LAB_VERSION
export LAB_HOME LAB_VERSION LAB_ABI LAB_VERDIR
mkdir -p "$LAB_VERDIR/log"

# step_failed STEP LOG: ends the set-up, or begins it anew with new package lists.
step_failed() {
    case $1 in
    debs | busybox) # old lists name packages that are gone
        if update_lists; then
            tell "trying again with new package lists"
            LAB_LISTS_FETCHED=yes exec "$LAB_HOME/lab-setup.sh" "${arguments[@]}"
        fi
        ;;
    esac
    tail -n 20 "$2" >&2
    die 1 "step $1 failed; its whole output is in $2"
}

# make_step STEP: runs the step if its result is not there or out of date.
make_step() {
    local step=$1 dep from temporary log=$LAB_VERDIR/log/$1.log
    ! step_is_done "$LAB_VERDIR" "$step" || return 0
    for dep in ${STEP_DEPS[$step]}; do make_step "$dep"; done

    from=$SECONDS
    tell "$step ..."
    temporary=$LAB_VERDIR/.$step.partial
    rm -rf "$temporary"
    mkdir "$temporary"
    # The second argument is the kernel, for the steps that have one.
    if ! bash "$(step_script "$step")" "$temporary" "${step#*-}" >"$log" 2>&1; then
        rm -rf "$temporary"
        step_failed "$step" "$log"
    fi
    step_hash "$LAB_VERSION" "$step"
    echo "${STEP_HASHES[$step]}" >"$temporary/.stamp"
    rm -rf "${LAB_VERDIR:?}/$step"
    mv -T "$temporary" "$LAB_VERDIR/$step"
    tell "$step done in $((SECONDS - from)) s"
}

for goal in "${goals[@]}"; do make_step "$goal"; done

if [[ $keep_packages == no ]]; then rm -rf "$LAB_VERDIR/debs"; fi
if [[ $kernel != own ]]; then ln -sfn "$LAB_VERSION" "$LAB_CACHE/current"; fi
tell "ready: $LAB_VERDIR ($(du -sh "$LAB_VERDIR" | cut -f1))"
