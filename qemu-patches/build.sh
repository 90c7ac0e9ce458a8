#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# build.sh [OPTION...] VERSION
#
# Builds QEMU VERSION (10.2, 10.0 or 7.2) with the patch series of that directory and
# the library, and prints the path of qemu-system-x86_64. What is built already
# is not built again. The source is Debian's package, with Debian's patches;
# the build is the smallest that has q35 and vfio-pci.
#
#       --no-patches    QEMU as Debian has it
#       --vfio-user     on top, the patches of VERSION/vfio-user (10.2): devices of
#                       other processes migrate too
#       --baseline      on top, tests/baseline/VERSION.patch, which is there for
#                       measurements only: x-migration-parallel-states
#       --stage DIR     an installation of the library (default: this checkout's
#                       own, made now if it is out of date: make stage)
#       --commit REV    this commit of the scratch repository, not the series
#       --repository    fetch the source, print the scratch repository, whose tag
#                       "base" is Debian's source, and end; nothing is built
#       --apply         apply the series, with --vfio-user both, print the commit,
#                       and end
#   -j, --jobs N        default: one per processor
#   -v, --verbose       what the build says goes to standard error
#   -h, --help
#
# To work on a series: `git worktree add DIR base` in the scratch repository,
# commit there, `build.sh --commit REV VERSION`; only what changed is compiled.
#
# Missing Debian packages are installed when it runs as root. meson for 10.0 and
# later comes by pip, into a directory of its own.
#
# 10.2 is a rolling base: its suite moves on, and the mirror may cease to serve
# that package any day. What was fetched before is still built then.
#
# Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/vfiomig/qemu/VERSION, under
# QEMU's licence. Run the program with -L /usr/share/seabios -L /usr/share/qemu,
# and with LD_LIBRARY_PATH naming the library's directory: it remembers only the
# one with which it was linked.
#
# Exit status: 0; 77 when the source package cannot be had here (with CI=true
# 1, unless the base is a rolling one), 1 when something else failed, 2 wrong usage.
set -euo pipefail
shopt -s inherit_errexit # a step that fails within $( ) ends it
QEMU_HOME=$(cd "$(dirname "$0")" && pwd)
lab=$QEMU_HOME/../lab/lib
# shellcheck source=lab/lib/common.sh
. "$lab/common.sh"
# shellcheck source=lab/lib/packages.sh
. "$lab/packages.sh"
# shellcheck source=lab/lib/mirror.sh
. "$lab/mirror.sh"
# shellcheck source=qemu-patches/lib/debian-source.sh
. "$QEMU_HOME/lib/debian-source.sh"
# shellcheck source=qemu-patches/lib/scratch.sh
. "$QEMU_HOME/lib/scratch.sh"
# shellcheck source=qemu-patches/lib/compile.sh
. "$QEMU_HOME/lib/compile.sh"

version=
patches=yes
baseline=no
vfio_user=no
stage=
commit=
only=
jobs=$(nproc)
log=
while (($#)); do
    case $1 in
    --no-patches) patches=no ;;
    --baseline) baseline=yes ;;
    --vfio-user) vfio_user=yes ;;
    --stage | --commit | -j | --jobs)
        option_needs_value 2 $# "$1"
        case $1 in
        --stage) stage=$2 ;;
        --commit) commit=$2 ;;
        *) jobs=$2 ;;
        esac
        shift
        ;;
    --repository | --apply) only=${1#--} ;;
    -v | --verbose) log=/dev/stderr ;;
    -h | --help) show_help "$0" && exit 0 ;;
    -*) die 2 "unknown option $1 (see --help)" ;;
    *)
        [[ -z $version ]] || die 2 "more than one version (see --help)"
        version=$1
        ;;
    esac
    shift
done
[[ -n ${version:+${QEMU_SUITE[$version]:-}} ]] || die 2 "which version? There are 10.2, 10.0 and 7.2 (see --help)"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die 2 "not a number of jobs: $jobs"
[[ -z $commit || $patches == yes ]] || die 2 "--commit and --no-patches exclude each other"
[[ $vfio_user == no || -d $QEMU_HOME/$version/vfio-user ]] || die 2 "QEMU $version has no patches for vfio-user"
[[ $vfio_user == no || $patches$commit == yes ]] || die 2 "--vfio-user is on top of the series"
[[ -z $commit || -z $only ]] || die 2 "--commit and --$only exclude each other"

cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig/qemu/$version
mkdir -p "$cache"
[[ -n $log ]] || log=$cache/log
: >>"$log"

# The library first: it is not needed for all, and is made outside the lock.
if [[ -z $only && $patches == yes && -z $stage ]]; then
    say "the library ..."
    make -s -C "$QEMU_HOME/.." stage >&2
    stage=$(make -s -C "$QEMU_HOME/.." print-stage)
fi
[[ -z $stage ]] || stage=$(cd "$stage" && pwd) || die 2 "there is no stage $stage"

install_tools "$version"
if command -v flock >/dev/null; then
    exec 9>"$cache/.lock"
    flock -n 9 || { say "waiting for another build.sh" && flock 9; }
fi
[[ $log == /dev/stderr ]] || : >"$log"

get_source "$version" "$cache" || {
    (($? == 1)) || die 1 "QEMU $version cannot be unpacked; see $log"
    [[ ${CI:-} != true || -n ${QEMU_ROLLING[$version]:-} ]] || die 1 "with CI=true this is a failure"
    exit 77
}
check_upstream "$version" "$cache/repository"
if [[ $only == repository ]]; then
    echo "$cache/repository" && exit 0
fi

if [[ $patches == no ]]; then
    commit=base
elif [[ -z $commit ]]; then
    commit=$(apply_series "$version" "$cache")
fi
[[ $vfio_user == no ]] ||
    commit=$(apply_on_top "$version" "$cache" "$commit" "vfio-user" "$QEMU_HOME/$version/vfio-user"/*.patch)
if [[ $only == apply ]]; then
    echo "$commit" && exit 0
fi
[[ $baseline == no ]] || commit=$(apply_baseline "$version" "$cache" "$commit")
build_commit "$version" "$cache" "$commit" "$stage"
