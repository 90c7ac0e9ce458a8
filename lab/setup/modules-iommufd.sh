#!/bin/bash
# modules-iommufd.sh DIR: builds vfio, type1, mdev, vfio-pci, mtty and iommufd
# from Debian's own sources with the two options that Debian leaves out:
# IOMMUFD and VFIO_DEVICE_CDEV. The modules load into Debian's own image.
#
# The options must be known in two places: to make, where the kernel's
# Makefiles choose the objects (here), and to the compiler (modules/Kbuild).
set -euo pipefail
# shellcheck source=../lib/kbuild.sh
. "$LAB_HOME/lib/kbuild.sh"

out=$1
build=$out/build
mkdir "$build"
cp -r "$LAB_VERDIR/sources/." "$build/"
rm "$build/.stamp"
cp -r "$LAB_HOME/modules/." "$build/"

# iommufd uses the span iterator of the interval trees, which is compiled into
# a kernel only when something asks for it. Give iommufd a copy, not exported.
{
    printf '#include <linux/%s.h>\n' init interval_tree interval_tree_generic compiler export
    sed -n '/^#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER/,/^#endif/p' "$build/lib/interval_tree.c" |
        grep -v EXPORT_SYMBOL
} >"$build/drivers/iommu/iommufd/span.c"

# Variant drivers of real cards need hardware, and parts of the kernel that
# are not exported to modules like these.
build_modules iommufd "$build" \
    CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y CONFIG_SAMPLE_VFIO_MDEV_MTTY=m \
    CONFIG_VFIO_PLATFORM_BASE= CONFIG_MLX5_VFIO_PCI= CONFIG_HISI_ACC_VFIO_PCI= CONFIG_PDS_VFIO_PCI= \
    CONFIG_VIRTIO_VFIO_PCI= CONFIG_QAT_VFIO_PCI= CONFIG_NVGRACE_GPU_VFIO_PCI=

mkdir "$out/updates"
find "$build" -name '*.ko' -exec cp -t "$out/updates" {} +
cp "$build/Module.symvers" "$out/"
rm -r "$build"
strip -g "$out"/updates/*.ko
