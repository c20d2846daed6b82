# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# What the Bochs hosts share; bochs-intel.sh, bochs-skylake.sh and bochs-amd.sh name the processor.
#
# Bochs interprets one instruction after the other and checks what the manuals say must be checked:
# a VMCS or VMCB that QEMU would take is refused, and the reason is in its log. Its time is its count
# of instructions (100 million are a second). It has no way to be given a kernel: it boots a disk
# that begins with bochs-loader.S. Its exit status says nothing.

HOST_TOOLS=(bochs-bin=bochs /usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so=bochs-term
	/usr/share/bochs/BIOS-bochs-latest=bochsbios /usr/share/vgabios/vgabios.bin=vgabios
	as=binutils ld=binutils)
BOCHS=(bochs-bin)
BOCHS_BIOS=/usr/share/bochs/BIOS-bochs-latest
# It takes the seeds of RDRAND from the clock.
FROZEN_CLOCK=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1
[ -z "${icount:-}" ] || HOST_TOOLS+=("$FROZEN_CLOCK=libfaketime")

# Sectors of the disk, and where the loader puts the parameters and the command line.
DISK_PARAMS=2 DISK_WORDS=10 DISK_KERNEL=18
AT_PARAMS=$((0x10000)) AT_WORDS=$((0x11000))

# get FILE OFFSET BYTES: a little-endian number.
get() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# words32 NUMBER...: as little-endian words, on standard output.
words32() {
	local n
	for n in "$@"; do
		# shellcheck disable=SC2059 # the format is the bytes
		printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' \
			$((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255)))"
	done
}

# put FILE OFFSET: standard input over what is there.
put() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

sectors() { echo $((($1 + 511) / 512)); }

# The parameters of the boot protocol: the header that the kernel was built with, and what a boot
# loader fills in. The memory map is left to the loader.
host_params() {
	local out=$1 initrd_at=$2 image=$lab_kdir/bzImage end
	truncate -s 4096 "$out"
	end=$((0x202 + $(get "$image" $((0x201)) 1)))
	tail -c +$((0x1f1 + 1)) "$image" | head -c $((end - 0x1f1)) | put "$out" $((0x1f1)) || true
	printf '\xff' | put "$out" $((0x210))
	words32 "$initrd_at" "$(stat -c %s "$work/initrd")" | put "$out" $((0x218))
	words32 "$AT_WORDS" | put "$out" $((0x228))
}

# The list that the loader reads: each loadable part of the ELF file lies whole on the disk, where
# the file has it.
host_table() {
	local vmlinux=$lab_kdir/vmlinux initrd_at=$1 initrd_sector=$2 i at offset size high=0
	words32 "$(get "$vmlinux" 24 4)" 0
	words32 "$DISK_PARAMS" 8 "$AT_PARAMS" "$DISK_WORDS" 8 "$AT_WORDS"
	for ((i = 0; i < $(get "$vmlinux" 56 2); i++)); do
		at=$(($(get "$vmlinux" 32 8) + i * 56))
		[ "$(get "$vmlinux" "$at" 4)" = 1 ] || continue
		offset=$(get "$vmlinux" $((at + 8)) 8)
		size=$(get "$vmlinux" $((at + 32)) 8)
		[ $((offset % 512)) = 0 ] || die "a part of the kernel begins within a sector"
		words32 $((DISK_KERNEL + offset / 512)) "$(sectors "$size")" \
			"$(get "$vmlinux" $((at + 24)) 8)"
		high=$(($(get "$vmlinux" $((at + 24)) 8) + $(get "$vmlinux" $((at + 40)) 8)))
	done
	[ "$high" -lt "$initrd_at" ] || die "--mem $mem is too little"
	words32 "$initrd_sector" "$(sectors "$(stat -c %s "$work/initrd")")" "$initrd_at" 0 0 0
}

