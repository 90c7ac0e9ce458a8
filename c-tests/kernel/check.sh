#!/bin/bash
# LAB_PROGS=DIR check.sh [progs|full|mock]
#
# Runs the test programs of this folder, which build.sh has put into DIR, in the
# VM of the kernel lab. How, on which kernels, with which variables, and with
# which exit status: `lab/lab-check.sh --help`. Here is what the programs need:
#
#   progs   (default) 240 s for one, 1500 s for a kernel
#   full    the same programs with longer loops: 900 s, 2400 s
#   mock    those with the mock IOMMU: called with `mock`, on the kernel `mock`,
#           in a VM without a PCI device, for that has another IOMMU
#
# LAB_TEST_TIMEOUT and LAB_TIMEOUT are taken in place of these times.
set -euo pipefail
. "$(dirname "$0")/../../lab/lib/common.sh"

case ${1:-progs} in
progs) one=240 all=1500 ;;
full)
    one=900 all=2400
    export VFIOMIG_LAB_FULL=1 LAB_ENV="VFIOMIG_LAB_FULL ${LAB_ENV:-}"
    ;;
mock)
    one=60 all=900
    export LAB_ARGUMENTS=mock LAB_PCI='' VFIOMIG_LAB_KERNEL=${VFIOMIG_LAB_KERNEL:-mock}
    ;;
-h | --help) show_help "$0" && exit 0 ;;
*) die 240 "unknown argument $1 (see --help)" ;;
esac
LAB_TEST_TIMEOUT=${LAB_TEST_TIMEOUT:-$one} LAB_TIMEOUT=${LAB_TIMEOUT:-$all} exec "$LAB_HOME/lab-check.sh"
