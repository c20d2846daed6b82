#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# lodge-stat on this machine: its options, and what it says where the module is not loaded. Reports in TAP. usage:
# stat.sh LODGE-STAT
set -u
# shellcheck source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
program=$1

echo 1..10
says "help" 0 out '^usage: lodge-stat' --help
says "version" 0 out '^lodge-stat [0-9]' --version
says "an unknown option" 2 err "^lodge-stat: unknown option '--frob'" --frob
says "an option without its value" 2 err "^lodge-stat: .*missing after '--interval'" --interval
says "an argument too many" 2 err "^lodge-stat: unexpected argument 'frob'" frob
for seconds in 0 -1 1x nan; do
	says "an interval of $seconds" 2 err "^lodge-stat: --interval wants seconds, .* '$seconds'" --once --interval $seconds
done
if [ -e /sys/module/lodge ]; then
	count=$((count + 1))
	echo "ok $count no module # SKIP it is loaded"
else
	says "no module" 1 err "^lodge-stat: the module lodge is not loaded$" --once
fi
[ $failures = 0 ]