host_image() {
	local disk=$work/disk.img words low=$mem initrd_at initrd_sector size
	# hpet=disable is for the firmware, which may hang otherwise.
	words="console=ttyS0,115200 nokaslr $(lab_mitigations "$append") tsc_early_khz=100000 tsc=reliable"
	words+=" no_timer_check random.trust_cpu=on cryptomgr.notests=1 panic=-1 reboot=p hpet=disable quiet"
	words+=" loglevel=5 log_buf_len=4M $append"
	[ ${#words} -lt 2048 ] || die "--append is too long"
	# The firmware keeps its tables at the end of memory. What is above 1 GiB may become one page.
	[ "$low" -le 1024 ] || low=1024
	initrd_at=$((((low - 2) * 1048576 - $(stat -c %s "$work/initrd")) & ~4095))
	initrd_sector=$((DISK_KERNEL + $(sectors "$(stat -c %s "$lab_kdir/vmlinux")")))
	as --64 "$LAB_DIR/hosts/bochs-loader.S" -o "$work/loader.o"
	ld -m elf_x86_64 --oformat binary -Ttext 0x7c00 -e _start "$work/loader.o" -o "$disk"
	host_table "$initrd_at" "$initrd_sector" >"$work/table"
	put "$disk" 512 <"$work/table"
	host_params "$work/params" "$initrd_at"
	put "$disk" $((512 * DISK_PARAMS)) <"$work/params"
	printf '%s\0' "$words" | put "$disk" $((512 * DISK_WORDS))
	truncate -s $((512 * DISK_KERNEL)) "$disk"
	cat "$lab_kdir/vmlinux" >>"$disk"
	truncate -s $((512 * initrd_sector)) "$disk"
	cat "$work/initrd" >>"$disk"
	# Whole cylinders, of 16 heads and 63 sectors.
	size=$(stat -c %s "$disk")
	truncate -s $(((size + 516095) / 516096 * 516096)) "$disk"
}

# Debian 13's Bochs in place of the machine's: unpacked, with the C and C++ libraries that it was built
# for. The other libraries are those of the machine's Bochs.
bochs_3() {
	local dir=$LAB_CACHE/bochs-3.0 pkg debs=()
	lab_lock
	lab_apt_open 6.12
	for pkg in bochs bochsbios libc6 libgcc-s1 libstdc++6 libtinfo6; do
		lab_deb "$pkg"
		debs+=("$lab_file")
	done
	if [ "$(cat "$dir/made-of" 2>/dev/null)" != "${debs[*]}" ]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		for pkg in "${debs[@]}"; do dpkg-deb -x "$pkg" "$dir"; done
		echo "${debs[*]}" >"$dir/made-of"
	fi
	lab_unlock
	unset APT_CONFIG
	BOCHS_BIOS=$dir/usr/share/bochs/BIOS-bochs-latest
	export LTDL_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu/bochs/plugins
	BOCHS=("$dir/usr/lib64/ld-linux-x86-64.so.2" --library-path "$dir/usr/lib/x86_64-linux-gnu"
		"$dir/usr/bin/bochs-bin")
}

# What a kernel, or a hypervisor, takes for granted on Intel, and Bochs lacks: PLATFORM_ID, the microcode's revision, the
# machine check's state, with no banks, MISC_ENABLE, with fast strings, without BTS and PEBS, and DEBUGCTL. A line is the
# number, a type (none), and, each in two halves, the value at reset, the reserved bits, those that cannot be written.
host_msrs() {
	cat <<-EOT
	0x017 0 0x00000000 0x00000000 0x00000000 0x00000000 0xffffffff 0xffffffff
	0x08b 0 0x00000001 0x00000000 0x00000000 0x00000000 0xffffffff 0xffffffff
	0x179 0 0x00000000 0x00000000 0x00000000 0x00000000 0xffffffff 0xffffffff
	0x17a 0 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000
	0x1a0 0 0x00000000 0x00001801 0x00000000 0x00000000 0x00000000 0x00000000
	0x1d9 0 0x00000000 0x00000000 0xffffffff 0xffff003c 0x00000000 0x00000000
	EOT
}

host_command() {
	local run_port="mode=file, dev=$work/out" panic=fatal bad_msrs=ignore_bad_msrs=1 i
	[ -z "$tty" ] || run_port="mode=term, dev=$(tty)"
	case ${LODGE_LAB_BOCHS:-${HOST_BOCHS:-2.7}} in
	2.7) ;;
	3.0) bochs_3 ;;
	*) die "LODGE_LAB_BOCHS is 2.7 or 3.0" ;;
	esac
	case ${LODGE_LAB_BOCHS_BAD_MSRS:-1} in
	1) ;;
	0)
		host_msrs >"$work/msrs"
		bad_msrs="ignore_bad_msrs=0, msrs=\"$work/msrs\"" ;;
	*) die "LODGE_LAB_BOCHS_BAD_MSRS is 0 or 1" ;;
	esac
	host_image
	for ((i = 0; i < smp; i++)); do panic+=${HOST_CPU_PANIC:+", cpu$i=$HOST_CPU_PANIC"}; done
	cat >"$work/bochsrc" <<-EOT
	config_interface: textconfig
	display_library: rfb, options="timeout=0"
	romimage: file=$BOCHS_BIOS
	vgaromimage: file=/usr/share/vgabios/vgabios.bin
	cpu: model=${LODGE_LAB_CPU:-$HOST_MODEL}, count=$smp, ips=100000000, reset_on_triple_fault=0, $bad_msrs
	memory: guest=$mem, host=$((mem < 2048 ? mem : 2048))
	ata0-master: type=disk, path=$work/disk.img, mode=flat
	boot: disk
	floppy_bootsig_check: disabled=1
	com1: enabled=1, mode=file, dev=$work/console
	com2: enabled=1, $run_port
	com3: enabled=1, mode=file, dev=$work/log
	speaker: enabled=0
	vga: extension=vbe, update_freq=1, realtime=0
	clock: sync=none, time0=946681200
	log: $work/bochs.log
	panic: action=$panic
	error: action=report
	info: action=ignore
	debug: action=ignore
	EOT
	mkfifo "$work/bochs.log"
	host_complaints &
	host_reader=$!
	# Its debugger stops at each triple fault, a guest's too.
	{
		yes continue | head -n 100000 || true
		echo quit
	} >"$work/bochs.debugger"
	command=("${BOCHS[@]}" -q -f "$work/bochsrc" -rc "$work/bochs.debugger")
	[ -z "$icount" ] || command=(env LD_PRELOAD="$FROZEN_CLOCK" FAKETIME_DONT_FAKE_MONOTONIC=1
		FAKETIME="2024-01-01 00:00:00" "${command[@]}")
}

# What Bochs complains of, without what any kernel has it say and what it says of ordinary exits.
# It comes through a pipe: a guest that faults without end fills a disk with one line.
host_complaints() {
	awk '!/^[0-9]+[ep]\[/ || /Unknown register|SVM VMEXIT|VMEXIT:|soft power off/ { next }
		{
			kind = substr($0, index($0, "["))
			gsub(/[0-9a-f]+/, "", kind)
			if (++seen[kind] <= 500) print
		}' <"$work/bochs.log" >"$work/complaints"
}

# Called when Bochs has ended. It may not have come as far as opening its log.
host_end() {
	exec 9<>"$work/bochs.log"
	exec 9>&-
	wait "$host_reader" || true
	host_reader=
}
