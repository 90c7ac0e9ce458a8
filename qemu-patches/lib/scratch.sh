# shellcheck shell=bash
# shellcheck disable=SC2154 # log is of those who source this
# The scratch repository: Debian's source with Debian's patches as the commit
# "base", and the series on top. Source it after debian-source.sh; $log is set.

# No configuration of the user's has a say in what a commit or a patch is.
scratch_git() {
    local dir=$1
    shift
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null git -C "$dir" -c core.hooksPath=/dev/null \
        -c user.name=qemu-patches -c user.email=qemu-patches@localhost -c gc.auto=0 \
        -c core.autocrlf=false -c advice.detachedHead=false "$@"
}

# get_source VERSION CACHE: makes CACHE/repository, once. 1: the package cannot
# be had; 2: it is there, but something else failed.
get_source() {
    local version=$1 cache=$2 suite=${QEMU_SUITE[$1]} work status=0
    [[ ! -f $cache/repository/.git/complete ]] || return 0
    work=$(mktemp -d "$cache/.source.XXXXXX")
    unpack_source "$version" "$suite" "$work" || status=$?
    if ((status == 0)); then
        rm -rf "$cache/repository" && mv -T "$work/tree" "$cache/repository" &&
            touch "$cache/repository/.git/complete" || status=2
    fi
    rm -rf "$work"
    return "$status"
}

# unpack_source VERSION SUITE WORK: into WORK/tree, committed.
unpack_source() {
    local version=$1 suite=$2 work=$3 found package
    say "fetching the source package of QEMU $version from $suite"
    found=$(find_source "$suite" "$work") || return 1
    package=$(choose_package "$version" "$found")
    [[ -n $package ]] || {
        say "$suite has no QEMU ${QEMU_POINT[$version]} any more, but $(tail -n1 <<<"$found")"
        return 1
    }
    download_source "$package" "$work" || return 1
    # apt has verified the files; dpkg-source need not know the uploader's key.
    dpkg-source --no-check -x "$work"/package/qemu_*.dsc "$work/tree" >>"$work/log" 2>&1 || {
        cat "$work/log" >&2
        say "the source package of qemu $package could not be unpacked"
        return 2
    }
    commit_base "$work/tree" "$package" || {
        say "the source of qemu $package could not be committed to the scratch repository"
        return 2
    }
    say "QEMU $(<"$work/tree/VERSION") is Debian's $package"
}

# commit_base TREE PACKAGE: makes TREE a repository whose `base` is PACKAGE's
# source. Callers look at its status, so that no failure ends it by itself.
commit_base() {
    local tree=$1 package=$2
    # What Debian adds beside the source is no part of the base.
    rm -rf "$tree/.pc" "$tree/debian" &&
        scratch_git "$tree" init -q -b debian &&
        scratch_git "$tree" add --all --force &&
        scratch_git "$tree" commit -q -m "QEMU $(<"$tree/VERSION"), Debian's $package, with Debian's patches" &&
        scratch_git "$tree" tag base &&
        scratch_git "$tree" checkout -q --detach &&
        echo "$package" >"$tree/.git/package"
}

# add_tree REPOSITORY TREE: a worktree of the base, once.
add_tree() {
    [[ ! -e $2/.git ]] || return 0
    scratch_git "$1" worktree prune
    scratch_git "$1" worktree add -q --detach "$2" base >>"$log" 2>&1
}

# does_not_apply VERSION REPOSITORY: says whether the series or the source is to blame.
does_not_apply() {
    local version=$1 repository=$2 has package
    has=$(<"$repository/VERSION")
    package=$(<"$repository/.git/package")
    [[ $has == "${QEMU_POINT[$version]}" ]] || die 1 \
        "the series is written for QEMU ${QEMU_POINT[$version]}, and Debian's $package is QEMU $has"
    die 1 "the series does not apply to QEMU $has of Debian's $package"
}

# clean_tree TREE COMMIT: TREE as COMMIT has it.
clean_tree() {
    # Of a run that was interrupted; mostly there is none.
    scratch_git "$1" am --abort >/dev/null 2>&1 || true
    scratch_git "$1" checkout -q --force --detach "$2"
    scratch_git "$1" clean -qfdx
}

# apply_on_top VERSION CACHE COMMIT WHAT PATCH...: prints the commit with the
# patches on top of COMMIT.
apply_on_top() {
    local version=$1 cache=$2 commit=$3 what=$4 tree=$2/apply
    add_tree "$cache/repository" "$tree"
    clean_tree "$tree" "$commit"
    scratch_git "$tree" am -q -3 --committer-date-is-author-date "${@:5}" >>"$log" 2>&1 || {
        scratch_git "$tree" am --abort >/dev/null 2>&1 || true
        die 1 "$what does not apply to $commit of QEMU $version; see $log"
    }
    scratch_git "$tree" rev-parse HEAD
}

# apply_baseline VERSION CACHE COMMIT: prints the commit with tests/baseline's
# patch on top of COMMIT, with the series or without.
apply_baseline() {
    local patch=$QEMU_HOME/tests/baseline/$1.patch
    [[ -f $patch ]] || die 2 "QEMU $1 has no baseline"
    apply_on_top "$1" "$2" "$3" "the baseline" "$patch"
}

# check_upstream VERSION REPOSITORY: whether upstream/ still applies, each patch
# alone, where its base is VERSION: the newest one.
check_upstream() {
    local version=$1 repository=$2 patch
    [[ $version == "$QEMU_NEWEST" ]] || return 0
    for patch in "$QEMU_HOME"/upstream/*.patch; do
        scratch_git "$repository" apply --check "$patch" >>"$log" 2>&1 ||
            die 1 "upstream/${patch##*/} does not apply to QEMU $version"
    done
}

# apply_series VERSION CACHE: prints the commit of the base with the series.
apply_series() {
    local version=$1 cache=$2 tree=$2/apply series=$QEMU_HOME/$1
    local -a files
    shopt -s nullglob
    files=("$series"/*.patch)
    shopt -u nullglob
    ((${#files[@]} > 0)) || die 1 "there is no patch in $series"
    add_tree "$cache/repository" "$tree"
    clean_tree "$tree" base
    if ! scratch_git "$tree" am -q --committer-date-is-author-date "${files[@]}" >>"$log" 2>&1; then
        scratch_git "$tree" am --show-current-patch=raw 2>/dev/null | sed -n 's/^Subject: /does not apply: /p' | head -n1 >&2
        scratch_git "$tree" am --abort >/dev/null 2>&1 || true
        does_not_apply "$version" "$cache/repository"
    fi
    scratch_git "$tree" rev-parse HEAD
}
