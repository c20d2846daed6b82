# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# The debug kernel: Debian's source of 6.12 with debug.config, built in the suite's root folder once
# for each version of the source and of the configuration. The source package is checked against the
# signed index like any other. kernels/VERSION-debug-SUM has what a boot takes, as of a stock kernel;
# usr/src/linux-VERSION-debug-SUM of the root folder what a build of modules takes. SUM is the
# configuration's.

# What building a kernel takes beside the compiler.
DEBUG_KERNEL_TOOLS=(flex bison m4 bc libreadline8t64 libelf-dev zlib1g-dev libzstd-dev libc6-dev
	linux-libc-dev)
DEBUG_KERNEL_MAKE=(make CC=gcc-14 HOSTCC=gcc-14 KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=lodge
	KBUILD_BUILD_HOST=lodge)

# debug_kernel: sets lab_abi and lab_kdir, and builds if need be. Call with the lock held and the
# suite's apt open; while it builds, the lock is free.
debug_kernel() {
	local config=$LAB_DIR/debug.config sum tree
	sum=$(sha256sum "$config" | head -c 8)
	lab_abi=$lab_version-debug-$sum
	lab_kdir=$LAB_CACHE/kernels/$lab_abi
	tree=$LAB_CACHE/$row_where/usr/src/linux-$lab_abi
	! debug_kernel_ready || return 0
	[ "$(id -u)" = 0 ] || die "the debug kernel is built in a $row_where root folder, as root"
	make_rootfs "$row_where" "$row_cc"
	unpack_into "$LAB_CACHE/$row_where" "${DEBUG_KERNEL_TOOLS[@]}"
	lab_deb linux-source-6.12
	lab_unlock
	exec 8>"$LAB_CACHE/debug-kernel.lock"
	flock 8
	# Another one may have built it meanwhile.
	debug_kernel_ready || debug_kernel_build "$config"
	exec 8>&-
	lab_lock
}

# The image comes last.
debug_kernel_ready() {
	[ -e "$tree/Module.symvers" ] &&
		(cd "$lab_kdir" && sha256sum -c --status SHA256SUMS) 2>/dev/null
}

debug_kernel_build() {
	local config=$1 new=$lab_kdir.new log=$LAB_CACHE/debug-kernel.log line
	say "building the debug kernel $lab_abi (once; see $log)"
	rm -rf "$tree" "$lab_kdir" "$new"
	mkdir -p "$tree" "$new/modules"
	dpkg-deb --fsys-tarfile "$lab_file" | tar -xO ./usr/src/linux-source-6.12.tar.xz | xz -dc |
		tar -C "$tree" -x --strip-components=1
	rm -f "$lab_file"
	cp "$config" "$tree/debug.config"
	debug_kernel_make KCONFIG_ALLCONFIG=debug.config allnoconfig >"$log"
	grep '^CONFIG' "$config" | while read -r line; do
		grep -qxF "$line" "$tree/.config" || die "debug.config: the kernel does not take $line"
	done
	debug_kernel_make "-j$(nproc)" bzImage modules >>"$log"
	cp "$tree/arch/x86/boot/bzImage" "$new/"
	cp "$tree/.config" "$new/config"
	strip -o "$new/vmlinux" "$tree/vmlinux"
	find "$tree" -name '*.ko' -exec cp -t "$new/modules" {} +
	# Modules are built with headers, scripts and tools, which are the least of it.
	find "$tree" \( -path "$tree/scripts" -o -path "$tree/tools" \) -prune -o -type f \
		\( -name '*.[coaS]' -o -name '*.ko' -o -name '.*.cmd' -o -name 'vmlinux*' \) -exec rm {} +
	(cd "$new" && sha256sum bzImage vmlinux modules/* >SHA256SUMS)
	mv "$new" "$lab_kdir"
}

debug_kernel_make() {
	in_rootfs "$LAB_CACHE/$row_where" "$tree" "${DEBUG_KERNEL_MAKE[@]}" \
		-C "/usr/src/${tree##*/}" "$@" 2>&1 </dev/null 8>&- || {
		say "make $* failed; see $LAB_CACHE/debug-kernel.log"
		exit "$LAB_TROUBLE"
	}
}
