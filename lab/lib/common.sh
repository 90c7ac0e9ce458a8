# shellcheck shell=bash
# Shared by the scripts of the kernel lab: where things are, and how to speak.
# Source it after `set -euo pipefail`.

LAB_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB_SERIES=6.12 # the Debian kernel series the lab boots
LAB_CACHE=${VFIOMIG_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig/lab}
LAB_PROGRAM=${0##*/}
export LAB_SERIES LAB_HOME LAB_CACHE

say() { printf '%s: %s\n' "$LAB_PROGRAM" "$*" >&2; }

# die STATUS MESSAGE...
die() {
    local status=$1
    shift
    say "$*"
    exit "$status"
}

# The comment block at the top of a script is its help text.
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

# option_needs_value STATUS ARGUMENTS-LEFT OPTION: a usage error when OPTION is
# the last argument.
option_needs_value() {
    (($2 >= 2)) || die "$1" "option $3 needs a value (see --help)"
}
