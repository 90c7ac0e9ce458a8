#!/bin/bash
# libvfio-user.sh [--if-built] [SAMPLE]: builds a sample of libvfio-user and prints its path
# (default: server, which migrates a small device by the migration region, v1).
#
# The source is that in the source package of QEMU 10.0 in Debian, by the
# machine's own apt; 10.2's has the same, and no Debian package has one that
# speaks v2. It is compiled without meson, which would want its test libraries.
# Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/vfiomig/peers, under its own
# licence. Missing Debian packages are installed when it runs as root.
#
# Exit status: 0; 77 when it cannot be had here, and why, with CI=true 1.
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
# shellcheck source=lab/lib/common.sh
. "$root/lab/lib/common.sh"
# shellcheck source=lab/lib/packages.sh
. "$root/lab/lib/packages.sh"

only=no
[[ ${1:-} != --if-built ]] || { only=yes && shift; }
case ${1:-server} in
-h | --help) show_help "$0" && exit 0 ;;
server | client | gpio-pci-idio-16 | lspci | null) sample=${1:-server} ;;
*) die 2 "no sample $1 (see --help)" ;;
esac
version=10.0
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig/peers/libvfio-user-$version

cannot() {
	[[ ${CI:-} != true ]] || die 1 "$* (with CI=true this is a failure)"
	die 77 "SKIPPED: $*"
}

build() {
	local source=$1 flags=(-O1 -g -D_GNU_SOURCE -DDEBUG -w)
	local lib=("$source"/lib/{dma,irq,libvfio-user,migration,pci,pci_caps,tran,tran_sock}.c)
	mkdir -p "$cache"
	# shellcheck disable=SC2046 # words of the compiler
	"${CC:-cc}" "${flags[@]}" -I"$source/include" -I"$source/lib" -o "$cache/.$sample.$$" "${lib[@]}" \
		"$source/samples/$sample.c" $(pkg-config --cflags --libs json-c) -lpthread -ldl >"$cache/log" 2>&1 || {
		tail -n 20 "$cache/log" >&2
		die 1 "libvfio-user does not compile; see $cache/log"
	}
	mv "$cache/.$sample.$$" "$cache/$sample"
}

if [[ ! -x $cache/$sample ]]; then
	[[ $only == no ]] || die 77 "SKIPPED: $sample of libvfio-user was not built: make check-vfio-user-peers"
	command -v "${CC:-cc}" >/dev/null || cannot "there is no C compiler"
	missing=()
	command -v pkg-config >/dev/null || missing+=(pkg-config)
	pkg-config --exists json-c 2>/dev/null || missing+=(libjson-c-dev)
	# In a process of its own: what cannot be installed is a reason to skip.
	((${#missing[@]} == 0)) || (install_packages "${missing[@]}") || cannot "${missing[*]} cannot be installed"
	status=0
	repository=$(CI='' "$root/qemu-patches/build.sh" --repository "$version") || status=$?
	((status == 0)) || cannot "the source package of QEMU $version cannot be had"
	[[ -d $repository/subprojects/libvfio-user/lib ]] || cannot "QEMU $version has no libvfio-user in $repository"
	say "compiling $sample of libvfio-user"
	build "$repository/subprojects/libvfio-user"
fi
echo "$cache/$sample"
