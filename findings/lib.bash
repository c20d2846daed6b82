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

# What builds and runs the images, pinned too: none of it is what a finding is about. A script names its own pins.
# shellcheck disable=SC2034 # for the scripts
{
	ASSEMBLER=(binutils=2.40-2)
	COMPILER=(binutils=2.40-2 gcc-12=12.2.0-14+deb12u1 libc6-dev=2.36-9+deb12u14 cpio=2.13+dfsg-7.1
		xz-utils=5.4.1-1+deb12u2)
	QEMU=(qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 seabios=1.16.2-1)
	BOCHS_FIRMWARE=(bochsbios=2.7+dfsg-4+deb12u1 vgabios=0.8a+ds-2)
}

finding_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
finding_name=$(basename "$0" .sh)
finding_tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$finding_tmp"' EXIT
trap 'exit 2' INT TERM
# Whatever fails before there is a verdict is the set-up.
trap 'exit 2' ERR

say() { printf '%s: %s\n' "$finding_name" "$*"; }
no_setup() { say "could not be set up: $*"; exit 2; }

# finding_says TEXT SEEN WANTED: the verdict. An image that does not come as far as a line was not set up.
finding_says() {
	case $2 in ''|nothing) no_setup "the image did not start" ;; esac
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
			case $suite$kind in *-backports-security) continue ;; esac
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
		APT_CONFIG=$apt/apt.conf apt-cache madison "${pin%%=*}" 2>/dev/null | awk -F' *[|] *' '{ print $2 }' |
			grep -xF "${pin#*=}" >/dev/null || gone+=" ${pin%%=*} ${pin#*=}"
	done
	[ -z "$gone" ] || no_setup "the archive no longer has$gone"
	rm -f "$apt"/cache/archives/*.deb
	# A kernel is wanted alone: what it depends on is for installing it.
	case $1 in
	linux-image-*|linux-binary-*) (cd "$apt/cache/archives" && APT_CONFIG=$apt/apt.conf apt-get -qq download "$@") ;;
	*) APT_CONFIG=$apt/apt.conf apt-get -qq -y --download-only --no-install-recommends install "$@" ;;
	esac >"$apt/log" 2>&1 || { cat "$apt/log"; no_setup "$* could not be fetched"; }
	for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
	# All folders with libraries, for the loader.
	find "$root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd: >"$root/.libraries"
}

# unpacked FOLDER PROGRAM: sets command[] to start an unpacked program with its own libraries.
unpacked() {
	local root=$finding_tmp/$1 program
	for program in "$root/usr/bin/$2" "$root/bin/$2"; do [ ! -e "$program" ] || break; done
	for command in "$root/lib64/ld-linux-x86-64.so.2" "$root/usr/lib64/ld-linux-x86-64.so.2"; do
		[ ! -e "$command" ] || break
	done
	command=("$command" --library-path "$(cat "$root/.libraries")" "$program")
}

# run_in FOLDER PROGRAM ARGUMENT...: runs it.
run_in() {
	local command
	unpacked "$1" "$2"
	shift 2
	"${command[@]}" "$@"
}

# make_disk [HAS_SVM] [HAS_MAIN32]: bare.S and the assembly of standard input, as a disk to boot from,
# $finding_tmp/disk. Its tools come with get_packages bookworm tools "${ASSEMBLER[@]}".
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
	local command root=$finding_tmp/qemu
	unpacked qemu qemu-system-x86_64
	QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu timeout 120 "${command[@]}" \
		-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
		-accel tcg -m 64 -nodefaults -display none -no-user-config -no-reboot \
		-serial "file:$finding_tmp/serial" -device isa-debug-exit,iobase=0x8900,iosize=1 \
		"$@" >"$finding_tmp/log" 2>&1 </dev/null || true
	serial_line
}

# run_bochs MODEL: the same on Bochs.
run_bochs() {
	local command t=$finding_tmp root=$finding_tmp/bochs
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
	unpacked bochs bochs-bin
	TERM=dumb LTDL_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu/bochs/plugins timeout 120 "${command[@]}" \
		-q -f "$t/bochsrc" -rc "$t/debugger" >"$t/log" 2>&1 </dev/null || true
	serial_line
}

# make_init: the C program of standard input, linked statically, as the only program of an initramfs, with the KVM
# modules of the folder kernel where that program loads them, by begin() of init.h. Its tools come with
# get_packages bookworm tools "${COMPILER[@]}".
make_init() {
	local t=$finding_tmp r=$finding_tmp/tools gcc module
	local libs=$r/usr/lib/x86_64-linux-gnu
	gcc=$r/usr/lib/gcc/x86_64-linux-gnu/12
	rm -rf "$t/initramfs"
	mkdir -p "$t/initramfs/dev" "$t/initramfs/proc" "$t/initramfs/sys"
	cat >"$t/init.c"
	cp "$finding_dir/init.h" "$t/"
	# By hand, for gcc would start its parts with the machine's libraries.
	run_in tools ../lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -O1 -Wall -nostdinc -isystem "$gcc/include" \
		-isystem "$r/usr/include/x86_64-linux-gnu" -isystem "$r/usr/include" "$t/init.c" -o "$t/init.s"
	run_in tools x86_64-linux-gnu-as --64 "$t/init.s" -o "$t/init.o"
	run_in tools x86_64-linux-gnu-ld.bfd -static -o "$t/initramfs/init" "$libs/crt1.o" "$libs/crti.o" "$t/init.o" \
		--start-group "$libs/libc.a" "$gcc/libgcc.a" "$gcc/libgcc_eh.a" --end-group "$libs/crtn.o"
	for module in irqbypass ccp kvm kvm-amd; do
		find "$t/kernel/" -name "$module.ko*" -exec cp -t "$t/initramfs" {} +
	done
	find "$t/initramfs" -name '*.xz' | while read -r module; do
		run_in tools xz -dc "$module" >"${module%.xz}"
		rm "$module"
	done
	(cd "$t/initramfs" && find . -mindepth 1 | run_in tools cpio -o -H newc --quiet) >"$t/initrd"
}

# run_linux OPTION...: boots the folder kernel with that initramfs; what its init wrote to /dev/ttyS0. $linux_words
# are the last on its command line.
run_linux() {
	run_qemu -serial "file:$finding_tmp/console" -kernel "$(find "$finding_tmp/kernel/" -name "vmlinuz*" -type f)" \
		-initrd "$finding_tmp/initrd" -append \
		"console=ttyS1 quiet panic=-1 ${linux_mitigations-mitigations=off} nokaslr no_timer_check tsc=reliable random.trust_cpu=on ${linux_words:-}" "$@"
}

# The last line that the image wrote, without carriage returns.
serial_line() {
	[ -s "$finding_tmp/serial" ] || { tail -n 5 "$finding_tmp/log" >&2; echo nothing; return; }
	tr -d '\r' <"$finding_tmp/serial" | tail -n 1
}
