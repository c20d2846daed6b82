#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the tests of the programs' words share: a folder that goes with them, and TAP. Sourced: it sets $dir, and
# result() counts in $count and $failures.
# shellcheck disable=SC2034 # read by who sources this
set -u
dir=$(mktemp -dt lodge-words.XXXXXX)
trap 'rm -rf "$dir"' EXIT
# A leak or a bad access makes the program's status this one, which no case expects.
export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99
count=0 failures=0

# result NAME WRONG: what is wrong with it, nothing if nothing is.
result() {
	count=$((count + 1))
	if [ -z "$2" ]; then
		echo "ok $count $1"
	else
		echo "# $2"
		echo "not ok $count $1"
		failures=$((failures + 1))
	fi
}

# a_user PROGRAM: sets $user to a program that runs a copy of it without root; as it is, where root is not there to
# be dropped.
a_user() {
	user=$1
	[ "$(id -u)" = 0 ] || return 0
	chmod 0755 "$dir"
	cp "$1" "$dir/program"
	printf '#!/bin/sh\nexec setpriv --reuid 65534 --clear-groups -- %s "$@"\n' "$dir/program" >"$dir/user"
	chmod 0755 "$dir/user"
	user=$dir/user
}
