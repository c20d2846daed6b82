# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the findings share: pinned Debian packages in a temporary folder, tiny images, and the verdict.
#
# A finding ends with
#   0  what is seen is what the script says
#   1  everything ran, and something else was seen: the surprise is gone, or another
#   2  it could not be set up: no mirror, no tool, or the archive no longer has that version
#
# Packages come from the mirror that this machine's apt is configured with, by an apt with a configuration of its
# own: the machine's lists, packages and locks are not touched, nothing is installed, no privilege is needed.
# They are unpacked with all that they depend on, the C library too, and run by that library's loader.
set -Eeuo pipefail

finding_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
finding_name=$(basename "$0" .sh)
finding_tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$finding_tmp"' EXIT
trap 'exit 2' INT TERM
# Whatever fails before there is a verdict is the set-up.
trap 'exit 2' ERR

say() { printf '%s: %s\n' "$finding_name" "$*"; }
no_setup() { say "could not be set up: $*"; exit 2; }

# finding_says TEXT SEEN WANTED: the verdict on one thing that was seen.
finding_says() {
	if [ "$2" = "$3" ]; then
		say "$1: $2, as before"
	else
		say "$1: '$2', where it was '$3': the surprise is gone, or another"
		exit 1
	fi
}

for tool in apt-get apt-config dpkg-deb timeout; do
	command -v "$tool" >/dev/null || no_setup "$tool is missing"
done

# The mirror that the machine has for Debian's suites ('') or for the security ones ('-security').
mirror() {
	local uri rel
	# shellcheck disable=SC2016 # the fields are apt's
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' 2>/dev/null |
	while read -r uri rel _; do
		[[ $uri != *debian* || ! $rel =~ ^[a-z]+$1$ ]] || { echo "$uri"; break; }
	done
}

