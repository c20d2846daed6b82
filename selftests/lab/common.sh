# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the lab's commands share: messages, the tools of the build machine, and stock kernels.
#
# A stock kernel is two or more Debian packages. Which ones is looked up in the suite's own signed
# index each time (the suites move), by an apt that is configured privately: its sources are the
# machine's own mirrors with another suite's name, its lists and archives live in the cache folder,
# and the machine's apt is neither changed nor locked.
#
# The cache: $XDG_CACHE_HOME/lodge (or ~/.cache/lodge)
#   apt/KERNEL/      lists of the suites that one kernel comes from
#   debs/            packages; the SHA256 of the signed index is checked again before each use
#   kernels/ABI/     vmlinux, bzImage and the modules of an image package, with their SHA256SUMS
#   headers/ABI/     unpacked header packages
#   trixie/          a root folder with the compiler that the newer kernels want (see rootfs.sh)

# shellcheck source=rootfs.sh
. "$LAB_DIR/rootfs.sh"
# shellcheck source=debug-kernel.sh
. "$LAB_DIR/debug-kernel.sh"

# How make was called, if it was, is nothing to the makes that are run here: what those print is read.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

LAB_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/lodge
# What makes a line of the host's kernel log a report.
# shellcheck disable=SC2034 # read by boot and check
LAB_REPORTS='BUG:|WARNING:|Oops|KASAN|UBSAN|ODEBUG|lockdep([^_]|$)|general protection|unreferenced object|unchecked MSR'
# Seconds for which a fetched index is taken as current.
LAB_INDEX_AGE=${LODGE_LAB_INDEX_AGE:-3600}

# The one table: name, suites (main ones, then security ones), pattern of the kernel's ABI name,
# compiler (its: the one that its headers name, for a suite that moves), and the folder to build in (host: the
# machine's own; else a suite's root folder).
lab_table() {
	cat <<-'EOF'
	5.10      bullseye,bullseye-security  5\.10\.0-[0-9]+-amd64               gcc-12 host
	6.1       bookworm,bookworm-security  6\.1\.0-[0-9]+-amd64                gcc-12 host
	6.1-cloud bookworm,bookworm-security  6\.1\.0-[0-9]+-cloud-amd64          gcc-12 host
	6.1-rt    bookworm,bookworm-security  6\.1\.0-[0-9]+-rt-amd64             gcc-12 host
	6.12      trixie,trixie-security      6\.12\.[0-9]+\+deb13(\.[0-9]+)?-amd64 gcc-14 trixie
	6.12-cloud trixie,trixie-security     6\.12\.[0-9]+\+deb13(\.[0-9]+)?-cloud-amd64 gcc-14 trixie
	6.12-rt   trixie,trixie-security      6\.12\.[0-9]+\+deb13(\.[0-9]+)?-rt-amd64 gcc-14 trixie
	6.12-debug trixie,trixie-security     6\.12\.[0-9]+\+deb13(\.[0-9]+)?-amd64 gcc-14 trixie
	7.3       trixie-backports            7\.3\.[0-9]+\+deb13(\.[0-9]+)?-amd64  gcc-14 trixie
	sid       sid                         [0-9]+\.[0-9.]+(\+deb[0-9]+(\.[0-9]+)?)?-amd64 its sid
	experimental experimental,sid         [0-9]+\.[0-9.]+(\+deb[0-9]+(\.[0-9]+)?)?-amd64 its sid
	EOF
}

lab_names() { lab_table | awk '{ print $1 }' | tr '\n' ' '; }

# The exit status of every command of the lab for trouble of its own (not of what it runs).
LAB_TROUBLE=121

say() { printf '%s: %s\n' "${LAB_NAME:-lab}" "$*" >&2; }
die() { say "$*"; exit "$LAB_TROUBLE"; }

