# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# What the two Bochs hosts share; bochs-intel.sh and bochs-amd.sh name the processor.
#
# Bochs interprets one instruction after the other and checks what the manuals say must be checked: a VMCS
# or VMCB that QEMU would take is refused, and the reason is in its log. Its time is its count of
# instructions (100 million are a second), so every run is as with --icount. It has no way
# to be given a kernel: an ISO image with isolinux boots it. Its exit status says nothing.

HOST_TOOLS=(bochs-bin=bochs /usr/share/doc/bochs-term=bochs-term
	/usr/share/bochs/BIOS-bochs-latest=bochsbios /usr/share/vgabios/vgabios.bin=vgabios
	/usr/lib/ISOLINUX/isolinux.bin=isolinux
	/usr/lib/syslinux/modules/bios/ldlinux.c32=syslinux-common genisoimage=genisoimage)

host_image() {
	local iso=$work/iso words
	words="console=ttyS0,115200 nokaslr mitigations=off tsc_early_khz=100000 tsc=reliable"
	words+=" no_timer_check random.trust_cpu=on cryptomgr.notests=1 panic=-1 reboot=t quiet"
	words+=" loglevel=5 log_buf_len=4M $append"
	mkdir -p "$iso/isolinux"
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$iso/isolinux/"
	cp "$lab_kdir/bzImage" "$iso/vmlinuz"
	gzip -1 <"$work/initrd" >"$iso/initrd"
	printf 'default lab\nprompt 0\ntimeout 1\nlabel lab\n kernel /vmlinuz\n append initrd=/initrd %s\n' \
		"$words" >"$iso/isolinux/isolinux.cfg"
	genisoimage -quiet -o "$work/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$iso"
	rm -rf "$iso"
}

host_command() {
	local run_port="mode=file, dev=$work/out"
	[ -z "$tty" ] || run_port="mode=term, dev=$(tty)"
	host_image
	cat >"$work/bochsrc" <<-EOF
	config_interface: textconfig
	display_library: rfb, options="timeout=0"
	romimage: file=/usr/share/bochs/BIOS-bochs-latest
	vgaromimage: file=/usr/share/vgabios/vgabios.bin
	cpu: model=$HOST_MODEL, count=$smp, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
	memory: guest=$mem, host=$mem
	ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
	boot: cdrom
	com1: enabled=1, mode=file, dev=$work/console
	com2: enabled=1, $run_port
	com3: enabled=1, mode=file, dev=$work/log
	speaker: enabled=0
	vga: extension=vbe, update_freq=1, realtime=0
	clock: sync=none, time0=946681200
	log: $work/bochs.log
	panic: action=fatal
	error: action=report
	info: action=ignore
	debug: action=ignore
	EOF
	printf 'continue\nquit\n' >"$work/bochs.debugger"
	command=(bochs-bin -q -f "$work/bochsrc" -rc "$work/bochs.debugger")
}

# What Bochs has to say of VM entries that failed, and of its own end.
host_reasons() {
	grep -E 'VMENTER|VMENTRY|VMLAUNCH|VMRESUME|VMFAIL|VMRUN|PANIC|CPU shutdown' "$work/bochs.log" |
		tail -n 20
}
