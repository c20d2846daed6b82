#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# CPUs go offline and come back under running guests. To be run as root on a machine with at least
# two CPUs, of which number 1 can go. A guest that spins on the CPU that goes has to go on elsewhere,
# and the CPU has to be of use to guests when it is back.
#
# Functions are what check() and the trap call:
# shellcheck disable=SC2317

here=$(dirname "$0")
tmp=$(mktemp -d) || exit 1
cpu=/sys/devices/system/cpu/cpu1/online
number=0 failed=0

ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failed=1; echo "not ok $number - $1"; }
# check TEXT COMMAND...: the command has to succeed
check() {
	text=$1
	shift
	if "$@"; then ok "$text"; else not_ok "$text"; fi
}
cleanup() {
	[ ! -w "$cpu" ] || echo 1 >"$cpu"
	[ -z "$spinner" ] || kill -9 "$spinner" 2>/dev/null
	rm -rf "$tmp"
}
spinner=
trap cleanup EXIT

if [ ! -w "$cpu" ]; then
	echo "1..0 # SKIP no CPU 1 that can be taken offline"
	exit 4
fi
echo "1..5"

run_on() { taskset "$1" "$here/mode_test" long_mode >/dev/null; }
alive() { kill -0 "$spinner"; }
cycle() {
	i=0
	while [ "$i" -lt 10 ]; do
		{ echo 0 >"$cpu" && run_on 1 && echo 1 >"$cpu" && run_on 2; } || return 1
		i=$((i + 1))
	done
}

: >"$tmp/out"	# the loop below may look before the redirection has made it
"$here/hold_vm" >"$tmp/out" 2>&1 &
spinner=$!
while ! grep -q running "$tmp/out" && alive; do
	sleep 1
done
taskset -p 2 $spinner >/dev/null
sleep 1
check "a guest spins on CPU 1" alive
check "10 times off and on again, each time a guest on either CPU" cycle
check "the guest that spun on CPU 1 still runs" alive
kill -9 $spinner
wait $spinner 2>/dev/null
check "with no VM left a CPU goes and comes" cycle
check "the host's log is clean" sh -c "! dmesg | grep -E 'BUG:|WARNING:|Oops|general protection'"
exit $failed