# lab_row KERNEL: sets row_suites row_pattern row_cc row_where.
lab_row() {
	local line
	line=$(lab_table | awk -v k="$1" '$1 == k') || true
	[ -n "$line" ] || die "unknown kernel '$1' (known: $(lab_names))"
	# shellcheck disable=SC2034 # read by the scripts that source this file
	read -r _ row_suites row_pattern row_cc row_where <<<"$line"
}

# lab_need TOOL=PACKAGE...: install the packages of the missing tools as root, or name them and stop.
# A tool with a slash is a file. Ask for all at once: the one line that is printed should do.
lab_need() {
	local pair tool missing=()
	for pair in "$@"; do
		tool=${pair%%=*}
		case $tool in
		*/*) [ -e "$tool" ] || missing+=("${pair#*=}") ;;
		*) command -v "$tool" >/dev/null 2>&1 || missing+=("${pair#*=}") ;;
		esac
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		say "packages are missing; as root: apt-get install -y --no-install-recommends ${missing[*]}"
		exit "$LAB_TROUBLE"
	fi
	say "installing ${missing[*]}"
	mkdir -p "$LAB_CACHE"
	local log=$LAB_CACHE/apt-install.log
	(
		flock 7
		# Not by the private configuration, which may be in force.
		unset APT_CONFIG
		apt-get update && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y --no-install-recommends "${missing[@]}"
	) >"$log" 2>&1 </dev/null 7>"$LAB_CACHE/apt-install.lock" || {
		tail -n 20 "$log" >&2
		die "apt-get install ${missing[*]} failed"
	}
}

# shellcheck disable=SC2034 # the lists are for the scripts that source this file
LAB_EMULATOR_TOOLS=(qemu-system-x86_64=qemu-system-x86 busybox=busybox-static cpio=cpio
	xz=xz-utils zstd=zstd lz4=lz4)
# The build tools that come with header packages are linked with libelf.
# shellcheck disable=SC2034
LAB_BUILD_TOOLS=(make=make gcc-12=gcc-12 /usr/include/linux/types.h=linux-libc-dev
	/usr/lib/x86_64-linux-gnu/libelf.so.1=libelf1 xz=xz-utils)
# shellcheck disable=SC2034
LAB_PROGRAM_TOOLS=(make=make gcc=gcc /usr/include/stdio.h=libc6-dev)
# shellcheck disable=SC2034
LAB_STYLE_TOOLS=(perl=perl shellcheck=shellcheck nm=binutils xz=xz-utils sparse=sparse)
# shellcheck disable=SC2034
LAB_PACKAGE_TOOLS=(dpkg-buildpackage=dpkg-dev dh=debhelper dh_dkms=dh-dkms)
# Not every busybox is static.
if command -v busybox >/dev/null && LC_ALL=C ldd "$(command -v busybox)" >/dev/null 2>&1; then
	LAB_EMULATOR_TOOLS+=(/usr/share/doc/busybox-static=busybox-static)
fi

# The machine's own mirror for one suite, and the keyring its source names: "URI KEYRING".
lab_mirror() {
	local suite=$1 want='^[a-z]+$' uri rel comp key
	# shellcheck disable=SC2016 # the fields are apt's
	local format='$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)'
	case $suite in *-security) want='^[a-z]+-security$' ;; esac
	while read -r uri rel comp key; do
		[[ $comp == main && $rel =~ $want ]] || continue
		case ${rel%-security} in
		buster|bullseye|bookworm|trixie|forky|duke|sid|stable|oldstable|testing|unstable) ;;
		*) continue ;;
		esac
		case $key in /*) ;; *) key=/usr/share/keyrings/debian-archive-keyring.gpg ;; esac
		printf '%s %s\n' "$uri" "$key"
		return 0
	done < <(apt-get indextargets --format "$format" 'Identifier: Packages' 2>/dev/null)
	return 1
}

# lab_apt_open KERNEL: point APT_CONFIG at the private configuration of that kernel's suites.
lab_apt_open() {
	local kernel=$1 dir=$LAB_CACHE/apt/$1 suite uri key found=0
	lab_row "$kernel"
	mkdir -p "$dir"/state/lists/partial "$dir"/cache/archives/partial "$LAB_CACHE/debs"
	unset APT_CONFIG
	: >"$dir/sources.list.new"
	for suite in ${row_suites//,/ }; do
		read -r uri key < <(lab_mirror "$suite") || {
			case $suite in
			*-security) continue ;;
			*) die "apt is configured with no Debian mirror; cannot look up $suite" ;;
			esac
		}
		printf 'deb [signed-by=%s arch=amd64] %s %s main\n' "$key" "$uri" "$suite" \
			>>"$dir/sources.list.new"
		found=1
	done
	[ $found = 1 ] || die "no mirror for $row_suites"
	cmp -s "$dir/sources.list.new" "$dir/sources.list" || {
		cp "$dir/sources.list.new" "$dir/sources.list"
		rm -f "$dir/stamp"
	}
	{
		# The machine's way to its mirrors (proxies, time-outs) applies here too; its hooks do not.
		apt-config dump | grep '^Acquire::' | grep -v -e '^Acquire::IndexTargets' \
			-e '^Acquire::Languages' || true
		cat <<-EOF
		Acquire::Languages "none";
		Dir::Etc::Parts "/dev/null";
		Dir::Etc::Main "/dev/null";
		Dir::Etc::SourceList "$dir/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::Etc::Preferences "/dev/null";
		Dir::Etc::PreferencesParts "/dev/null";
		Dir::State "$dir/state";
		Dir::State::status "/dev/null";
		Dir::Cache "$dir/cache";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "";
		EOF
	} >"$dir/apt.conf.new"
	mv "$dir/apt.conf.new" "$dir/apt.conf"
	export APT_CONFIG=$dir/apt.conf
	lab_apt_update "$dir"
}

lab_apt_update() {
	local dir=$1 now age
	now=$(date +%s)
	age=$((now - $(stat -c %Y "$dir/stamp" 2>/dev/null || echo 0)))
	[ "$age" -gt "$LAB_INDEX_AGE" ] || return 0
	if apt-get -qq update >"$dir/update.log" 2>&1 && ! grep -q '^[EW]:' "$dir/update.log"; then
		touch "$dir/stamp"
	elif [ -e "$dir/stamp" ]; then
		say "the index of $row_suites could not be refreshed; using the one fetched earlier"
	else
		cat "$dir/update.log" >&2
		die "the index of $row_suites could not be fetched"
	fi
}

# lab_resolve KERNEL: sets lab_abi (6.1.0-56-amd64) and lab_version (6.1.192-2). Call with the lock held.
lab_resolve() {
	local memo=$LAB_CACHE/apt/$1/resolved
	lab_apt_open "$1"
	if [ "$memo" -nt "${memo%/*}/stamp" ]; then
		read -r lab_abi lab_version <"$memo"
		return 0
	fi
	lab_abi=$(apt-cache pkgnames linux-image- | grep -E "^linux-image-${row_pattern}\$" |
		sort -V | tail -n 1 | sed 's/^linux-image-//') || true
	[ -n "$lab_abi" ] || die "no package linux-image-$row_pattern in $row_suites"
	lab_version=$(apt-cache --no-all-versions show "linux-image-$lab_abi" | sed -n 's/^Version: //p')
	printf '%s %s\n' "$lab_abi" "$lab_version" >"$memo"
}

# lab_known_version KERNEL: what it was when it was looked up last.
lab_known_version() { cut -d' ' -f2 "$LAB_CACHE/apt/$1/resolved" 2>/dev/null || true; }

# lab_compiler: the compiler that the headers of lab_abi name, where the table leaves it to them.
lab_compiler() {
	[ "$row_cc" = its ] || return 0
	row_cc=$(apt-cache --no-all-versions show "linux-headers-$lab_abi" |
		sed -n 's/^Depends: .*\(gcc-[0-9]*\).*/\1/p')
	[ -n "$row_cc" ] || die "linux-headers-$lab_abi names no compiler"
}

