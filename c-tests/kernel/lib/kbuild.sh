# shellcheck shell=bash
# build_modules HEADERS DIR [VARIABLE=VALUE...]: builds the kernel modules in
# DIR with Debian's kernel headers, unpacked (not installed) in HEADERS.
#
# CONFIG_DEBUG_INFO_BTF_MODULES is cleared because the kernel's build would
# otherwise want pahole; the modules load without BTF.
build_modules() {
    local headers=$1 dir=$2 tree
    shift 2
    tree=$(echo "$headers"/usr/src/linux-headers-*-amd64)
    make -C "$tree" M="$dir" -j"$(nproc)" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules
}
