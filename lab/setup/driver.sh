#!/bin/bash
# driver.sh DIR stock|iommufd|mock: builds vfiomig_test.ko, the project's own test
# device, for one of the lab's kernels.
set -euo pipefail
# shellcheck source=../lib/kbuild.sh
. "$LAB_HOME/lib/kbuild.sh"

out=$1
kernel=$2
cp -r "$LAB_HOME/driver" "$out/build"
rm -rf "$out/build/tests"

# On the iommufd kernel vfio and mdev are the lab's own builds, and so are the
# versions of their symbols.
variables=()
if [[ $kernel == iommufd ]]; then
    variables=(CONFIG_IOMMUFD=m "KBUILD_EXTRA_SYMBOLS=$LAB_VERDIR/modules-iommufd/Module.symvers")
fi
build_modules "$kernel" "$out/build" "${variables[@]}"

mkdir "$out/updates"
cp "$out/build/vfiomig_test.ko" "$out/updates/"
rm -r "$out/build"
strip -g "$out"/updates/*.ko
