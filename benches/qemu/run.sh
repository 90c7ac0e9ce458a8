#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# run.sh STAGE OUT_DIR [ARGUMENT of bench-qemu...]
#
# Fetches QEMU's source if it is not there, builds bench-qemu and runs it.
# Exit status: 77 when the source or a program cannot be had (with CI=true 1),
# else that of bench-qemu.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if (($# < 2)); then
    echo "usage: run.sh STAGE OUT_DIR [ARGUMENT of bench-qemu...]" >&2
    exit 2
fi
stage=$1 out=$2
shift 2

for program in python3 pkg-config; do
    command -v "$program" >/dev/null || {
        echo "run.sh: the benchmark beside QEMU is not run: there is no $program" >&2
        [[ ${CI:-} != true ]] || exit 1
        exit 77
    }
done
source=$("$here/fetch.sh")
"$here/build.sh" "$stage" "$source" "$out"
exec "$out/bench-qemu" "$@"
