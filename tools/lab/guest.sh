#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# guest.sh VFIOMIG KERNEL: the subcommands of vfiomig on real drivers, in the lab's VM (check.sh). All of them on mtty and on the
# test driver; what `check` says of each fault of the test driver is in driver.table.
set -u
here=$(dirname "$0")
vfiomig=$1 kernel=$2
mtty=00000000-0000-4000-8000-00000000000
test=00000000-0000-4000-8001-00000000000
failed=0 way=

say() {
	echo "$1 tools $kernel, $way: $2"
	[ "$1" = PASS ] || failed=1
}

# $1: what it is; the rest: a command that has to succeed. What it prints is in $said.
works() {
	what=$1
	shift
	if said=$(timeout 100 "$@" 2>&1); then
		say PASS "$what"
	else
		say FAIL "$what: status $?: $said"
	fi
}

# $1: what it is; $2: words that the last command has printed.
said() {
	case $said in
	*"$2"*) say PASS "$1" ;;
	*) say FAIL "$1: '$2' is not in: $said" ;;
	esac
}

# $1: one device, or two; $2: what is found: all that is no pass and no skip, as in driver.table. $3: what it is.
finds() {
	# shellcheck disable=SC2086 # devices are words
	timeout 200 "$vfiomig" check --format tap $1 >/tmp/tap 2>&1
	found=$(sed -n -e 's/^not ok [0-9]* - \([a-z0-9-]*\) .*/fail \1/p' \
		-e 's/^ok [0-9]* - \([a-z0-9-]*\) ([^)]*): quirk: .*/quirk \1/p' /tmp/tap | paste -s -d , | sed 's/,/, /g')
	if ! grep -q '^# .* passed, ' /tmp/tap; then
		say FAIL "check of $3 did not come to its end: $(tail -n 3 /tmp/tap)"
	elif [ "$found" = "$2" ]; then
		say PASS "check of $3"
	else
		say FAIL "check of $3: found '$found', not '$2': $(sed -n '/^# /p' /tmp/tap)"
	fi
}

# $1: a check; $2: words that the last check has printed of it.
saw() {
	line=$(grep "^[a-z ]*ok [0-9]* - $1 " /tmp/tap)
	case $line in
	*"$2"*) say PASS "$1: $2" ;;
	*) say FAIL "$1: '$2' is not in: $line" ;;
	esac
}

# What check does on purpose: streams that do not load, a save that is given up, a state that no kernel takes, pre-copy info that is
# not zeroed (C7).
on_purpose="FRAME INCOMPLETE LEFT_UNREAD BAD_ARC INFO_DIRTY"

# $1: keys of a test device; $2: what is found.
test_device() {
	# shellcheck disable=SC2086 # keys are words
	lab-mdev 1 state=256K segment=16K dma_log=0 $1 >/dev/null
	finds "${test}1" "$2" "the test driver with $1"
	while read -r _ name _; do
		case " $on_purpose " in
		*" $name "*) ;;
		*) [ -z "$name" ] || say FAIL "check itself does what no client may: $name ($1)" ;;
		esac
	done <"$(lab-mdev -d 1)/violations"
	lab-mdev -r 1
}

# $1, $2: the keys of two test devices; $3: what is found.
pair() {
	# shellcheck disable=SC2086 # keys are words
	lab-mdev 1 state=256K segment=16K dma_log=0 $1 >/dev/null
	# shellcheck disable=SC2086 # keys are words
	lab-mdev 2 state=256K segment=16K dma_log=0 $2 >/dev/null
	finds "${test}1 ${test}2" "$3" "two devices of the test driver, $1 and $2"
	if [ -z "$3" ]; then
		saw pair-there "the same"
		saw pair-back "the same"
	fi
	lab-mdev -r 1
	lab-mdev -r 2
}

# $1: number of a test device; $2: what has to be in one of its files of sysfs, $3, and nothing else.
attribute() {
	value=$(cat "$(lab-mdev -d "$1")/$3")
	[ "$value" = "$2" ] || say FAIL "$3 of test device $1: '$value', not '$2'"
}

