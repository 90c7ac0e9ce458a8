#!/bin/bash
# sources.sh DIR: takes the few directories that the lab compiles out of
# Debian's kernel source package, keeping their places in the kernel's tree.
set -euo pipefail

tree=linux-source-$LAB_SERIES
dpkg-deb --fsys-tarfile "$LAB_VERDIR/debs/linux-source-$LAB_SERIES"_*.deb |
    tar -xO "./usr/src/$tree.tar.xz" |
    xz -dc |
    tar -x -C "$1" --strip-components=1 --wildcards \
        "$tree/samples/vfio-mdev/*" \
        "$tree/drivers/vfio/*" \
        "$tree/drivers/iommu/iommufd/*" \
        "$tree/drivers/iommu/iommu-priv.h" \
        "$tree/lib/interval_tree.c"