# lab_deb PACKAGE: fetch (if needed) and check one package of the opened suites; sets lab_file.
lab_deb() {
	local pkg=$1 show name sum
	show=$(apt-cache --no-all-versions show "$pkg") || die "no package $pkg in $row_suites"
	name=$(sed -n 's/^Filename: .*\///p' <<<"$show")
	sum=$(sed -n 's/^SHA256: //p' <<<"$show")
	[[ -n $name && ${#sum} = 64 ]] || die "the index entry of $pkg is incomplete"
	lab_file=$LAB_CACHE/debs/$name
	if [ -e "$lab_file" ] && echo "$sum  $lab_file" | sha256sum -c --status; then
		return 0
	fi
	say "fetching $name"
	rm -rf "$LAB_CACHE/debs/new"
	mkdir -p "$LAB_CACHE/debs/new"
	(cd "$LAB_CACHE/debs/new" && apt-get -qq download "$pkg") >"$LAB_CACHE/debs/log" 2>&1 || {
		cat "$LAB_CACHE/debs/log" >&2
		die "$pkg could not be fetched"
	}
	mv "$LAB_CACHE/debs/new/"*.deb "$lab_file"
	echo "$sum  $lab_file" | sha256sum -c --status || {
		rm -f "$lab_file"
		die "$name does not have the checksum of the signed index"
	}
}

# Everything that reads or changes the cache's folders runs under this lock.
lab_lock() {
	mkdir -p "$LAB_CACHE"
	exec 7>"$LAB_CACHE/lock"
	flock 7
}
lab_unlock() { exec 7>&-; }

# The compressed kernel inside a bzImage, unpacked: the boot protocol's header says where it lies.
lab_unpack_vmlinux() {
	local image=$1 out=$2 sects off len
	sects=$(od -An -tu1 -j 497 -N 1 "$image" | tr -d ' ')
	off=$(od -An -tu4 -j 584 -N 4 "$image" | tr -d ' ')
	len=$(od -An -tu4 -j 588 -N 4 "$image" | tr -d ' ')
	off=$((off + (sects + 1) * 512))
	tail -c +$((off + 1)) "$image" | head -c "$len" >"$out.packed" || true
	case $(od -An -tx1 -N 4 "$out.packed" | tr -d ' ') in
	fd377a58) xz -dc --single-stream <"$out.packed" >"$out" 2>/dev/null || true ;;
	28b52ffd) zstd -dcq <"$out.packed" >"$out" 2>/dev/null || true ;;
	02214c18) lz4 -dcq <"$out.packed" >"$out" 2>/dev/null || true ;;
	1f8b*) gzip -dc <"$out.packed" >"$out" 2>/dev/null || true ;;
	*) rm -f "$out.packed"; return 1 ;;
	esac
	rm -f "$out.packed"
	[ "$(od -An -tx1 -N 4 "$out" | tr -d ' ')" = 7f454c46 ]
}

