#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# lodge-stat, beside the folder of the tests: it counts the exits of guests that run, by process and by reason,
# and nothing when they have ended. To be run as root, with tracefs mounted.
#
# Functions are what check() and the trap call:
# shellcheck disable=SC2317

here=$(dirname "$0")
stat=$here/../lodge-stat
tmp=$(mktemp -d) || exit 1
number=0 failed=0 system=lodge
[ -e /sys/module/lodge ] || system=kvm
if [ ! -x "$stat" ]; then
	echo "1..0 # SKIP lodge-stat is not beside the tests"
	exit 4
fi
if [ ! -e /sys/kernel/tracing/events/$system ] && [ ! -e /sys/kernel/debug/tracing/events/$system ]; then
	echo "1..0 # SKIP no tracefs with the events of $system"
	exit 4
fi
kvm=
[ $system = lodge ] || kvm=--kvm

# check TEXT COMMAND...: the command has to succeed
check() {
	text=$1
	shift
	number=$((number + 1))
	if "$@" >"$tmp/said" 2>&1; then
		echo "ok $number - $text"
	else
		failed=1
		tail -n 40 "$tmp/said" | sed 's/^/# /'
		echo "not ok $number - $text"
	fi
}
cleanup() {
	touch "$tmp/over"
	wait
	rm -rf "$tmp"
}
trap cleanup EXIT

# sum WHO COUNTER FILE: the numbers of those lines
sum() { awk -v who="$1" -v counter="$2" '$1 == who && $3 ~ "^" counter "$" { n += $4 } END { print n + 0 }' "$3"; }
lines() { cat "$tmp/$1"; ! grep -vE '^[a-z0-9]+ ([0-9]+|-) [a-z0-9_:]+ ([0-9]+|-) ([0-9]+|-)$' "$tmp/$1"; }
host() { cat "$tmp/runs"; [ "$(sum host kvm_exit "$tmp/runs")" -gt 0 ] && [ "$(sum host kvm_entry "$tmp/runs")" -gt 0 ]; }
process() { cat "$tmp/runs"; [ "$(sum process kvm_exit "$tmp/runs")" -gt 0 ]; }
# The exits of processes are those of the host, but for what comes between two readings.
whole() {
	all=$(sum host kvm_exit "$tmp/runs") theirs=$(sum process kvm_exit "$tmp/runs")
	echo "host $all, processes $theirs"
	[ "$all" -gt 0 ] && [ $((theirs * 10)) -ge $((all * 8)) ] && [ $((theirs * 8)) -le $((all * 10)) ]
}
reasons() {
	all=$(sum host kvm_exit "$tmp/runs") named=$(sum host 'kvm_exit:.*' "$tmp/runs")
	echo "exits $all, with a reason $named"
	[ "$all" -gt 0 ] && [ $((named * 10)) -ge $((all * 8)) ] && [ $((named * 8)) -le $((all * 10)) ]
}
ended() { cat "$tmp/ended"; ! grep '^process' "$tmp/ended" && [ "$(sum host 'kvm_.*' "$tmp/ended")" = 0 ]; }
screen() {
	timeout 3 "$stat" ${kvm:+"$kvm"} --interval 1 >"$tmp/screen"
	cat "$tmp/screen"
	grep -q 'PID COMMAND' "$tmp/screen" && grep -qE '^kvm_exit +[1-9]' "$tmp/screen"
}

echo "1..7"
LODGE_RIDE_UNTIL=$tmp/over "$here/ride_test" alone >"$tmp/guests" 2>&1 &
sleep 2
"$stat" ${kvm:+"$kvm"} --once --interval 2 --reasons >"$tmp/runs"
check "each line has its five words" lines runs
check "the host's exits and entries are counted" host
check "the exits of a process with guests are counted" process
check "those of all processes are the host's" whole
check "nearly all have one of the reasons" reasons
check "the screen has processes and events" screen
touch "$tmp/over"
wait
"$stat" ${kvm:+"$kvm"} --once --interval 0.5 >"$tmp/ended"
check "where no guest runs nothing is counted" ended
exit $failed
