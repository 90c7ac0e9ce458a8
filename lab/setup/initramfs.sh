#!/bin/bash
# initramfs.sh DIR stock|iommufd|mock|own: packs busybox, guest/init, lab-mdev
# and the kernel's modules into DIR/initramfs. `mock` has the test driver and no
# other; `own`, for kernels given by path, has none.
set -euo pipefail

out=$1
kernel=$2
root=$out/root

mkdir -p "$root"/{bin,sbin,etc,dev,proc,sys,run,ctl,host,rw,new}
cp "$LAB_VERDIR/busybox/busybox" "$root/bin/"
cp "$LAB_HOME/guest/init" "$root/init"
cp "$LAB_HOME/guest/lab-mdev" "$root/bin/"
chmod 755 "$root/init" "$root/bin/lab-mdev"

# The modules that init loads, in this order; their dependencies follow.
modules=()
case $kernel in
stock | iommufd)
    modules=(9pnet_virtio 9p overlay vfio_iommu_type1 vfio-pci mdev mtty vfiomig_test veth)
    cp -r "$LAB_VERDIR/image/modules/." "$root/"
    release=$(basename "$root"/lib/modules/*)
    tree=$root/lib/modules/$release
    if [[ $kernel == iommufd ]]; then
        modules=(iommufd "${modules[@]}")
        rm -r "$tree/kernel/drivers/vfio" # the lab's own builds replace these
    fi
    cp -r "$LAB_VERDIR/modules-$kernel/updates" "$tree/"
    ;;
mock)
    modules=(vfiomig_test)
    release=$(<"$LAB_VERDIR/kernel-mock/devel/include/config/kernel.release")
    tree=$root/lib/modules/$release
    mkdir -p "$tree/updates"
    : >"$tree/modules.order"
    : >"$tree/modules.builtin"
    ;;
esac
if ((${#modules[@]} > 0)); then
    cp "$LAB_VERDIR/driver-$kernel"/updates/*.ko "$tree/updates/"
    depmod -b "$root" "$release"
fi
echo "${modules[*]}" >"$root/etc/lab-modules"

(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$out/initramfs"
rm -r "$root"
