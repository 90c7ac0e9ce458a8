# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables are those of lab-run.sh, which sources this
# The VM: what QEMU is called with, what the VM runs, and one boot of it.

readonly PCI_SLOT=0x10 PCI_ADDRESS=0000:00:10.0

# share TAG DIRECTORY [OPTION]: adds a directory of the host's to `qemu`.
share() { qemu+=(-virtfs "local,path=$2,mount_tag=$1,security_model=none${3:+,$3},multidevs=remap"); }

# boot_words: prints the kernel's command line.
#
# loglevel=5 puts warnings, and no more, on the slow serial console; the whole
# log is read with dmesg. On a busy host the emulated CPUs stand still at
# times, so the watchdogs of lockups and RCU stalls would bark at nothing, and
# behind an IOMMU a timer that is late is a panic at boot.
boot_words() {
    local words="console=ttyS0 loglevel=5 log_buf_len=4M panic=-1 nokaslr mitigations=off"
    words+=" nowatchdog rcupdate.rcu_cpu_stall_suppress=1 no_timer_check"
    [[ -z $pci ]] || words+=" intel_iommu=on lab.vfiopci=$PCI_ADDRESS"
    echo "$words$append"
}

# prepare_vm: sets `qemu`, and adds the PCI device's address to `environment`.
prepare_vm() {
    qemu=(
        "${EMULATOR[@]}"
        -nodefaults -no-user-config -display none -no-reboot
        -accel "tcg,thread=multi" -cpu max -m "$memory" -smp "$cpus"
        -serial "file:$work/console"
    )
    share hostroot / readonly=on
    share ctl "$ctl"
    share out "$out"
    qemu+=(-kernel "$image" -initrd "$lab/initramfs-$setup/initramfs" -machine q35)
    if [[ -n $pci ]]; then
        qemu+=(-device "intel-iommu,intremap=on,caching-mode=on" -device "$pci,addr=$PCI_SLOT")
        environment+=("VFIOMIG_LAB_PCI=$PCI_ADDRESS")
    fi
    qemu+=(-append "$(boot_words)" "${qemu_words[@]}")
}

# write_command: prints the script that the VM runs. Output goes through a
# pipe, as it would in a shell; a process that the program leaves behind with
# the pipe open may not hold up the VM.
write_command() {
    local entry
    printf 'cd %q || cd /\n' "$PWD"
    printf 'export PATH=%q HOME=/root VFIOMIG_LAB=%q\n' "$PATH" "$kernel"
    for entry in "${environment[@]}"; do
        case $entry in
        *=*) printf 'export %s=%q\n' "${entry%%=*}" "${entry#*=}" ;;
        *) [[ -z ${!entry+set} ]] || printf 'export %s=%q\n' "$entry" "${!entry}" ;;
        esac
    done
    echo 'mkfifo /run/pipe'
    echo 'cat </run/pipe >/run/lab/output & copier=$!'
    printf '%q ' "${program[@]}"
    cat <<'END'
>/run/pipe 2>&1
status=$?
for ((i = 0; i < 50; i++)); do
    kill -0 "$copier" 2>/dev/null || break
    sleep 0.1
done
echo "$status" >/run/lab/status.new
mv /run/lab/status.new /run/lab/status
END
}

# end_by DEADLINE: waits for QEMU's end. One that is late is killed, and
# `ended` is then timeout.
end_by() {
    while kill -0 "$qemu_pid" 2>/dev/null; do
        if ((SECONDS >= $1)); then
            ended=timeout
            kill -KILL "$qemu_pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
}

# boot: runs the VM once. Sets `ended` to timeout or to QEMU's exit status.
boot() {
    local deadline tail_pid status=0
    rm -rf "$ctl"
    mkdir "$ctl"
    : >"$ctl/output"
    : >"$work/console"
    write_command >"$ctl/command"

    ended=
    deadline=$((SECONDS + timeout))
    "${qemu[@]}" </dev/null >"$work/qemu" 2>&1 &
    qemu_pid=$!
    tail -c +1 -s 0.1 -f --pid="$qemu_pid" "$ctl/output" &
    tail_pid=$!
    end_by "$deadline"
    wait "$qemu_pid" 2>/dev/null || status=$?
    qemu_pid=
    wait "$tail_pid" || true
    ended=${ended:-$status}
}