# get_packages SUITE FOLDER PACKAGE[=VERSION]...: with what they depend on, unpacked into a folder of $finding_tmp.
get_packages() {
	local suite=$1 root=$finding_tmp/$2 apt=$finding_tmp/apt-$1 kind uri deb pin gone=
	shift 2
	mkdir -p "$root" "$apt"/state/lists/partial "$apt"/cache/archives/partial
	: >"$apt/status"
	if [ ! -e "$apt/apt.conf" ]; then
		for kind in '' -security; do
			uri=$(mirror "$kind")
			[ -n "$uri" ] || { [ -n "$kind" ] || no_setup "apt has no mirror of Debian"; continue; }
			printf 'deb [signed-by=%s arch=amd64] %s %s main\n' \
				/usr/share/keyrings/debian-archive-keyring.gpg "$uri" "$suite$kind"
		done >"$apt/sources.list"
		{
			apt-config dump | grep '^Acquire::' | grep -v -e IndexTargets -e Languages || true
			cat <<-CONF
			Acquire::Languages "none";
			Dir::Etc::Parts "/dev/null";
			Dir::Etc::Main "/dev/null";
			Dir::Etc::SourceList "$apt/sources.list";
			Dir::Etc::SourceParts "/dev/null";
			Dir::Etc::Preferences "/dev/null";
			Dir::Etc::PreferencesParts "/dev/null";
			Dir::State "$apt/state";
			Dir::State::status "$apt/status";
			Dir::Cache "$apt/cache";
			APT::Architecture "amd64";
			APT::Architectures { "amd64"; };
			APT::Sandbox::User "";
			APT::Install-Recommends "false";
			Debug::NoLocking "true";
			CONF
		} >"$apt/apt.conf"
		APT_CONFIG=$apt/apt.conf apt-get -qq update >"$apt/log" 2>&1 || { cat "$apt/log"; no_setup "no index of $suite"; }
	fi
	for pin in "$@"; do
		[[ $pin == *=* ]] || continue
		APT_CONFIG=$apt/apt.conf apt-cache madison "${pin%%=*}" 2>/dev/null | awk -F'[| ]+' '{ print $3 }' |
			grep -xF "${pin#*=}" >/dev/null || gone+=" ${pin%%=*} ${pin#*=}"
	done
	[ -z "$gone" ] || no_setup "the archive no longer has$gone"
	rm -f "$apt"/cache/archives/*.deb
	APT_CONFIG=$apt/apt.conf apt-get -qq -y --download-only --no-install-recommends install "$@" >"$apt/log" 2>&1 ||
		{ cat "$apt/log"; no_setup "$* could not be fetched"; }
	for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
	# All folders with libraries, for the loader.
	find "$root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd: >"$root/.libraries"
}

# run_in FOLDER PROGRAM ARGUMENT...: an unpacked program, with its own libraries.
run_in() {
	local root=$finding_tmp/$1 program=$2 loader
	shift 2
	for loader in "$root/lib64/ld-linux-x86-64.so.2" "$root/usr/lib64/ld-linux-x86-64.so.2"; do
		[ ! -e "$loader" ] || break
	done
	"$loader" --library-path "$(cat "$root/.libraries")" "$root/usr/bin/$program" "$@"
}

# make_disk [HAS_SVM] [HAS_MAIN32]: bare.S and the assembly of standard input, as a disk to boot from,
# $finding_tmp/disk. Its tools come with get_packages SUITE tools binutils.
make_disk() {
	local t=$finding_tmp symbol options=()
	for symbol in "$@"; do options+=(--defsym "$symbol=1"); done
	cat "$finding_dir/bare.S" - >"$t/image.S"
	run_in tools x86_64-linux-gnu-as --64 "${options[@]}" "$t/image.S" -o "$t/image.o"
	run_in tools x86_64-linux-gnu-ld.bfd -m elf_x86_64 --oformat binary -Ttext 0x7c00 -e _start "$t/image.o" -o "$t/disk"
	[ "$(stat -c %s "$t/disk")" -le 33280 ] || no_setup "the image is too long"
	truncate -s 516096 "$t/disk"
}

# run_qemu OPTION...: boots the disk on QEMU's own processor; what it wrote to the serial port on standard output.
run_qemu() {
	local root=$finding_tmp/qemu
	QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu timeout 120 \
		"$BASH" -c "$(declare -f run_in)"'; run_in qemu qemu-system-x86_64 "$@"' run_qemu \
		-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
		-accel tcg -m 64 -nodefaults -display none -no-user-config -no-reboot \
		-serial "file:$finding_tmp/serial" -device isa-debug-exit,iobase=0x8900,iosize=1 \
		"$@" >"$finding_tmp/log" 2>&1 </dev/null || true
	serial_line
}

# run_bochs MODEL: the same on Bochs.
run_bochs() {
	local t=$finding_tmp root=$finding_tmp/bochs
	cat >"$t/bochsrc" <<-CONF
	config_interface: textconfig
	display_library: term
	romimage: file=$root/usr/share/bochs/BIOS-bochs-latest
	vgaromimage: file=$root/usr/share/vgabios/vgabios.bin
	cpu: model=$1, count=1, ips=100000000, reset_on_triple_fault=0
	memory: guest=64, host=64
	ata0-master: type=disk, path=$t/disk, mode=flat
	boot: disk
	com1: enabled=1, mode=file, dev=$t/serial
	speaker: enabled=0
	clock: sync=none, time0=946681200
	log: $t/bochs.log
	panic: action=fatal
	error: action=report
	info: action=ignore
	debug: action=ignore
	CONF
	printf 'continue\nquit\n' >"$t/debugger"
	TERM=dumb LTDL_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu/bochs/plugins timeout 120 \
		"$BASH" -c "$(declare -f run_in)"'; run_in bochs bochs-bin "$@"' run_bochs \
		-q -f "$t/bochsrc" -rc "$t/debugger" >"$t/log" 2>&1 </dev/null || true
	serial_line
}

# What the image wrote, without carriage returns; an image that wrote no line did not start.
serial_line() {
	[ -s "$finding_tmp/serial" ] || { tail -n 5 "$finding_tmp/log" >&2; echo "nothing"; return; }
	tr -d '\r' <"$finding_tmp/serial" | tail -n 1
}
export finding_tmp
