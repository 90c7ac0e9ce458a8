#!/bin/bash
# kernel-mock.sh DIR: builds the kernel `mock` from Debian's kernel source
# package: the image as DIR/bzImage and, in DIR/devel, what modules for it are
# built with. Takes about ten minutes on two cores.
#
# Debian's own image cannot do it: the mock IOMMU domain, the only one with
# dirty tracking that needs no hardware, calls functions of the IOMMU core that
# are not exported to modules.
set -euo pipefail

out=$1
build=$out/build
config=$LAB_HOME/setup/kernel-mock.config
tree=linux-source-$LAB_SERIES
source=$build/$tree

# Files are slower to unpack and delete than the few that count are to compile:
# leave out the code, but not the Kconfig files, of other machines and of drivers
# that the configuration does not have.
mkdir "$build"
without=(
    "$tree/Documentation/[a-zA-Z]*/*"
    "$tree/arch/[a-w]*/*.[chS]"
    "$tree/arch/[a-w]*/*.dts*"
    "$tree/tools/testing/*"
    "$tree/tools/perf/*"
    "$tree/sound/*.[ch]"
)
for drivers in gpu infiniband media "net/[a-z]*" scsi staging usb; do
    without+=("$tree/drivers/$drivers/*.[ch]")
done
dpkg-deb --fsys-tarfile "$LAB_VERDIR/debs/linux-source-$LAB_SERIES"_*.deb |
    tar -xO "./usr/src/$tree.tar.xz" |
    xz -dc |
    tar -x -C "$build" --wildcards "${without[@]/#/--exclude=}"

# The compiler is the one that the test driver is built with, see
# lib/packages.sh. The machine may be wanted for something else meanwhile.
make_kernel() { nice -n 15 make -s -C "$source" O="$build/objects" CC=gcc-12 HOSTCC=gcc-12 -j"$(nproc)" "$@"; }

make_kernel KCONFIG_ALLCONFIG="$config" allnoconfig

# Kconfig drops what it does not know or whose dependencies are not met, and
# says nothing.
dropped=no
while read -r option; do
    case $option in
    CONFIG_*=n) ! grep -q "^${option%=n}=" "$build/objects/.config" || dropped=$option ;;
    CONFIG_*) grep -qxF "$option" "$build/objects/.config" || dropped=$option ;;
    esac
    if [[ $dropped != no ]]; then
        echo "Kconfig did not take $dropped"
        exit 1
    fi
done <"$config"

make_kernel bzImage
make_kernel modules # there are none; makes Module.symvers
make_kernel run-command \
    KBUILD_RUN_COMMAND="\$(srctree)/scripts/package/install-extmod-build $out/devel"

cp "$build/objects/arch/x86/boot/bzImage" "$build/objects/.config" "$out/"
mv "$out/.config" "$out/config"
rm -r "$build"
