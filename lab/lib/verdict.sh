# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables are those of lab-run.sh, which sources this
# How a VM has ended, from what it left behind: `ended`, its console and its log.

show_console() {
    say "end of the console:"
    tr -d '\r' <"$work/console" | tail -n 15 | sed 's/^/  | /' >&2
}

# failed_early: sets `failure` when the VM ended for a reason that says nothing
# about the program. A crash: a signal ended QEMU before the VM had reported a
# status. A panic: the kernel never got to /init, which loads all modules.
failed_early() {
    local reason
    failure=
    [[ $ended != timeout && ! -f $ctl/status ]] || return 1
    if ((ended > 128)); then
        failure="THE EMULATOR CRASHED (signal $((ended - 128)))"
    elif reason=$(grep -aom1 'Kernel panic - .*' "$work/console") && ! grep -aq '^lab: ' "$work/console"; then
        failure="THE KERNEL PANICKED BEFORE USER SPACE (${reason%$'\r'})"
    fi
    [[ -n $failure ]]
}

# keep_log: the kernel's log and the console go into the file `log`.
keep_log() {
    {
        cat "$ctl/dmesg" 2>/dev/null || true
        echo "--- console"
        tr -d '\r' <"$work/console"
    } >"$log"
}

# find_warnings: sets `warnings`, and prints them. The log of a VM that went
# down in order is whole; else there is the console.
find_warnings() {
    local kernel_log=$work/console
    [[ ! -s $ctl/dmesg ]] || kernel_log=$ctl/dmesg
    warnings=$(kernel_warnings <"$kernel_log") || warnings=
    [[ -n $warnings ]] || return 0
    say "warnings of the VM's kernel:"
    printf '%s\n' "$warnings" | sed 's/^/  | /' >&2
}

# die_without_status: says why the VM did not tell how the program ended.
die_without_status() {
    local reason
    if [[ $ended == timeout ]]; then
        show_console
        die "$E_TIMEOUT" "timeout after $timeout s"
    fi
    if reason=$(grep -a '^lab: error: ' "$work/console"); then
        show_console
        die "$E_GUEST" "the VM could not be prepared: ${reason#lab: error: }"
    fi
    if ((ended != 0)) && [[ ! -s $work/console ]]; then
        cat "$work/qemu" >&2
        die "$E_USAGE" "QEMU did not start (status $ended)"
    fi
    show_console
    die "$E_NO_STATUS" "the VM ended without a status (QEMU's is $ended)"
}
