# shellcheck shell=bash
# Debian's source packages of QEMU, by the machine's own apt. Source it after
# c-tests/kernel/lib/common.sh and packages.sh.
#
# The mirror is the one that this machine's apt uses for Debian. The private
# source list and its package lists are deleted by the caller with the
# directory that it gives; apt's own are not touched. apt verifies the package.

# The release that carries each version, and the point release for which the
# series is written.
# shellcheck disable=SC2034 # for those who source this
declare -A QEMU_SUITE=([10.0]=trixie [7.2]=bookworm) QEMU_POINT=([10.0]=10.0.13 [7.2]=7.2.22)

# debian_mirrors: prints "address label" of each Debian repository that apt uses.
debian_mirrors() {
    # shellcheck disable=SC2016 # the expansion is for apt
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}

# private_apt DIR PROGRAM ARGUMENT...: apt with the lists in DIR and nothing of its own.
private_apt() {
    local dir=$1 program=$2
    shift 2
    # The sandbox user of apt cannot write below a private home directory.
    "$program" -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$dir/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" "$@"
}

# upstream VERSION: the version that upstream gave it: without Debian's epoch,
# repacking mark and revision. A package with "+deb12u18" in it is a stable
# release that may hold a newer point release; what is in it says its VERSION.
upstream() { sed 's/^[0-9]*://;s/[+-].*//' <<<"$1"; }

# apt_entries KIND SUITES SECURITY_SUITE: entries of KIND (deb, deb-src) for
# these suites of the repositories that apt uses already.
apt_entries() {
    local kind=$1 suites=$2 security=$3 mirrors address label name options=
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirrors=$(debian_mirrors)
    if [[ -z $mirrors ]]; then
        update_lists || return 1
        mirrors=$(debian_mirrors)
        [[ -n $mirrors ]] || return 1
    fi
    [[ ! -f $keyring ]] || options="[signed-by=$keyring]"
    while read -r address label; do
        case $label in
        Debian) ;;
        Debian-Security) suites=$security ;;
        *) continue ;;
        esac
        for name in $suites; do echo "$kind $options $address $name main"; done
        suites=$2
    done <<<"$mirrors" | sort -u
}

# find_source SUITE DIR: prints the versions of qemu's source package in SUITE,
# the oldest first. Says why and fails if there is none.
find_source() {
    local suite=$1 dir=$2 program found
    for program in apt-get apt-cache tar xz; do
        command -v "$program" >/dev/null ||
            { say "there is no $program, so no Debian source package can be had"; return 1; }
    done
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    apt_entries deb-src "$suite $suite-updates" "$suite-security" >"$dir/sources.list" || { say "apt knows no Debian repository"; return 1; }
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
