#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, on QEMU.
# Input: a process maps a memfd of 256 MiB, MAP_PRIVATE and writable, and forks: before it uses the mapping, after it
#   has read every page, and after it has written one byte. The children do nothing.
# Most expect: the last child has more page tables than the others by one, for the one page that is no longer the file's
#   (fork(2): a private mapping is copied on write; what is the file's can be found again through the file).
# Seen: 40 KiB of page tables in the first two, 552 in the third: one write, and each fork copies the entries of all
#   pages that were ever touched. At 1 GiB that is 300 times the work, for one byte.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (256UL << 20)

static FILE *out;

/* KiB of page tables of a child that does nothing. */
static void child(const char *when)
{
	if (!fork()) {
		char line[200];
		FILE *f = fopen("/proc/self/status", "r");

		while (f && fgets(line, sizeof(line), f)) {
			int kib;

			if (sscanf(line, "VmPTE: %d", &kib) == 1)
				fprintf(out, "%s: %s", when, kib < 256 ? "few, " : "all");
		}
		fflush(out);
		_exit(0);
	}
	wait(NULL);
}

int main(void)
{
	static volatile char sum;
	unsigned long i;
	char *mem;
	int fd;

	mount("", "/dev", "devtmpfs", 0, NULL);
	mount("", "/proc", "proc", 0, NULL);
	out = fopen("/dev/ttyS0", "w");
	fd = memfd_create("file", 0);
	if (ftruncate(fd, SIZE))
		return 1;
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	child("unused");
	for (i = 0; i < SIZE; i += 4096)
		sum += mem[i];
	child("all read");
	mem[0] = 1;
	child("one written");
	fprintf(out, "\n");
	fclose(out);
	sleep(1);
	reboot(RB_AUTOBOOT);
}
C
finding_says "page tables of a child" "$(run_linux -cpu max -m 1024)" \
	"unused: few, all read: few, one written: all"
