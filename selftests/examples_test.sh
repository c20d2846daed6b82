#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The programs that are shown to others do what is said of them: the two in uapi/API.md, and the fuzzer of
# runner/examples, which finds its guest's bug, says so, and without executions does not.

here=$(dirname "$0")/examples
number=0 failed=0

# check TEXT COMMAND...: the command has to succeed
check() {
	text=$1
	shift
	number=$((number + 1))
	if "$@"; then
		echo "ok $number - $text"
	else
		failed=1
		echo "not ok $number - $text"
	fi
}
# shellcheck disable=SC2317 # check() calls these
finds() { said=$("$here/fuzz" 200000 "$1") && echo "$said" | sed 's/^/# /' && echo "$said" | grep -q 'canary is gone: 4c 64 67'; }
# shellcheck disable=SC2317
misses() { "$here/fuzz" 1 >/dev/null; [ $? -eq 1 ]; }

if [ "${LODGE_DEV:-/dev/lodge}" != /dev/lodge ] || [ ! -e /sys/module/lodge ]; then
	echo "1..0 # SKIP the examples are for Lodge, at /dev/lodge"
	exit 4
fi
echo "1..5"
check "uapi/API.md: reset in thirty lines" "$here/reset"
check "uapi/API.md: a template in thirty lines" "$here/template"
check "fuzz finds the bug" finds 1
check "fuzz finds it from another seed" finds 7
check "fuzz says with its status that it has not found it" misses
exit $failed
