#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading the module $LODGE_KO: again and again, while a VM lives, beside KVM, and on
# a CPU that cannot run it. To be run as root on a machine that may lose the module at any time.
# Which cases there are depends on the machine: KVM is looked at where its modules are loaded.
#
# Functions are what check() and fails() call:
# shellcheck disable=SC2317

ko=${LODGE_KO:-}
here=$(dirname "$0")
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
dev=$tmp/lodge
kvm_dev=$tmp/kvm
number=0 failed=0

ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failed=1; echo "not ok $number - $1"; }
skip() { number=$((number + 1)); echo "ok $number - $1 # SKIP $2"; }
# check TEXT COMMAND...: the command has to succeed
check() {
	text=$1
	shift
	if "$@"; then ok "$text"; else not_ok "$text"; fi
}
fails() { if "$@"; then return 1; fi; }
loaded() { grep -q '^lodge ' /proc/modules; }
unload() { if loaded; then rmmod lodge; fi; }
# node NAME FILE: FILE becomes the node of that misc device, whatever /dev has
node() {
	minor=$(awk -v name="$1" '$2 == name { print $1 }' /proc/misc)
	rm -f "$2"
	[ -n "$minor" ] && mknod "$2" c 10 "$minor"
}
load() { insmod "$ko" && node lodge "$dev"; }
log_lines() { dmesg | wc -l; }
log_since() { dmesg | tail -n +"$(($1 + 1))"; }
complaints() { log_since "$start" | grep -E 'BUG:|WARNING:|Oops|KASAN|lockdep|general protection'; }
one_run() { LODGE_DEV=$dev "$here/mode_test" long_mode >/dev/null; }

# How many different things the module said, on its input
said() { grep 'lodge: .' | grep -v taint | sed 's/^\[[^]]*\] //' | sort -u | wc -l; }

# hold DEVICE: a process with a running VM; its id in $holder, once the VM runs
hold() {
	LODGE_DEV=$1 "$here/hold_vm" >"$tmp/hold" 2>&1 &
	holder=$!
	n=0
	while ! grep -q -E '^# running|^not ok|^1\.\.0' "$tmp/hold" 2>/dev/null; do
		sleep 1
		n=$((n + 1))
		[ $n -lt 60 ] || return 1
	done
	grep -q '^# running' "$tmp/hold"
}

# The subtest is a child of hold_vm, and dies with it.
let_go() {
	kill -9 "$holder" 2>/dev/null
	wait "$holder" 2>/dev/null
	sleep 1
}

echo "TAP version 13"
if [ ! -f "$ko" ]; then
	echo "1..0 # SKIP LODGE_KO does not name the module's file"
	exit 4
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "1..0 # SKIP not root"
	exit 4
fi
start=$(log_lines)
was_loaded=no
loaded && was_loaded=yes
unload

refused='a CPU without virtualization: insmod fails, with one line in the log that says why'
if ! grep -q -w -E 'svm|vmx' /proc/cpuinfo; then
	echo "1..2"
	# insmod may try twice, by either system call
	if ! message=$(insmod "$ko" 2>&1) && ! loaded && [ "$(log_since "$start" | said)" -eq 1 ] &&
	   echo "$message" | grep -q -i -E 'no such device|not supported|invalid'; then
		ok "$refused"
	else
		not_ok "$refused"
		echo "# insmod said: $message"
		log_since "$start" | sed 's/^/# /'
	fi
	check "the host's log is clean" fails complaints
	exit $failed
fi

echo "1..11"
skip "$refused" "this one has it"

i=0 result=0
while [ $i -lt 100 ]; do
	{ insmod "$ko" && rmmod lodge; } || { result=1; break; }
	i=$((i + 1))
done
check "loaded and unloaded 100 times" [ $result -eq 0 ]

kvm=''
for name in kvm_amd kvm_intel; do
	[ ! -e "/sys/module/$name" ] || kvm=$name
done
if [ -z "$kvm" ]; then
	for what in "beside KVM: the module loads" "a guest runs while KVM holds the CPU" \
		"and one line in the log says that it is shared" "and another that it no longer is"; do
		skip "$what" "KVM is not loaded"
	done
else
	node kvm "$kvm_dev"
	hold "$kvm_dev"
	kvm_holder=$holder
	mark=$(log_lines)
	check "beside KVM: the module loads" load
	check "a guest runs while KVM holds the CPU" one_run
	check "and one line in the log says that it is shared" \
		[ "$(log_since "$mark" | grep -i kvm | said)" -eq 1 ]
	log_since "$mark" | grep 'lodge: ' | sed 's/^/# /'
	holder=$kvm_holder
	let_go
	mark=$(log_lines)
	rmmod "$kvm"
	check "and another that it no longer is" \
		[ "$(log_since "$mark" | grep -i kvm | said)" -eq 1 ]
	unload
fi

i=0 result=0
while [ $i -lt 10 ]; do
	{ load && one_run && rmmod lodge; } || { result=1; break; }
	i=$((i + 1))
done
check "loaded, a guest run, unloaded, 10 times" [ $result -eq 0 ]

load
check "loading twice is refused" fails insmod "$ko" 2>/dev/null

held() { hold "$dev" && fails rmmod lodge 2>/dev/null && loaded; }
gone() { rmmod lodge && fails loaded; }
check "unloading while a VM runs is refused" held
let_go
check "and works when it is gone" gone

check "the host's log is clean" fails complaints
if [ $was_loaded = yes ]; then
	insmod "$ko"
fi
exit $failed
