#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What lodge-run says about wrong options and files: one sentence on standard error, nothing on
# standard output, the right status. Reports in TAP. usage: files.sh LODGE-RUN
# The last cases need a device: a file that is none, and one that may not be opened.
set -u
# shellcheck source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
lodge=$1

# refuses NAME STATUS PATTERN ARGUMENT...
refuses() {
	local name=$1 status=$2 pattern=$3 rc=0 wrong=''
	shift 3
	"$lodge" "$@" >"$dir/out" 2>"$dir/err" </dev/null || rc=$?
	[ $rc = "$status" ] || wrong="status $rc, not $status; "
	[ "$(wc -l <"$dir/err")" = 1 ] || wrong+="not one line; "
	grep -qE "^lodge-run: .*$pattern" "$dir/err" || wrong+="it does not say '$pattern'; "
	[ ! -s "$dir/out" ] || wrong+="something on standard output; "
	[ -z "$wrong" ] || wrong+="it said: $(head -c 300 "$dir/err")"
	result "$name" "$wrong"
}

# says NAME PATTERN ARGUMENT...
says() {
	local name=$1 pattern=$2 wrong=''
	shift 2
	"$lodge" "$@" >"$dir/out" 2>"$dir/err" </dev/null || wrong="status $?; "
	grep -qE "$pattern" "$dir/out" || wrong+="it does not say '$pattern'; "
	[ ! -s "$dir/err" ] || wrong+="something on standard error"
	result "$name" "$wrong"
}

