#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the tests of the programs' words share: a folder that goes with them, and TAP. Sourced: it sets $dir, and
# result() counts in $count and $failures.
# shellcheck disable=SC2034,SC2154 # who sources this reads and sets them
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

# says NAME STATUS STREAM PATTERN ARGUMENT...: $program says so on that stream, and nothing on the other.
says() {
	local name=$1 status=$2 stream=$3 pattern=$4 other=out rc=0 wrong=''
	shift 4
	[ "$stream" != out ] || other=err
	"$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null || rc=$?
	[ $rc = "$status" ] || wrong="status $rc, not $status; "
	grep -qE "$pattern" "$dir/$stream" || wrong+="it does not say '$pattern'; "
	[ ! -s "$dir/$other" ] || wrong+="something on the other stream; "
	[ -z "$wrong" ] || wrong+="it said: $(head -c 300 "$dir/out" "$dir/err" | tr '\n' ' ')"
	result "$name" "$wrong"
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
