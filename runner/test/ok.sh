#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# lodge-ok on this machine: its options, and what it says where the processor has no virtualization, which
# most machines that build Lodge have not. Reports in TAP. usage: ok.sh LODGE-OK
set -u
# shellcheck source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
program=$1

# without NAME STATUS PATTERN ARGUMENT...: where the processor has no virtualization
without() {
	local name=$1
	if grep -qwE 'vmx|svm' /proc/cpuinfo; then
		count=$((count + 1))
		echo "ok $count $name # SKIP this processor has virtualization"
		return
	fi
	says "$1" "$2" out "$3" "${@:4}"
}

echo 1..14
says "help" 0 out '^usage: lodge-ok' --help
says "version" 0 out '^lodge-ok [0-9]' --version
says "an unknown option" 2 err "^lodge-ok: unknown option '--frob'" --frob
says "an option without its value" 2 err "^lodge-ok: .*missing after '--device'" --device
says "an argument too many" 2 err "^lodge-ok: unexpected argument 'frob'" frob
without "no virtualization" 1 '^This processor has no (VT-x|AMD-V)(, or the hypervisor below .*)?\.$'
without "no virtualization: the last line" 1 '^Lodge cannot run on this machine\.$'
without "no virtualization, whatever the device" 1 'cannot run' --device /dev/null
without "no virtualization, --silicon: a report and no test" 1 '^1\.\.0 # SKIP ' --silicon
without "no virtualization, --silicon: the findings" 1 '^# This processor has no ' --silicon
says "the list of tests" 0 out '^inventory ' --silicon -l
says "the list without --silicon" 2 err "only --silicon has '-l'" -l
a_user "$program"
root=$program program=$user
says "--silicon without root" 3 err '^lodge-ok: --silicon wants root$' --silicon
program=$root
"$program" >"$dir/first" 2>&1
"$program" >"$dir/second" 2>&1
result "it says the same again" "$(diff "$dir/first" "$dir/second")"
[ $failures = 0 ]
