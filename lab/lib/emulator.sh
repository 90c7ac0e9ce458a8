# shellcheck shell=bash
# Which QEMU emulates the lab's VM. Source it after common.sh and packages.sh.
#
# QEMU 7.2, bookworm's own, translates a page of code without a lock, so it may
# keep a translation of bytes that another processor is just patching, and run
# the breakpoint that Linux puts there for a moment. About one of 200 boots then
# ends in a panic ("Oops: int3"). 10.0 locks the page first.

EMULATOR_VERSION=10.0
# find_emulator: sets EMULATOR, the words it is called with. $VFIOMIG_LAB_QEMU;
# the machine's, when it is new enough; else that of bookworm-backports, which
# is unpacked, not installed; else, and not in CI, whatever the machine has.
find_emulator() {
    local root has
    if [[ -n ${VFIOMIG_LAB_QEMU:-} ]]; then
        EMULATOR=("$VFIOMIG_LAB_QEMU")
        return 0
    fi
    EMULATOR=(qemu-system-x86_64)
    if has=$("${EMULATOR[@]}" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p') &&
        printf '%s\n' "$EMULATOR_VERSION" "$has" | sort -VC; then
        return 0
    fi
    if root=$("$LAB_HOME/debian-qemu.sh" "$EMULATOR_VERSION"); then
        EMULATOR=(env "LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64"
            -L "$root/usr/share/seabios" -L "$root/usr/share/qemu")
        return 0
    fi
    [[ ${CI:-} != true ]] || return 1
    [[ -n $has ]] || install_packages qemu-system-x86
    say "WITHOUT QEMU $EMULATOR_VERSION the VM is emulated by ${has:-an older one}: some boots will end in a panic (lib/emulator.sh)"
}