# bytes FILE OFFSET HEX: write bytes into a file.
# shellcheck disable=SC2001 # a pattern that keeps what it matched
bytes() { printf '%b' "$(sed 's/../\\x&/g' <<<"$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# The least that passes for a bzImage: one sector of setup, 64 KiB of kernel that wants 16 MiB
# at 16 MiB. Field offsets are those of the boot protocol.
kernel() {
	truncate -s 0 "$1"
	truncate -s $((2 * 512 + 65536)) "$1"
	bytes "$1" $((0x1f1)) 01		# setup_sects
	bytes "$1" $((0x1f4)) 00100000		# syssize, in 16 bytes
	bytes "$1" $((0x1fe)) 55aa
	bytes "$1" $((0x200)) eb6a		# the jump over the header
	bytes "$1" $((0x202)) 48647253		# HdrS
	bytes "$1" $((0x206)) 0f02		# version 2.15
	bytes "$1" $((0x211)) 01		# loadflags
	bytes "$1" $((0x22c)) ffffff7f		# initrd_addr_max
	bytes "$1" $((0x236)) 0100		# xloadflags: 64-bit
	bytes "$1" $((0x238)) ff070000		# cmdline_size
	bytes "$1" $((0x258)) 0000000100000000	# pref_address
	bytes "$1" $((0x260)) 00000001		# init_size
}

good=$dir/good
kernel "$good"
echo text >"$dir/text"
truncate -s 100000 "$dir/zeros"
: >"$dir/empty"
truncate -s 64M "$dir/initrd"
truncate -s 1M "$dir/disk"
truncate -s 1000 "$dir/odd"
head -c 40000 "$good" >"$dir/short"
cp "$good" "$dir/old"
bytes "$dir/old" $((0x206)) 0b02
cp "$good" "$dir/bits32"
bytes "$dir/bits32" $((0x236)) 0000
cp "$good" "$dir/huge"
bytes "$dir/huge" $((0x260)) ffffffff
cp "$good" "$dir/wild"
bytes "$dir/wild" $((0x258)) f0ffffffffffffff
cp "$good" "$dir/syssize"
bytes "$dir/syssize" $((0x1f4)) ffffffff
cp "$good" "$dir/tiny"
bytes "$dir/tiny" $((0x1f4)) 20000000
cp "$good" "$dir/noline"
bytes "$dir/noline" $((0x238)) 10000000
none=$dir/none

echo 1..91
says "help" 'Ctrl-A x' --help
says "version" '^lodge-run [0-9]' --version
refuses "no kernel named" 2 'kernel' --mem 64M
refuses "an unknown option" 2 "'--frob'" --frob
refuses "an option without its value" 2 '--kernel wants a value' --kernel
refuses "an argument too many" 2 "'frob'" --kernel "$good" frob
for mem in 0 12Q 5MM -5 M '' 99999999999999999999 2000G; do
	refuses "memory of '$mem'" 2 'wants a size' --kernel "$good" --mem "$mem"
done
refuses "memory of 4K" 2 'too little memory' --kernel "$good" --mem 4K
for cpus in 0 65 -1 x 1x ''; do
	refuses "processors: '$cpus'" 2 'wants a number' --kernel "$good" --cpus "$cpus"
done
refuses "nine disks" 2 'at most 8' --kernel "$good" --disk 1 --disk 2 --disk 3 --disk 4 --disk 5 \
	--disk 6 --disk 7 --disk 8 --disk 9

refuses "a kernel that is not there" 1 'No such file' --kernel "$none"
refuses "a folder for a kernel" 1 'not a regular file' --kernel "$dir"
refuses "an empty kernel" 1 'not a Linux kernel' --kernel "$dir/empty"
refuses "a text for a kernel" 1 'not a Linux kernel' --kernel "$dir/text"
refuses "zeros for a kernel" 1 'not a Linux kernel' --kernel "$dir/zeros"
refuses "a truncated kernel" 1 'truncated' --kernel "$dir/short"
refuses "a kernel that claims to be 64 GiB" 1 'truncated' --kernel "$dir/syssize"
refuses "a kernel shorter than its entry" 1 'truncated' --kernel "$dir/tiny"
refuses "a kernel of an old protocol" 1 '64-bit' --kernel "$dir/old"
refuses "a kernel of 32 bits" 1 '64-bit' --kernel "$dir/bits32"
refuses "a kernel that wants 4 GiB" 1 'too little memory.* 4112 MiB' --kernel "$dir/huge"
refuses "a kernel at the end of the address space" 1 'impossible address' --kernel "$dir/wild"
refuses "too little memory for the kernel" 1 'too little memory.* 32 MiB' --kernel "$good" --mem 31M
refuses "a command line too long" 1 'at most 1984 char' --kernel "$good" \
	--append "$(head -c 2000 /dev/zero | tr '\0' x)"
refuses "a kernel that takes no command line" 1 'at most' --kernel "$dir/noline"

refuses "an initrd that is not there" 1 'No such file' --kernel "$good" --initrd "$none"
refuses "an empty initrd" 1 'empty' --kernel "$good" --initrd "$dir/empty"
refuses "too little memory for the initrd" 1 'too little memory.* 96 MiB' --kernel "$good" \
	--initrd "$dir/initrd" --mem 80M

refuses "a disk that is not there" 1 'No such file' --kernel "$good" --disk "$none"
refuses "a disk of half a sector" 1 'multiple of 512' --kernel "$good" --disk "$dir/odd"
refuses "a disk of no size" 1 'multiple of 512' --kernel "$good" --disk "$dir/empty,ro"

refuses "--restore with a kernel" 2 'not for --restore' --restore "$none" --kernel "$good"
refuses "--restore with a command line" 2 'not for --restore' --restore "$none" --append x
refuses "--restore of what is not there" 1 'No such file' --restore "$none"
refuses "--restore of a folder" 1 'cannot read' --restore "$dir"
refuses "--restore of nothing" 1 'truncated' --restore "$dir/empty"
refuses "--restore of zeros" 1 'not the state of a VM' --restore "$dir/zeros"
printf 'LODGEVM\n\2\0\0\0\0\0\0\0' >"$dir/version"
refuses "--restore of another version" 1 'version 2' --restore "$dir/version"
printf 'LODGEVM\n\1\0\0\0\0\0\0\0' >"$dir/state"
refuses "--restore of a header" 1 'truncated' --restore "$dir/state"
head -c 40 /dev/zero >>"$dir/state"
refuses "--restore of a header and zeros" 1 'cannot be|unknown class|version' --restore "$dir/state"
refuses "--save where no file can be" 1 'cannot write' --kernel "$good" --save "$none/state"
refuses "--save without its value" 2 'wants a value' --kernel "$good" --save

refuses "--template with --save" 2 'not for --template' --kernel "$good" --template "$none" --save "$dir/s"
refuses "--template with --restore" 2 'not for --template' --restore "$dir/state" --template "$none"
refuses "--template without its value" 2 'wants a value' --kernel "$good" --template
refuses "--template-max without --template" 2 'only for --template' --kernel "$good" --template-max 3
for max in 0 65536 x ''; do
	refuses "--template-max of '$max'" 2 'wants a number' --kernel "$good" --template "$none" --template-max "$max"
done
refuses "--template-memory without --template" 2 'only for --template' --kernel "$good" --template-memory 64M
refuses "--template-cgroup without --template-memory" 2 'only for --template-memory' --kernel "$good" --template "$none" \
	--template-cgroup "$dir"
for memory in 0 x ''; do
	refuses "--template-memory of '$memory'" 2 '--template-memory wants a size' --kernel "$good" --template "$none" \
		--template-memory "$memory"
done
refuses "a cgroup that is not there" 1 'cannot open the cgroup .*No such file' --kernel "$good" --template "$none" \
	--template-memory 64M --template-cgroup "$none"
refuses "a cgroup that is none" 1 'no cgroup of version 2' --kernel "$good" --template "$none" --template-memory 64M \
	--template-cgroup "$dir"
refuses "a socket of a name that is there" 1 'something of the name' --kernel "$good" --template "$dir/text"
refuses "a socket in a folder that is not there" 1 'cannot make the socket' --kernel "$good" --template "$none/s"
refuses "a socket of a name too long" 1 '1 to 107 characters, not 200' --kernel "$good" \
	--template "$(head -c 200 /dev/zero | tr '\0' x)"
refuses "a socket, but no device" 1 'not a KVM device' --kernel "$good" --template "$none" --device /dev/null

for net in '' tap0 tap= tap=tap0,mac tap=tap0,frob=1; do
	refuses "--net '$net'" 2 '--net wants tap=IF|has 1 to 15 characters' --kernel "$good" --net "$net"
done
refuses "a tap of a name too long" 2 '1 to 15 characters, not 16' --kernel "$good" --net tap=abcdefghijklmnop
for mac in 02:00:5e:10:20 02:00:5e:10:20:3 02:00:5e:10:20:30:40 2:0:5e:10:20:30; do
	refuses "the address $mac" 2 'wants an address like' --kernel "$good" --net "tap=tap0,mac=$mac"
done
refuses "an address of many" 2 'for many' --kernel "$good" --net tap=tap0,mac=01:00:5e:10:20:30
refuses "--net with --save" 2 'not for --net' --kernel "$good" --net tap=tap0 --save "$dir/s"
refuses "--net twice" 2 'can be one --net' --kernel "$good" --net tap=tap0 --net tap=tap1
refuses "a tap that is not there" 1 'no tap lodge-none' --kernel "$good" --net tap=lodge-none

refuses "no device" 1 'is the module loaded' --kernel "$good" --device "$none" \
	--initrd "$dir/initrd" --disk "$dir/disk"
refuses "a device that is none" 1 'not a KVM device' --kernel "$good" --device /dev/null
# Root may open anything; without root this process drops nothing.
chmod 0 "$dir/text"
a_user "$lodge"
lodge=$user
refuses "a device without permission" 1 'no permission' --kernel "$good" --device "$dir/text"
if chgrp 1 "$dir/text" 2>/dev/null && chmod 0060 "$dir/text"; then
	refuses "a device of a group's" 1 "no permission .* group daemon.*'adduser .* daemon'" --kernel "$good" --device "$dir/text"
else
	count=$((count + 1))
	echo "ok $count a device of a group's # SKIP only root can make one"
fi
[ $failures = 0 ]
