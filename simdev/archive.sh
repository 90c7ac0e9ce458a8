#!/bin/sh
# archive.sh CARGOS_LIBSIMDEV_A OUT_A: the same library with no other global symbols than simdev_*. cargo's archive holds
# the Rust library's C functions too, which would stand in for those of the libvfiomig that a test links.
set -eu
in=$1 out=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
wanted=$(nm -g --defined-only "$in" 2>/dev/null | sed -n 's/.* T \(simdev_[a-z_]*\)$/-u \1/p' | sort -u)
# shellcheck disable=SC2086 # a list of words
${LD:-ld} -r --gc-sections $wanted -o "$tmp/simdev.o" "$in"
# The personality's reference is shared by all Rust code of a program: it stays.
# Bitcode of the Rust runtime makes an older LLVM's plugin of nm and ar crash.
${OBJCOPY:-objcopy} -w --keep-global-symbol='simdev_*' \
  --keep-global-symbol=DW.ref.rust_eh_personality -R .llvmbc -R .llvmcmd "$tmp/simdev.o"
rm -f "$out"
${AR:-ar} rcs "$out" "$tmp/simdev.o"
