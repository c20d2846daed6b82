# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: GPL-2.0
#
# The Linux guest that demo and check boot, as a payload for boot: a stock kernel, a busybox
# initramfs with that kernel's virtio drivers, and a disk. For use after common.sh.

# lab_guest KERNEL DIR [MODULE...]: fill DIR/guest; with these modules too.
lab_guest() {
	local dir=$2/guest base=$2 root m
	lab_kernel "$1"
	shift 2
	mkdir -p "$dir"
	cp "$lab_kdir/bzImage" "$dir/bzImage"
	root=$(mktemp -d "$base/root.XXXXXX")
	mkdir -p "$root"/{bin,dev,proc,sys,modules}
	cp "$(command -v busybox)" "$root/bin/busybox"
	cp "$LAB_DIR/guest-init" "$root/init"
	chmod 0755 "$root/init" "$root/bin/busybox" "$root"
	lab_module_order "$lab_kdir/modules" virtio_mmio virtio_blk "$@" >"$root/modules/order"
	while read -r m; do
		cp "$lab_kdir/modules/$m.ko" "$root/modules/"
	done <"$root/modules/order"
	lab_cpio "$root" >"$dir/initrd"
	rm -rf "$root"
	rm -f "$dir/disk"
	truncate -s 8M "$dir/disk"
}

# lab_guest_command DEVICE CPUS WORDS: the shell command that boots it, on the emulated host.
lab_guest_command() {
	printf '%s' "/guest/lodge-run --device $1 --kernel /guest/bzImage --initrd /guest/initrd" \
		" --mem 256M --cpus $2 --disk /guest/disk" \
		" --append 'console=ttyS0 panic=-1 quiet random.trust_cpu=on lodge.disk $3'"
}
