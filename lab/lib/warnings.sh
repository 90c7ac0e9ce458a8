# shellcheck shell=bash
# What counts as a warning of the kernel. Used on the host and in the VM.

LAB_WARNING_PATTERN='WARNING:|\bBUG\b|\bOops\b|Call Trace:|Kernel panic|UBSAN:|refcount_t:|list_(add|del) corruption|INFO: task .* blocked for more|INFO: (possible|inconsistent|suspicious|trying to register)|\*\*\* DEADLOCK'

# kernel_warnings: copies the lines of a kernel log (stdin) that are warnings
# to stdout; the status tells whether there was one.
kernel_warnings() { tr -d '\r' | grep -aE "$LAB_WARNING_PATTERN"; }
