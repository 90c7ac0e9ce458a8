#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# guest.sh VFIOMIG KERNEL: the subcommands of vfiomig on real drivers, in the lab's VM (check.sh).
set -u
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

# $1: device; $2: what is found, by the names of checks. $3: what it is.
finds() {
	found=$(timeout 100 "$vfiomig" check --format tap "$1" 2>&1 | sed -n 's/^not ok [0-9]* - \([a-z0-9-]*\) .*/\1/p' | tr '\n' ' ')
	if [ "$found" = "$2" ]; then
		say PASS "check of $3"
	else
		say FAIL "check of $3: found '$found', not '$2'"
	fi
}

# $1: keys of a test device; $2: what is found.
test_device() {
	lab-mdev 1 "$1" >/dev/null
	finds "${test}1" "$2" "the test driver with $1"
	lab-mdev -r 1
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

files() {
	for dialect in v2 v1 draft2; do
		lab-mdev 1 "dialect=$dialect" >/dev/null
		lab-mdev 2 "dialect=$dialect" >/dev/null
		works "info --measure, $dialect" "$vfiomig" info --measure "${test}1"
		works "save, $dialect" "$vfiomig" save "${test}1" -o /tmp/state
		works "show, $dialect" "$vfiomig" show /tmp/state
		said "the file is whole" "whole, every sum is right"
		works "load, $dialect" "$vfiomig" load "${test}2" /tmp/state
		works "bench, $dialect" "$vfiomig" bench "${test}1"
		head -c 5000 /tmp/state >/tmp/cut
		"$vfiomig" load "${test}2" /tmp/cut >/dev/null 2>&1 && say FAIL "a file that was cut is loaded, $dialect"
		lab-mdev -r 1
		lab-mdev -r 2
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

# mtty stays in STOP when it is closed, so that each way has a pair of its own.
mttys() {
	if [ $way = cdev ]; then move "mtty" "" "${mtty}1" "${mtty}2"; else move "mtty" "" "${mtty}3" "${mtty}4"; fi
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

checks() {
	# mtty of 6.12 goes on behind a write that failed (K4), and starts its log twice; the stock kernel has no REPORT for it.
	case $kernel in
	stock) finds "${mtty}1" "refusal-stays log-report log-started-twice " "mtty" ;;
	*) finds "${mtty}1" "refusal-stays log-started-twice log-not-started " "mtty" ;;
	esac
	log=
	[ "$kernel" = stock ] && log="log-report "
	test_device "dialect=v2" "$log"
	test_device "dialect=v2 dma_log=0" ""
	test_device "dialect=v2 dma_log=0 precopy=0 p2p=0" ""
	test_device "dialect=v2 dma_log=0 short_io=4096" ""
	test_device "dialect=v2 dma_log=0 lax_load=1" "load-nothing load-beginning load-half load-but-one-byte refusal-stays "
	test_device "dialect=v2 dma_log=0 fail_to=STOP_COPY fail_count=1000" "stop-to-stop-copy pre-copy-p2p-to-stop-copy "
	test_device "dialect=v2 dma_log=0 fail_to=RESUMING fail_count=1000" "stop-to-resuming "
	test_device "dialect=v1 window=trapped" ""
	test_device "dialect=v1 window=trapped ndma=1" ""
	test_device "dialect=v1 window=two skew=64K" ""
	test_device "dialect=draft2" ""
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
	files
	hosts ""
	hosts "--channels 4"
	mttys
	checks
done
exit $failed
