#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# check-install.sh ARCHIVE MAN VERSION
#
# What `make install` and its kin do, in a DESTDIR: every file, programs by pkg-config alone (shared, static in part, static
# throughout), stripping, uninstalling, and a RUST_TARGET that is remembered. Environment: CC
set -euo pipefail
shopt -s inherit_errexit

archive=$1 man=$2 version=$3
cd "$(dirname "$0")/.."
read -ra cc <<<"${CC:-cc}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A packager's place for libraries; cargo must not be run.
places=(CARGO=false prefix=/usr libdir=/usr/lib/multi)
unset MAKEFLAGS MAKELEVEL
passed=0

die() { echo "check-install: $*" >&2; exit 1; }
pass() { echo "ok: $*"; passed=$((passed + 1)); }
run() { make --no-print-directory "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "make $* failed"; }; }

dest=$work/dest
run install install-tools DESTDIR="$dest" "${places[@]}"
for file in bin/vfiomig include/vfiomig.h lib/multi/libvfiomig.{a,so,so.0,so."$version"} lib/multi/pkgconfig/vfiomig.pc \
	share/doc/vfiomig/{README,CHANGELOG,SECURITY}.md share/doc/vfiomig/docs/vmm-guide.md share/doc/vfiomig/examples/save.c \
	share/doc/vfiomig/examples/live-migrate/wire.c share/man/man{1/vfiomig.1,7/vfiomig.7} \
	share/bash-completion/completions/vfiomig; do
	[ -s "$dest/usr/$file" ] || die "$file is not installed"
done
if found=$(find "$dest" -perm /022 ! -type l | grep .); then die "others may write $found"; fi
pass 'every file is in its place'

export PKG_CONFIG_SYSROOT_DIR=$dest PKG_CONFIG_LIBDIR=$dest/usr/lib/multi/pkgconfig
[ "$(pkg-config --modversion vfiomig)" = "$version" ] || die "the .pc has another version"
for field in URL License; do grep -Eq "^$field: .+" "$PKG_CONFIG_LIBDIR/vfiomig.pc" || die "the .pc has no $field"; done
! grep -q '@' "$PKG_CONFIG_LIBDIR/vfiomig.pc" || die "the .pc has words that were not filled in"
pass 'the .pc has a version, a URL and a licence'

IFS=. read -r major minor patch <<<"$version"
printf '#include <vfiomig.h>\nint main(void) { return vfiomig_version() != (%d << 16 | %d << 8 | %d); }\n' \
	"$major" "$minor" "$patch" >"$work/p.c"
compile() { # compile NAME PKG_CONFIG_OPTIONS CC_OPTION...
	local name=$1 options=$2 flags
	shift 2
	# shellcheck disable=SC2086 # none, or one
	flags=$(pkg-config $options --cflags --libs vfiomig)
	read -ra flags <<<"${flags/-lvfiomig/${library:--lvfiomig}}"
	"${cc[@]}" "$@" "$work/p.c" -o "$work/$name" "${flags[@]}" 2>"$work/log" || { cat "$work/log" >&2; die "$name does not link"; }
}
compile shared ''
LD_LIBRARY_PATH=$dest/usr/lib/multi "$work/shared" || die "the program with the shared library fails"
library=-l:libvfiomig.a compile archive --static
"$work/archive" || die "the program with the archive fails"
compile static --static -static
"$work/static" || die "the static program fails"
! readelf -d "$work/static" | grep -q NEEDED || die "the static program needs libraries"
pass 'pkg-config leads to a shared, an archived and a wholly static program'

run install-strip install-tools-strip DESTDIR="$work/stripped" "${places[@]}"
for file in bin/vfiomig lib/multi/libvfiomig.so."$version" lib/multi/libvfiomig.a; do
	[ "$(stat -c %s "$work/stripped/usr/$file")" -lt "$(stat -c %s "$dest/usr/$file")" ] || die "$file was not stripped"
	if readelf -S "$work/stripped/usr/$file" 2>/dev/null | grep -q '\.debug_info'; then die "$file has debug information"; fi
done
PKG_CONFIG_SYSROOT_DIR=$work/stripped PKG_CONFIG_LIBDIR=$work/stripped/usr/lib/multi/pkgconfig
compile slim --static -static
"$work/slim" || die "the program with the stripped archive fails"
compile slim-shared ''
LD_LIBRARY_PATH=$work/stripped/usr/lib/multi "$work/slim-shared" || die "the program with the stripped library fails"
pass 'install-strip installs libraries that link, without debug information'

touch "$work/stripped/usr/share/doc/vfiomig/of-others"
run uninstall uninstall-tools DESTDIR="$work/stripped" "${places[@]}"
[ "$(find "$work/stripped" ! -type d)" = "$work/stripped/usr/share/doc/vfiomig/of-others" ] ||
	die "left behind: $(find "$work/stripped" ! -type d)"
pass 'uninstall removes what install put there and nothing else'

# A cargo that makes nothing: it copies the archive, and the man pages to where they shall be.
machine=x86_64-unknown-linux-musl
cat >"$work/cargo" <<END
#!/bin/sh
case \$1 in
fetch) exit 0 ;;
run) shift \$((\$# - 1)) && exec cp -r '$man' "\$1" ;;
esac
mkdir -p "\$CARGO_TARGET_DIR/$machine/release" && cp '$archive' "\$CARGO_TARGET_DIR/$machine/release/"
END
chmod +x "$work/cargo"
run all CARGO="$work/cargo" CARGO_TARGET_DIR="$work/cross" RUST_TARGET=$machine
run install CARGO_TARGET_DIR="$work/cross" DESTDIR="$work/crossed" "${places[@]}"
[ -s "$work/crossed/usr/lib/multi/libvfiomig.so.$version" ] || die "nothing was installed"
[[ $(make -n install CARGO_TARGET_DIR="$work/cross" "${places[@]}") == *"$machine/release/libvfiomig.a"* ]] ||
	die "RUST_TARGET is not remembered"
[[ $(make -n all CARGO_TARGET_DIR="$work/cross" "${places[@]}") != *"$machine"* ]] ||
	die "a build that names no RUST_TARGET is not for this machine"
pass 'RUST_TARGET is remembered from build to install, and for nothing else'

echo "$passed passed, 0 failed"