# The folders of an image package whose modules the lab may load.
LAB_MODULES='arch/x86/kvm arch/x86/kernel virt/lib drivers/crypto/ccp drivers/char/hw_random drivers/virtio
	block drivers/block drivers/ata drivers/scsi drivers/vhost net/core drivers/net lib crypto arch/x86/crypto fs/9p net/9p'

# lab_kernel KERNEL: fetch, unpack and check a stock kernel.
# Sets lab_abi, lab_version and lab_kdir (bzImage, vmlinux, modules/*.ko, config).
lab_kernel() {
	local kernel=$1 new
	lab_lock
	lab_resolve "$kernel"
	lab_kdir=$LAB_CACHE/kernels/$lab_abi
	if [ "$kernel" = 6.12-debug ]; then
		debug_kernel
	elif [ "$(cat "$lab_kdir/version" 2>/dev/null)" != "$lab_version" ] ||
	   [ "$(cat "$lab_kdir/folders" 2>/dev/null)" != "$LAB_MODULES" ] ||
	   ! (cd "$lab_kdir" && sha256sum -c --status SHA256SUMS 2>/dev/null); then
		new=$LAB_CACHE/kernels/new
		rm -rf "$new" "$lab_kdir"
		mkdir -p "$new/modules" "$new/x"
		lab_unpack_packages "$new/x"
		lab_unpack_image "$new"
		rm -rf "$new/x"
		(cd "$new" && sha256sum bzImage vmlinux modules/* >SHA256SUMS)
		printf '%s\n' "$LAB_MODULES" >"$new/folders"
		printf '%s\n' "$lab_version" >"$new/version"
		mv "$new" "$lab_kdir"
	fi
	lab_unlock
	unset APT_CONFIG
	say "kernel $kernel is $lab_abi, version $lab_version"
}

# Older suites ship a kernel as one package, newer ones as several.
lab_unpack_packages() {
	local part pkg
	mkdir -p "$1"
	for part in image binary modules base; do
		pkg=linux-$part-$lab_abi
		apt-cache pkgnames "$pkg" | grep -xF "$pkg" >/dev/null || continue
		lab_deb "$pkg"
		# tar fails where a pattern has no match, as each part has only some of them.
		dpkg-deb --fsys-tarfile "$lab_file" | tar -C "$1" -x --wildcards --no-anchored \
			"vmlinuz*" "./boot/config-*" "*/modules/*/config" "*.ko" "*.ko.xz" "*.ko.zst" 2>/dev/null || true
	done
}

lab_unpack_image() {
	local new=$1 dir mods f
	f=$(find "$new/x" -name "vmlinuz*" -type f | head -n 1)
	[ -n "$f" ] || die "no kernel in the packages of $lab_abi"
	cp "$f" "$new/bzImage"
	f=$(find "$new/x" -name "config*" -type f | head -n 1)
	[ -z "$f" ] || cp "$f" "$new/config"
	lab_unpack_vmlinux "$new/bzImage" "$new/vmlinux" || die "no ELF kernel in $lab_file"
	mods=$(find "$new/x" -type d -path "*/modules/*/kernel" | head -n 1)
	[ -n "$mods" ] || die "no modules in the packages of $lab_abi"
	for dir in $LAB_MODULES; do
		[ -d "$mods/$dir" ] || continue
		case $dir in
		block|drivers/block|drivers/ata|drivers/scsi|drivers/net|net/core|lib|crypto|arch/x86/crypto)
			find "$mods/$dir" -maxdepth 1 -name '*.ko*' ;;
		*) find "$mods/$dir" -name '*.ko*' ;;
		esac
	done | while read -r f; do
		cp -n "$f" "$new/modules/"
	done
	find "$new/modules" -name '*.xz' -exec xz -dq {} +
	find "$new/modules" -name '*.zst' -exec zstd -dq --rm {} +
}

# lab_module_order DIR MODULE...: the modules and what they depend on, in loading order, one a line.
lab_module_order() {
	local dir=$1 m dep
	shift
	for m in "$@"; do
		[ -e "$dir/$m.ko" ] || continue
		for dep in $(tr '\0' '\n' <"$dir/$m.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
			[ -e "$dir/$dep.ko" ] || dep=${dep//_/-}
			lab_module_order "$dir" "$dep"
		done
		printf '%s\n' "$m"
	done | awk '!seen[$0]++'
}

# lab_cpio DIR: a newc archive of DIR whose bytes depend on names, modes and contents alone.
lab_cpio() {
	find "$1" -exec touch -h -d @0 {} +
	(cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
		cpio -0 -o -H newc --reproducible --owner=+0:+0 --quiet)
}

# lab_mitigations WORDS: the host's mitigations are off, for speed, unless the words of its user say otherwise. Not both:
# Linux 7.3 stays with "off", older ones with the last word.
lab_mitigations() {
	case " $1 " in
	*" mitigations="*) ;;
	*) echo mitigations=off ;;
	esac
}
