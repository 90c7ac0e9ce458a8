# shellcheck shell=bash
# The Debian packages the lab uses, and how they get here.

# What has to be installed on the machine, as PROGRAM:PACKAGE. A program that
# is there already, from wherever, is used. gcc-12 is what Debian's headers
# ask for: the compiler the kernel was built with.
HOST_PROGRAMS=(
    cpio:cpio
    depmod:kmod
    xz:xz-utils
    gzip:gzip
    gcc-12:gcc-12
    strip:binutils
    make:make
    bc:bc
    flock:util-linux
)
# Libraries of the programs in linux-kbuild, which is unpacked, not installed.
HOST_LIBRARIES=(libelf1 libssl3 zlib1g)
# For a whole kernel, objtool included.
KERNEL_PROGRAMS=(flex:flex bison:bison)
KERNEL_LIBRARIES=(libelf-dev)

# missing_packages KERNEL: prints the packages that have to be installed.
missing_packages() {
    local entry
    if [[ $1 == mock ]]; then
        HOST_PROGRAMS+=("${KERNEL_PROGRAMS[@]}")
        HOST_LIBRARIES+=("${KERNEL_LIBRARIES[@]}")
    fi
    for entry in "${HOST_PROGRAMS[@]}"; do
        command -v "${entry%%:*}" >/dev/null || echo "${entry##*:}"
    done
    for entry in "${HOST_LIBRARIES[@]}"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$entry" 2>/dev/null) == installed ]] || echo "$entry"
    done
}

# The lists of apt are fetched at most once in a run, and only by root.
LAB_LISTS_FETCHED=${LAB_LISTS_FETCHED:-}
update_lists() {
    [[ -z $LAB_LISTS_FETCHED ]] || return 1
    if ((EUID != 0)); then
        say "the package lists are missing or old; as root: apt-get update"
        return 1
    fi
    say "fetching the package lists (apt-get update)"
    apt-get update -q >/dev/null || return 1
    LAB_LISTS_FETCHED=yes
}

install_packages() {
    # Another program may be installing: wait for it, ten minutes at most.
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "$@")
    if ((EUID != 0)); then
        say "these Debian packages are missing: $*"
        die 1 "as root: apt-get install --no-install-recommends $*"
    fi
    say "installing $*"
    # Old lists name packages that are gone: fetch new ones only then.
    "${install[@]}" >/dev/null 2>&1 || {
        update_lists || die 1 "cannot install $*"
        "${install[@]}" >/dev/null || die 1 "cannot install $*"
    }
}

# find_kernel: sets LAB_VERSION (of the packages) and LAB_ABI (in their names)
# from the lists of apt; fails when these know no such kernel.
find_kernel() {
    local record
    record=$(apt-cache show --no-all-versions "linux-image-$LAB_SERIES-amd64" 2>/dev/null) || return 1
    LAB_VERSION=$(sed -n 's/^Version: //p' <<<"$record" | head -n1)
    LAB_ABI=$(sed -n "s/^Depends:.*linux-image-\(${LAB_SERIES}[^ ]*\)-amd64.*/\1/p" <<<"$record" | head -n1)
    [[ -n $LAB_VERSION && -n $LAB_ABI ]]
}
