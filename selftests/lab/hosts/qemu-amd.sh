# shellcheck shell=bash disable=SC2154,SC2054,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# The AMD host: QEMU's own translator with every processor feature it knows, SVM and nested paging
# among them. Sets command[] from what boot was asked for.
# Several processors take turns on one thread: with as many threads (LODGE_LAB_THREAD=multi) the
# emulator has locked up hosts that run guests, and shown exits that no processor has, and was no
# faster. LODGE_LAB_CPU is another QEMU model.

HOST_KVM=kvm-amd
HOST_TOOLS=(qemu-system-x86_64=qemu-system-x86)

host_command() {
	local run_port thread=${LODGE_LAB_THREAD:-single} words image=vmlinux
	# An ELF file starts sooner, but by C code for which KASAN has no memory yet.
	# Nor does one come back from sleep.
	[ "$kernel" != 6.12-debug ] && [ -z "$sleep" ] || image=bzImage
	run_port=file,id=run,path=$work/out
	[ -z "$tty" ] || run_port=stdio,id=run,signal=off
	words="console=ttyS0 panic=-1 $(lab_mitigations "$append") nokaslr no_timer_check tsc=reliable quiet"
	words+=" loglevel=5 log_buf_len=4M rcupdate.rcu_cpu_stall_timeout=60"
	words+=" random.trust_cpu=on cryptomgr.notests $append"
	command=(qemu-system-x86_64 -accel "tcg,thread=$thread" -cpu "${LODGE_LAB_CPU:-max}" 
		-M pc -m "$mem" -smp "$smp"
		-nodefaults -display none -no-user-config -no-reboot
		-chardev "file,id=console,path=$work/console" -serial chardev:console
		-chardev "$run_port" -serial chardev:run
		-chardev "file,id=log,path=$work/log" -serial chardev:log
		-kernel "$lab_kdir/$image" -initrd "$work/initrd" -append "$words")
	[ -z "$icount" ] || command+=(-icount shift=0,sleep=off -seed 42
		-rtc base=2024-01-01T00:00:00,clock=vm)
}
