#!/bin/bash
# modules-stock.sh DIR: builds mtty.ko, the kernel's sample of a migratable
# device, which Debian does not ship, for Debian's kernel as it is.
set -euo pipefail
# shellcheck source=../lib/kbuild.sh
. "$LAB_HOME/lib/kbuild.sh"

out=$1
cp -r "$LAB_VERDIR/sources/samples" "$out/build"
build_modules stock "$out/build/vfio-mdev" CONFIG_SAMPLE_VFIO_MDEV_MTTY=m

mkdir "$out/updates"
cp "$out/build/vfio-mdev/mtty.ko" "$out/updates/"
cp "$out/build/vfio-mdev/Module.symvers" "$out/"
rm -r "$out/build"
strip -g "$out"/updates/*.ko
