# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: GPL-2.0
#
# Root folders of Debian's suites: of a newer one, for its compiler and what its build tools link with; others for tests.

# make_rootfs SUITE PROGRAM [FOLDER PACKAGES]: one with that program in /usr/bin, a compiler unless more is said; once;
# leaves APT_CONFIG as it is. Call with the lock held.
make_rootfs() {
	local suite=$1 root=$LAB_CACHE/${3:-$1} uri key saved=${APT_CONFIG:-}
	local packages=${4:-$2,make,libelf1t64,libdw1t64,libssl3t64,zlib1g,libzstd1}
	[ ! -e "$root/lodge-ready" ] || [ ! -e "$root/usr/bin/$2" ] || return 0
	[ "$(id -u)" = 0 ] || die "this, with $kernel, takes a $suite root folder in $LAB_CACHE," \
		"which only root can make and use"
	lab_need debootstrap=debootstrap
	say "making a $suite root folder with ${packages%%,*} (once, a minute or two)"
	unset APT_CONFIG
	read -r uri key < <(lab_mirror "$suite") || die "no Debian mirror is configured"
	rm -rf "$root"
	mkdir -p "$root"
	debootstrap --variant=minbase --keyring="$key" \
		--include="$packages" \
		"$suite" "$root" "$uri" >"$LAB_CACHE/debootstrap.log" 2>&1 </dev/null || {
		tail -n 20 "$LAB_CACHE/debootstrap.log" >&2
		die "debootstrap failed"
	}
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
	touch "$root/lodge-ready"
	[ -z "$saved" ] || export APT_CONFIG=$saved
}

# unpack_into ROOT PACKAGE...: files alone, no scripts of the packages. Call with the lock held.
unpack_into() {
	local root=$1 pkg
	shift
	for pkg in "$@"; do
		lab_deb "$pkg"
		dpkg-deb --fsys-tarfile "$lab_file" | tar -C "$root" -x --keep-directory-symlink
	done
}

# in_rootfs ROOT DIR COMMAND...: run it there, where DIR is /build.
in_rootfs() {
	local root=$1 dir=$2
	shift 2
	mkdir -p "$root/build"
	# shellcheck disable=SC2016 # the inner shell expands these
	unshare -m sh -c 'mount --bind "$2" "$1/build" && mount -t proc proc "$1/proc" &&
		root=$1 && shift 2 && exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C "$@"' \
		sh "$root" "$dir" "$@"
}
