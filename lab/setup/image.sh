#!/bin/bash
# image.sh DIR: takes from Debian's kernel package what the VM boots with: the
# image as DIR/vmlinuz and, in DIR/modules, the few modules the VM uses with
# all that those depend on.
set -euo pipefail

out=$1
wanted=(9p 9pnet_virtio overlay mdev vfio vfio_iommu_type1 vfio-pci veth)

dpkg -x "$LAB_VERDIR"/debs/linux-image-*.deb "$out/root"
[[ -d $out/root/lib/modules ]] || ln -s usr/lib "$out/root/lib" # a merged /usr
release=$(basename "$out"/root/lib/modules/*)
depmod -b "$out/root" "$release"

from=$out/root/lib/modules/$release
to=$out/modules/lib/modules/$release
mkdir -p "$to"
cp "$from"/modules.builtin* "$from/modules.order" "$to/"

for module in "${wanted[@]}"; do
    modprobe -d "$out/root" -S "$release" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u | while read -r file; do
    name=${file##*/lib/modules/"$release"/}
    mkdir -p "$to/${name%/*}"
    case $file in
    *.xz) xz -dc "$file" >"$to/${name%.xz}" ;;
    *) cp "$file" "$to/$name" ;;
    esac
done

cp "$out/root/boot/vmlinuz-$release" "$out/vmlinuz"
cp "$out/root/boot/config-$release" "$out/config"
rm -r "$out/root"
