# shellcheck shell=bash
# build_modules KERNEL DIR [VARIABLE=VALUE...]: builds the kernel modules in
# DIR for a kernel of the lab: with Debian's headers, which are unpacked, not
# installed, or with what the build of `mock` left.
#
# CONFIG_DEBUG_INFO_BTF_MODULES is cleared because the kernel's build would
# otherwise want pahole; the modules load without BTF.
build_modules() {
    local kernel=$1 dir=$2 tree
    shift 2
    case $kernel in
    mock) tree=$LAB_VERDIR/kernel-mock/devel ;;
    *) tree=$(echo "$LAB_VERDIR"/headers/usr/src/linux-headers-*-amd64) ;;
    esac
    make -C "$tree" M="$dir" -j"$(nproc)" CC=gcc-12 CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules
}
