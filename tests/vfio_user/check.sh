#!/bin/bash
# check.sh VFIOMIG_SIMDEV | peers: each server of this project is held to the specification
# by a raw client, as it is and as the known servers that it imitates; with
# "peers", servers by others, as far as they can be had (libvfio-user.sh,
# rust-gpio.sh).
set -euo pipefail
simdev=$1
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || {
	echo "SKIPPED: there is no python3"
	[[ ${CI:-} != true ]] || exit 1
	exit 77
}

# smoke DIALECT SOURCE DEST COMMAND...
smoke() {
	local dialect=$1
	SMOKE_SOURCE=$2 SMOKE_DEST=$3 python3 "$here/smoke.py" "$dialect" "${@:4}"
}

# other SCRIPT DIALECT ARGUMENT...: what SCRIPT builds; without it, no check.
other() {
	local program status=0
	program=$("$here/$1") || status=$?
	((status == 0 || status == 77)) || exit "$status"
	((status == 77)) || smoke "$2" '' '' "$program" "${@:3}"
}

if [[ $simdev == peers ]]; then
	other libvfio-user.sh sample '{socket}'
	other rust-gpio.sh gpio --socket-path '{socket}'
	exit 0
fi

small='--state-size 20000'
for dialect in v1 v2; do
	# shellcheck disable=SC2086 # words
	SMOKE_VERDICT=1 smoke "$dialect" '--seed 1' '' "$simdev" --dialect "$dialect" $small
	# shellcheck disable=SC2086
	SMOKE_VERDICT=1 smoke "$dialect" '--seed 1' '' "$simdev" --peer "libvfio-user-$dialect" --no-quirk one-receive $small
done
SMOKE_VERDICT=1 smoke none '' '' "$simdev" --no-migration
smoke none '' '' "$simdev" --peer rust-vfio-user
smoke v2 '--seed 1' '' python3 "$here/server.py"
