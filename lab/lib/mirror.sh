# shellcheck shell=bash
# Packages of Debian suites that are not in this machine's package lists. Source
# it after common.sh and packages.sh.
#
# The mirror is the one that this machine's apt uses for Debian. The private
# source list and its package lists are deleted by the caller with the
# directory that it gives; apt's own are not touched.

# debian_mirrors: prints "address label" of each Debian repository that apt uses.
debian_mirrors() {
    # shellcheck disable=SC2016 # the expansion is for apt
    apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}

# private_apt DIR PROGRAM ARGUMENT...: apt with the lists in DIR and nothing of its own.
private_apt() {
    local dir=$1 program=$2
    shift 2
    # The sandbox user of apt cannot write below a private home directory. Nothing is installed, and lists and cache are DIR's
    # own: the machine's locks, which another apt may hold, are not needed.
    "$program" -q -o APT::Sandbox::User=root -o Debug::NoLocking=true -o Dir::Etc::SourceList="$dir/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" "$@"
}

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