questions() {
	works "probe" "$vfiomig" probe "${mtty}1"
	said "probe names the driver" "can be migrated (mtty)"
	works "probe --json" "$vfiomig" probe --json "${mtty}1"
	said "it is opened by this way" "\"opened_by\": \"$way\""
	"$vfiomig" probe "${mtty}9" >/dev/null 2>&1 && say FAIL "probe of a device that is not there succeeds"
}

# What one device is asked, and what two of a kind do by way of a file.
# $1: what they are; $2, $3: two devices of one kind.
files() {
	works "info, $1" "$vfiomig" info "$2"
	works "info --measure, $1" "$vfiomig" info --measure "$2"
	said "the times of its transitions, $1" "to STOP_COPY"
	works "save, $1" "$vfiomig" save "$2" -o /tmp/state
	works "show, $1" "$vfiomig" show /tmp/state
	said "the file is whole, $1" "whole, every sum is right"
	works "load, $1" "$vfiomig" load "$3" /tmp/state
	works "bench, $1" "$vfiomig" bench --runs 2 "$2"
	said "how fast it is saved, $1" "save "
	head -c $(($(wc -c </tmp/state) - 10)) /tmp/state >/tmp/cut
	"$vfiomig" show /tmp/cut >/dev/null 2>&1 && say FAIL "a file that was cut is shown as whole, $1"
	"$vfiomig" load "$3" /tmp/cut >/dev/null 2>&1 && say FAIL "a file that was cut is loaded, $1"
	rm -f /tmp/state /tmp/cut
}

files_of_test_devices() {
	for dialect in v2 v1 draft2; do
		lab-mdev 1 "dialect=$dialect" >/dev/null
		lab-mdev 2 "dialect=$dialect" >/dev/null
		files "$dialect" "${test}1" "${test}2"
		for number in 1 2; do attribute "$number" 0 violations; done
		lab-mdev -r 1
		lab-mdev -r 2
	done
}

# A save that takes a while is interrupted: there is no file, and the device runs again.
interruption() {
	for dialect in v2 v1; do
		lab-mdev 1 "dialect=$dialect" state=16M data_ms=500 >/dev/null
		"$vfiomig" save --quiet "${test}1" -o /tmp/interrupted >/tmp/said 2>&1 &
		saver=$!
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ "$(cat "$(lab-mdev -d 1)/state")" = RUNNING ] || break
			sleep 1
		done
		kill -INT $saver
		wait $saver
		status=$?
		if [ $status = 130 ]; then say PASS "SIGINT, $dialect"; else say FAIL "SIGINT, $dialect: status $status: $(cat /tmp/said)"; fi
		[ ! -e /tmp/interrupted ] || say FAIL "an interrupted save leaves a file, $dialect"
		attribute 1 RUNNING state
		lab-mdev -r 1
	done
}

# Two hosts, as far as the network knows: two namespaces with a cable between.
two_hosts() {
	ip netns add here && ip netns add there &&
		ip link add cable netns here type veth peer name cable netns there &&
		nsenter --net=/run/netns/here ip address add 10.9.0.1/24 dev cable &&
		nsenter --net=/run/netns/there ip address add 10.9.0.2/24 dev cable &&
		nsenter --net=/run/netns/here ip link set cable up &&
		nsenter --net=/run/netns/there ip link set cable up
}

# Four devices, of every dialect.
# $1: more options of send.
hosts() {
	number=0
	for keys in "dialect=v2 state=4M" "dialect=v2 precopy=0 p2p=0" "dialect=v1 ndma=1" "dialect=draft2"; do
		number=$((number + 1))
		lab-mdev "$number" "$keys" >/dev/null
		lab-mdev "$((number + 4))" "$keys" >/dev/null
	done
	move "four devices $1" "$1" \
		"a=${test}1 b=${test}2 c=${test}3 d=${test}4" "d=${test}8 b=${test}6 c=${test}7 a=${test}5"
	said "they are four" "4 devices"
	said "it has rounds" " round"
	said "it says for how long they stood still" "stood still for"
	for number in 1 2 3 4 5 6 7 8; do
		attribute "$number" 0 violations
		attribute "$number" RUNNING state
	done
	for number in 1 2 3 4 5 6 7 8; do lab-mdev -r "$number"; done
}

