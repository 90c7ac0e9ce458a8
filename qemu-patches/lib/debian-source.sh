# shellcheck shell=bash
# Debian's source packages of QEMU, by the machine's own apt. Source it after
# lab/lib/common.sh, packages.sh and mirror.sh. apt verifies the package.

# The newest version there is: the base of upstream/.
# shellcheck disable=SC2034 # for those who source this
QEMU_NEWEST=10.2

# The suite that carries each version, and the point release for which the
# series is written.
# shellcheck disable=SC2034
declare -A QEMU_SUITE=([10.2]=sid [10.0]=trixie [7.2]=bookworm)
# shellcheck disable=SC2034
declare -A QEMU_POINT=([10.2]=10.2.2 [10.0]=10.0.13 [7.2]=7.2.22)

# Of suites that move on: the mirror may cease to serve this point release any
# day, as source or, 11.1, as a program. Then there is none, which is no failure.
# shellcheck disable=SC2034
declare -A QEMU_ROLLING=([11.1]=yes [10.2]=yes)

# upstream VERSION: the version that upstream gave it: without Debian's epoch,
# repacking mark and revision. A package with "+deb12u18" in it is a stable
# release that may hold a newer point release; what is in it says its VERSION.
upstream() { sed 's/^[0-9]*://;s/[+-].*//' <<<"$1"; }

# choose_package VERSION FOUND: prints which of the packages FOUND is VERSION,
# nothing if none is. A release has one, whatever its point release; a suite
# that moves has several, and only that of the series is meant.
choose_package() {
    local version=$1 found=$2 wanted=$1. package chosen=
    [[ -z ${QEMU_ROLLING[$version]:-} ]] || wanted=${QEMU_POINT[$version]}.
    while read -r package; do
        [[ $(upstream "$package"). != "$wanted"* ]] || chosen=$package
    done <<<"$found"
    echo "$chosen"
}

# companions SUITE: prints "UPDATES SECURITY", the suites with the later fixes of
# SUITE. Only a release has them.
companions() {
    case $1 in
    *-backports | sid | experimental) ;;
    *) echo "$1-updates $1-security" ;;
    esac
}

# find_source SUITE DIR: prints the versions of qemu's source package in SUITE,
# the oldest first. Says why and fails if there is none.
find_source() {
    local suite=$1 dir=$2 program found updates security
    for program in apt-get apt-cache tar xz; do
        command -v "$program" >/dev/null ||
            { say "there is no $program, so no Debian source package can be had"; return 1; }
    done
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    read -r updates security <<<"$(companions "$suite")"
    apt_entries deb-src "$suite $updates" "$security" >"$dir/sources.list" || { say "apt knows no Debian repository"; return 1; }
    # A suite that is missing is no matter, as long as one of them has the package.
    private_apt "$dir" apt-get update >"$dir/log" 2>&1 || true
    found=$(private_apt "$dir" apt-cache showsrc --only-source qemu 2>>"$dir/log" |
        sed -n 's/^Version: //p' | sort -uV || true)
    [[ -n $found ]] || {
        cat "$dir/log" >&2
        say "the mirror has no source package of qemu in $suite"
        return 1
    }
    echo "$found"
}

# download_source PACKAGE_VERSION DIR: into DIR/package, after find_source.
download_source() {
    local version=$1 dir=$2
    mkdir -p "$dir/package"
    (cd "$dir/package" && private_apt "$dir" apt-get source --download-only "qemu=$version") >>"$dir/log" 2>&1 || {
        cat "$dir/log" >&2
        say "the source package of qemu $version could not be downloaded"
        return 1
    }
}
