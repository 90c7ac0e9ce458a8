#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check.sh VFIOMIG
#
# Runs the command VFIOMIG in the kernel lab's VM, on mtty and on the test driver: on the stock kernel, which has groups only, and
# on the one with device cdevs, by cdev and by group. What it does there is in guest.sh, and in driver.table what `check` finds.
#
# Exit status: 0; 1 something was not as it should be; 240 and more: the lab could not run it (lab/lab-run.sh --help).
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
[[ $# == 1 && -x $1 ]] || { sed -n '3,8s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
vfiomig=$(readlink -f "$1")
status=0
for kernel in stock iommufd; do
    "$here/../../lab/lab-run.sh" -k "$kernel" -t 900 -- "$here/guest.sh" "$vfiomig" "$kernel" || status=$?
done
exit "$status"
