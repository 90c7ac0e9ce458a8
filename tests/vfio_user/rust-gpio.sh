#!/bin/bash
# rust-gpio.sh [--if-built]: builds the example `gpio` of the Rust crate vfio_user, a server
# that cannot migrate, and prints its path.
#
# cargo fetches and builds the crate with its own lock file, into
# ${XDG_CACHE_HOME:-~/.cache}/vfiomig/peers; nothing of it is in this tree.
#
# Exit status: 0; 77 when it cannot be had here, and why, with CI=true 1.
set -euo pipefail
version=0.1.7
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/vfiomig/peers/vfio_user-$version
[[ ${1:-} != -h && ${1:-} != --help ]] || { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" && exit 0; }

if [[ ! -x $cache/bin/gpio ]]; then
	if [[ ${1:-} == --if-built ]]; then
		echo "rust-gpio.sh: SKIPPED: it was not built: make check-vfio-user-peers" >&2
		exit 77
	fi
	mkdir -p "$cache"
	echo "rust-gpio.sh: building the example of vfio_user $version" >&2
	# A directory of its own: the caller's flags and target are not for this.
	env -u CARGO_TARGET_DIR -u RUSTFLAGS cargo install --quiet --debug --locked --root "$cache" \
		--target-dir "$cache/target" --version "$version" --example gpio vfio_user >"$cache/log" 2>&1 || {
		tail -n 20 "$cache/log" >&2
		echo "rust-gpio.sh: SKIPPED: the crate vfio_user $version cannot be had or built; see $cache/log" >&2
		[[ ${CI:-} != true ]] || exit 1
		exit 77
	}
	rm -rf "$cache/target"
fi
echo "$cache/bin/gpio"
