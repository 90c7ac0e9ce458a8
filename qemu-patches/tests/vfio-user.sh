#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# vfio-user.sh [OPTION...] [SCENARIO...]
#
# Live-migrates vfio-user devices between two QEMUs, as plain processes: no
# kernel lab, no KVM, no root. The devices are served by vfiomig-simdev, the
# QEMUs are 10.2 with its patches for vfio-user (../build.sh --vfio-user).
#
#       --list         print the scenarios, and end
#       --simdev PATH  vfiomig-simdev (default: this checkout's own, built now)
#       --stage DIR    an installation of the library, for QEMU (default: this
#                      checkout's own, made now: make stage)
#       --commit REV   build this commit of the scratch repository, not the series
#       --program PATH this QEMU, not the one that ../build.sh makes
#   -o, --out DIR      keep logs, traces, verdicts and messages in DIR
#   -h, --help
#
# A SCENARIO is a name, or a pattern as in the shell; without any, all.
#
# Exit status: 0 all passed; 1 one failed; 77 that QEMU cannot be had here (0
# with CI=true, and a warning: its base is a rolling one); 2 wrong usage.
set -euo pipefail
shopt -s inherit_errexit # a step that fails within $( ) ends it
TESTS_HOME=$(cd "$(dirname "$0")" && pwd)
root=$TESTS_HOME/../..
lab=$root/lab
# shellcheck source=lab/lib/common.sh
. "$lab/lib/common.sh"
# shellcheck source=lab/lib/packages.sh
. "$lab/lib/packages.sh"

# shellcheck source=qemu-patches/lib/test-options.sh
. "$TESTS_HOME/../lib/test-options.sh"

VERSION=10.2
simdev='' commit='' program=''
take_option() {
    case $1 in
    --simdev) simdev=$(readlink -e "$2") || die 2 "there is no $2" ;;
    --commit) commit=$2 ;;
    --program) program=$(readlink -e "$2") || die 2 "there is no $2" ;;
    esac
}
read_options "" "--simdev --commit --program" "$@"

# The harness runs on Debian's python3.
python=/usr/bin/python3
[[ -x $python ]] || install_packages python3
runner=$TESTS_HOME/vfio_user/run.py
if [[ $list == yes ]]; then
    exec "$python" "$runner" '' '' --list '' "${patterns[@]}"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/vfiomig-vfio-user.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
[[ -n $out ]] || out=$work/out
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [[ -z $stage ]]; then
    make -s -C "$root" stage >&2
    stage=$(make -s -C "$root" print-stage)
fi
if [[ -z $simdev ]]; then
    make -s -C "$root" simdev-program >&2
    simdev=$(make -s -C "$root" print-simdev-program)
fi
if [[ -z $program ]]; then
    status=0
    words=(--stage "$stage")
    if [[ -n $commit ]]; then words+=(--commit "$commit"); else words+=(--vfio-user); fi
    program=$("$TESTS_HOME/../build.sh" "${words[@]}" "$VERSION") || status=$?
    if ((status == 77)); then
        echo "WARNING: vfio-user NOT RUN, the mirror serves no more what it needs: QEMU $VERSION (lib/debian-source.sh)"
        [[ ${CI:-} == true ]] || exit 77
        exit 0
    fi
    ((status == 0)) || die 1 "there is no QEMU $VERSION with vfio-user (status $status)"
fi
"$python" "$runner" "$program" "$stage/lib" "$simdev" "$out" "${patterns[@]}"