# mtty of 6.12, and what is known of it: it says 0 for "nothing now" (K11), goes on behind a write that failed (K4), and has a log
# that is none, which the stock kernel cannot even report. A stream that was cut it refuses, at every byte.
mtty_finds="quirk precopy-nothing-now, fail refusal-stays, quirk log-page-size, fail log-started-twice, fail log-not-started"
[ "$kernel" = stock ] && mtty_finds="quirk precopy-nothing-now, fail refusal-stays, fail log-report, quirk log-page-size, fail log-started-twice"

# Each way has a pair of its own, for what was sent stays in STOP when it is closed (K20).
mttys() {
	if [ $way = cdev ]; then one=${mtty}1 other=${mtty}2; else one=${mtty}3 other=${mtty}4; fi
	files "mtty" "$one" "$other"
	finds "$one $other" "$mtty_finds" "mtty"
	saw load-cut-anywhere "refused at each of"
	saw pair-there "the same"
	saw pair-back "the same"
	move "mtty" "" "$one" "$other"
	finds "$one" "quirk fresh-state, $mtty_finds" "mtty that was sent"
}

# $1: what it is; $2: more options of send; $3: devices here; $4: devices there. What `send` says is in $said.
move() {
	# shellcheck disable=SC2086 # devices are words
	timeout 100 nsenter --net=/run/netns/there "$vfiomig" receive $4 --listen 10.9.0.2:7777 >/tmp/receive 2>&1 &
	receiver=$!
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		grep -q listening /tmp/receive && break
		sleep 1
	done
	# shellcheck disable=SC2086 # devices are words
	works "send $1" nsenter --net=/run/netns/here "$vfiomig" send $2 $3 --to 10.9.0.2:7777
	if wait $receiver; then say PASS "receive $1"; else say FAIL "receive $1: $(cat /tmp/receive)"; fi
}

# Each row of driver.table that is for this kernel.
table() {
	sed -e '/^#/d' -e '/^$/d' -e 's/ *| */|/g' "$here/driver.table" >/tmp/table
	rows=0 least=1
	[ "$kernel" = stock ] || least=40
	while IFS='|' read -r on keys found _; do
		[ "$on" = "$kernel" ] || [ "$on$kernel" = anyiommufd ] || continue
		test_device "$keys" "$found"
		rows=$((rows + 1))
	done </tmp/table
	[ "$rows" -ge $least ] || say FAIL "driver.table has $rows rows for this kernel"
}

pairs() {
	for keys in "dialect=v2" "dialect=v1 window=trapped" "dialect=v1 ndma=1 window=two" "dialect=draft2"; do
		pair "$keys" "$keys" ""
	done
	pair "dialect=v2" "dialect=v2 p2p=0" "quirk pair-alike"
	pair "dialect=v1" "dialect=v1 state=128K" "fail pair-there, fail pair-back"
	pair "dialect=v1" "dialect=draft2" "fail pair-alike"
}

two_hosts || {
	echo "FAIL tools $kernel: two network namespaces cannot be made: is iproute2 installed?"
	exit 1
}
for way in cdev group; do
	if [ $way = group ]; then
		# Without it the group is taken.
		[ ! -e /dev/iommu ] || mv /dev/iommu /dev/iommu.hidden
	elif [ "$kernel" = stock ]; then
		continue
	fi
	questions
	files_of_test_devices
	interruption
	hosts ""
	hosts "--channels 4"
	mttys
	pairs
	# The driver does not see by which way it is asked.
	[ "$way$kernel" = groupiommufd ] || table
done
exit $failed
