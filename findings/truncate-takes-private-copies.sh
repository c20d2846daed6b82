#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, on QEMU.
# Input: a process maps four pages of a memfd MAP_PRIVATE and writes its own data into them. Another one punches a hole
#   over the first two pages of the file, and then makes the file shorter by the last two, and as long again.
# Most expect: what the process has written stays in both cases: its pages are copies of its own, and no longer the file's
#   (mmap(2), MAP_PRIVATE).
# Seen: they stay behind the hole, and are gone behind the shortening: the process reads zeros there, without a signal,
#   where it has written. Who shares a memfd with others by private mappings has to seal it against shrinking.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>

#include "init.h"

#define PAGE 4096

int main(void)
{
	volatile char *mem;
	FILE *out;
	int fd, i;

	out = begin();
	fd = memfd_create("file", 0);
	if (ftruncate(fd, 4 * PAGE))
		return 1;
	mem = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	for (i = 0; i < 4; i++)
		mem[i * PAGE] = 7;
	if (!fork())
		_exit(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE) ||
		      ftruncate(fd, 2 * PAGE) || ftruncate(fd, 4 * PAGE));
	wait(NULL);
	fprintf(out, "behind the hole %d %d, behind the shortening %d %d\n", mem[0], mem[PAGE], mem[2 * PAGE], mem[3 * PAGE]);
	end(out);
}
C
finding_says "private copies" "$(run_linux -cpu max -m 512)" "behind the hole 7 7, behind the shortening 0 0"
