# shellcheck shell=bash
# shellcheck disable=SC2154 # log and jobs are of those who source this
# What a build needs, and the build. Source it after scratch.sh.

# As PROGRAM:PACKAGE, and libraries by their packages.
BUILD_PROGRAMS=(
    git:git gcc:gcc make:make ninja:ninja-build flex:flex bison:bison pkg-config:pkg-config
    dpkg-source:dpkg-dev xz:xz-utils patch:patch flock:util-linux strip:binutils
)
BUILD_LIBRARIES=(libglib2.0-dev libfdt-dev libpixman-1-dev seabios qemu-system-data)

# install_tools VERSION
install_tools() {
    local entry missing=() libraries=("${BUILD_LIBRARIES[@]}")
    case $1 in
    7.2) libraries+=(meson) ;;
    *) libraries+=(python3-venv) ;;
    esac
    for entry in "${BUILD_PROGRAMS[@]}"; do
        command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
    done
    for entry in "${libraries[@]}"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$entry" 2>/dev/null) == installed ]] || missing+=("$entry")
    done
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

# The words of configure that choose tools: 10.0 and later want a newer meson
# than Debian 12 has; 7.2 takes Debian's own, and --python only with its own meson.
meson_words() {
    local version=$1 cache=$2 venv=$2/venv
    case $version in
    7.2) words+=(--meson=/usr/bin/meson) ;;
    *)
        if [[ ! -f $venv/complete ]]; then
            rm -rf "$venv"
            { /usr/bin/python3 -m venv "$venv" && "$venv/bin/pip" install -q meson==1.5.0 pycotap==1.3.1; } \
                >>"$log" 2>&1 || die 1 "meson could not be installed by pip; see $log"
            touch "$venv/complete"
        fi
        words+=("--python=$venv/bin/python3" --enable-pixman)
        ;;
    esac
}

# devices_file VERSION: the devices that are built: one machine, vfio-pci (10.2:
# vfio-user-pci, too), a port that it can be plugged into, and a display, which
# looks at the dirty log of its own memory whenever it is drawn.
devices_file() {
    printf 'CONFIG_%s\n' Q35=y PCIE_PORT=y VFIO=y VFIO_PCI=y VGA_PCI=y
    [[ $1 == 7.2 ]] || printf 'CONFIG_%s\n' IOMMUFD=y I440FX=n ISAPC=n MICROVM=n
    # It does not link without CXL, which its ACPI tables call, and CXL needs PXB.
    [[ $1 != 10.2 ]] || printf 'CONFIG_%s\n' PXB=y CXL=y CXL_MEM_DEVICE=y VFIO_USER=y
}

QEMU_PROGRAM=qemu-system-x86_64

# prepare_tree VERSION REPOSITORY TREE COMMIT: only files that differ are touched,
# and compiled again.
prepare_tree() {
    local devices=$3/configs/devices/x86_64-softmmu/vfiomig.mak
    add_tree "$2" "$3"
    scratch_git "$3" checkout -q --force --detach "$4"
    devices_file "$1" | cmp -s - "$devices" || devices_file "$1" >"$devices"
}

# configure TREE BUILD STAGE WORD...: unless it was done with the same words.
configure() {
    local tree=$1 build=$2 stage=$3
    shift 3
    mkdir -p "$build"
    if [[ -f $build/build.ninja && -f $build/.words && $(<"$build/.words") == "$stage $*" ]]; then return; fi
    say "configuring QEMU $(<"$tree/VERSION") (${build##*-})"
    (cd "$build" && PATH=/usr/bin:$PATH PKG_CONFIG_PATH=${stage:+$stage/lib/pkgconfig} "$tree/configure" "$@") \
        >>"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2 && die 1 "configure failed; its output is in $log"; }
    echo "$stage $*" >"$build/.words"
}

compile() { # TREE BUILD
    say "compiling QEMU $(<"$1/VERSION") (${2##*-})"
    (cd "$2" && PATH=/usr/bin:$PATH ninja -j "$jobs" "$QEMU_PROGRAM") >>"$log" 2>&1 </dev/null || {
        grep -E 'error:|FAILED|ERROR' -A3 "$log" | tail -n 40 >&2
        die 1 "the build failed; its output is in $log"
    }
}

# forget_old DIR: of the programs that were built, those that were not asked for lately.
forget_old() {
    find "$1" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | sed -e 1,8d -e 's/^[^ ]* //' |
        xargs -r -d '\n' rm -rf
}

# build_commit VERSION CACHE COMMIT STAGE: prints the program's path.
#
# There is one tree and one build for all patched sources, and one for those
# without the library, so that only what differs is compiled; what comes out is
# kept by a hash of what went in.
build_commit() {
    local version=$1 cache=$2 commit=$3 stage=$4 repository=$2/repository
    local kind=plain tree build header='' id key out words=()
    id=$(scratch_git "$repository" rev-parse --verify -q "$commit^{tree}") || die 1 "there is no commit $commit"
    # All of it is read: a grep that ends early would make the pipe fail.
    if scratch_git "$repository" cat-file -p "$id:meson_options.txt" | grep "option('vfiomig'" >/dev/null; then
        kind=patched
        [[ -n $stage ]] || die 2 "this source is built with the library: give --stage"
        header=$(sha256sum <"$stage/include/vfiomig.h")
        words+=(--enable-vfiomig)
    fi
    words+=(--target-list=x86_64-softmmu --without-default-features --without-default-devices
        --with-devices-x86_64=vfiomig --enable-fdt=system --disable-docs --disable-werror --disable-install-blobs
        --enable-tcg)
    # What is stripped in the end is not made: a sixth of the time.
    [[ $version != 10.2 ]] || words+=(--disable-debug-info)
    key=$({ echo "$id" "$header" "${words[@]}"; devices_file "$version"; } | sha256sum | cut -c1-16)
    out=$cache/built/$key
    if [[ -x $out/$QEMU_PROGRAM ]]; then
        touch "$out"
        echo "$out/$QEMU_PROGRAM"
        return
    fi

    meson_words "$version" "$cache"
    tree=$cache/tree-$kind
    build=$cache/build-$kind
    prepare_tree "$version" "$repository" "$tree" "$commit"
    configure "$tree" "$build" "$stage" "${words[@]}"
    compile "$tree" "$build"
    mkdir -p "$out.partial"
    strip -g -o "$out.partial/$QEMU_PROGRAM" "$build/$QEMU_PROGRAM"
    mv -T "$out.partial" "$out"
    forget_old "$cache/built"
    echo "$out/$QEMU_PROGRAM"
}
