#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loading and unloading the module $LODGE_KO: 100 times, while a VM lives, beside KVM, and on a CPU
# that cannot run it. To be run as root on a machine that may lose the module at any time.

ko=${LODGE_KO:-}
dev=${LODGE_DEV:-/dev/lodge}
here=$(dirname "$0")
number=0 failed=0

ok() { number=$((number + 1)); echo "ok $number - $1"; }
not_ok() { number=$((number + 1)); failed=1; echo "not ok $number - $1"; }
skip() { number=$((number + 1)); echo "ok $number - $1 # SKIP $2"; }
check() { if [ "$1" -eq 0 ]; then ok "$2"; else not_ok "$2"; fi; }
loaded() { grep -q '^lodge ' /proc/modules; }
unload() { if loaded; then rmmod lodge; fi; }
log_lines() { dmesg | wc -l; }
log_since() { dmesg | tail -n +"$(($1 + 1))"; }
no_complaint() { ! log_since "$1" | grep -E 'BUG:|WARNING:|Oops|KASAN|lockdep|general protection'; }
one_run() { LODGE_DEV=$dev "$here/mode_test" long_mode >/dev/null; }
# An errno that the tools spell in different ways: by name, by text or by number.
refused() { echo "$1" | grep -q -i -E "$2"; }

echo "TAP version 13"
if [ ! -f "$ko" ]; then
	echo "1..0 # SKIP LODGE_KO does not name the module's file"
	exit 4
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "1..0 # SKIP not root"
	exit 4
fi
echo "1..9"
start=$(log_lines)
was_loaded=no
loaded && was_loaded=yes

if ! grep -q -w -E 'svm|vmx' /proc/cpuinfo; then
	mark=$(log_lines)
	message=$(insmod "$ko" 2>&1)
	if [ $? -ne 0 ] && refused "$message" 'no such device|not supported|-19|-95' &&
	   [ "$(log_since "$mark" | grep -c 'lodge:')" -eq 1 ]; then
		ok "a CPU without virtualization: refused, with one line in the log"
	else
		not_ok "a CPU without virtualization: refused, with one line in the log"
		echo "# insmod said: $message"
		log_since "$mark" | sed 's/^/# /'
	fi
	while [ $number -lt 8 ]; do skip "needs a CPU with virtualization" "this one has none"; done
	no_complaint "$start"
	check $? "the host's log is clean"
	exit $failed
fi
skip "a CPU without virtualization: refused, with one line in the log" "this one has it"

unload
i=0 result=0
while [ $i -lt 100 ]; do
	{ insmod "$ko" && rmmod lodge; } || { result=1; break; }
	i=$((i + 1))
done
check $result "loaded and unloaded 100 times"

i=0 result=0
while [ $i -lt 10 ]; do
	{ insmod "$ko" && one_run && rmmod lodge; } || { result=1; break; }
	i=$((i + 1))
done
check $result "loaded, a guest run, unloaded, 10 times"

insmod "$ko"
insmod "$ko" 2>/dev/null
[ $? -ne 0 ]
check $? "loading twice is refused"

LODGE_DEV=$dev "$here/run_test" signal_halted >/dev/null &
child=$!
LODGE_DEV=$dev "$here/lifetime_test" hold_vm >/dev/null 2>&1 &
holder=$!
sleep 1
rmmod lodge 2>/dev/null
[ $? -ne 0 ] && loaded
check $? "unloading while a VM lives is refused"
kill $holder 2>/dev/null
wait $child $holder 2>/dev/null
sleep 1
rmmod lodge
check $? "and works when it is gone"

if [ -e "/sys/module/kvm_amd" ] || [ -e "/sys/module/kvm_intel" ]; then
	kvm=$(ls -d /sys/module/kvm_amd /sys/module/kvm_intel 2>/dev/null | head -n 1)
	kvm=${kvm##*/}
	mark=$(log_lines)
	insmod "$ko"
	loaded
	check $? "beside KVM: the module loads"
	rmmod "$kvm" && one_run
	check $? "and runs a guest once KVM is gone"
else
	skip "beside KVM: the module loads" "KVM is not loaded"
	skip "and runs a guest once KVM is gone" "KVM is not loaded"
fi

unload
no_complaint "$start"
check $? "the host's log is clean"
[ $was_loaded = yes ] && insmod "$ko"
exit $failed
