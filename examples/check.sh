#!/bin/bash
# check.sh EXAMPLES_DIR SIMDEV
#
# Runs what build.sh made. save and load with software devices behind sockets (SIMDEV is the program vfiomig-simdev): the
# state arrives, in both generations of the protocol; a file that is not right is refused before a device is touched; a
# device that cannot stop runs on. The server's verdict on each access is its exit status. live-migrate, small, with each
# dialect, and with each step that can fail.
set -euo pipefail

if (($# != 2)); then
    echo "usage: check.sh EXAMPLES_DIR SIMDEV" >&2
    exit 2
fi
examples=$(cd "$1" && pwd) simdev=$(realpath "$2")
dir=$(mktemp -d)
server=
# Also after a failure: no server stays.
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"

fail() {
    echo "examples: FAILED: $*" >&2
    cat ./*.log >&2
    exit 1
}

# serve OPTION... ; the device of the next program, at unix:s.sock
serve() {
    rm -f s.sock
    "$simdev" --socket s.sock --state-size 300K "$@" >server.log 2>&1 &
    server=$!
    for _ in {1..100}; do
        [ -S s.sock ] && return
        sleep 0.05
    done
    fail "the server does not listen"
}

# served STATE ; it found nothing wrong, and its device ended in STATE. Prints the checksum of the state.
served() {
    wait "$server" || fail "the server found something against the protocol"
    server=
    grep -q "state $1, checksum" server.log || fail "the device is not in $1"
    sum=$(sed -n 's/.*checksum //p' server.log)
}

# refused PATTERN COMMAND... ; it fails, and says so
refused() {
    local pattern=$1
    shift
    if "$@" >program.log 2>&1; then
        fail "$* succeeded"
    fi
    grep -q -- "$pattern" program.log || fail "$*: no word of '$pattern'"
}

for dialect in v2 v1; do
    serve --dialect $dialect --seed 1
    "$examples/save" unix:s.sock $dialect.state >program.log 2>&1 || fail "save"
    served STOP
    saved=$sum
    serve --dialect $dialect
    "$examples/load" $dialect.state unix:s.sock >program.log 2>&1 || fail "load"
    served RUNNING
    [ "$saved" = "$sum" ] || fail "$dialect: the state was $saved and is $sum"
done
serve --seed 2
"$examples/save" --resume unix:s.sock resumed.state >program.log 2>&1 || fail "save --resume"
served RUNNING

# Refused before the socket, which is not there, is looked for.
size=$(stat -c %s v2.state)
for len in 0 1 47 48 100 $((size / 2)) $((size - 1)); do
    head -c "$len" v2.state >bad.state
    refused 'wire was cut' "$examples/load" bad.state unix:none.sock
done
{ cat v2.state; printf x; } >bad.state
refused 'something behind its end' "$examples/load" bad.state unix:none.sock
cp v2.state bad.state
printf '\xff\xff' | dd of=bad.state bs=1 seek=$((size / 2)) conv=notrunc status=none
refused 'wire: .*record [0-9]* at offset' "$examples/load" bad.state unix:none.sock

# Of another dialect: the device is not touched.
serve --dialect v1
refused 'dialect: this side has v1, the wire has v2' "$examples/load" v2.state unix:s.sock
served RUNNING
# It cannot stop: no file is left, and it runs on.
serve --seed 1 --allow-abort --fail enter-stop-copy=EIO
refused 'is in RUNNING again' "$examples/save" unix:s.sock failed.state
served RUNNING
[ -z "$(find . -name 'failed.state*')" ] || fail "a save that failed has left a file"
echo "examples: save and load: all as it should be"

small=(--ram 16 --state-size 1 --rate 16 --rounds 4)
for dialect in draft v1 v1-ndma v2; do
    for step in '' precopy stop-copy load; do
        run=(--dialect "$dialect" ${step:+--fail "$step"})
        "$examples/live-migrate" "${small[@]}" "${run[@]}" >program.log 2>&1 || fail "live-migrate ${run[*]}"
    done
done
echo "examples: live-migrate: all as it should be"
