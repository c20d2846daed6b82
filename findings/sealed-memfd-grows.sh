#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, on QEMU.
# Input: a memfd of 64 MiB that nobody has written to is sealed with F_SEAL_WRITE, F_SEAL_GROW and F_SEAL_SHRINK. A process
#   maps it MAP_PRIVATE and writes a byte into every page.
# Most expect: the file stays as empty as it is. It is sealed against writing, and the pages that are written are the
#   process's own (fcntl(2), F_SEAL_WRITE; mmap(2), MAP_PRIVATE).
# Seen: the file has all of its 64 MiB allocated, 131072 blocks, beside the 64 MiB of the process's, and keeps them when
#   the process has gone. A private write to a hole first fills the hole, and then copies it. Who shares an empty memfd with
#   many readers pays twice for the first of them, and for good.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "init.h"

#define SIZE (64UL << 20)

static long blocks(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (long)st.st_blocks;
}

int main(void)
{
	FILE *out;
	int fd;

	out = begin();
	fd = memfd_create("file", MFD_ALLOW_SEALING);
	if (ftruncate(fd, SIZE) || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK))
		return 1;
	fprintf(out, "sealed: %ld, ", blocks(fd));
	fflush(out);
	if (!fork()) {
		char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		unsigned long i;

		for (i = 0; i < SIZE; i += 4096)
			mem[i] = 1;
		_exit(0);
	}
	wait(NULL);
	fprintf(out, "written by another, privately: %ld\n", blocks(fd));
	end(out);
}
C
finding_says "blocks of a sealed memfd" "$(run_linux -cpu max -m 1024)" \
	"sealed: 0, written by another, privately: 131072"
