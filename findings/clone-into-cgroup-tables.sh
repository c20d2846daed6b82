#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, on QEMU.
# Input: a process with 256 MiB of memory in pages of 4 KiB, in one cgroup (v2, memory controller on), makes a child in
#   another cgroup by clone3() with CLONE_INTO_CGROUP. The child does nothing.
# Most expect: the child's page tables, about 512 KiB, are charged to the child's cgroup: the flag is there so that a
#   child is accounted where it belongs from the first moment on (clone(2)), and page tables are accounted
#   (Documentation/admin-guide/cgroup-v2.rst, memory.stat, "pagetables").
# Seen: they are charged to the parent's cgroup, which goes from 512 KiB to 1,060 or so; the child's stays at nothing.
#   The limit of the child's cgroup does not bound what its making costs.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE (256UL << 20)

static void put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	if (write(fd, text, strlen(text)) < 0)
		perror(file);
	close(fd);
}

/* Of a cgroup's memory.stat, in KiB. */
static long stat_of(const char *group, const char *name)
{
	char line[200];
	long value = -1, v;
	FILE *f;

	snprintf(line, sizeof(line), "/sys/%s/memory.stat", group);
	f = fopen(line, "r");
	while (f && fgets(line, sizeof(line), f)) {
		char key[100];

		if (sscanf(line, "%99s %ld", key, &v) == 2 && !strcmp(key, name))
			value = v / 1024;
	}
	if (f)
		fclose(f);
	return value;
}

int main(void)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	long a, b;
	char *mem;
	FILE *out;
	int pid;

	mount("", "/dev", "devtmpfs", 0, NULL);
	mount("", "/sys", "cgroup2", 0, NULL);
	out = fopen("/dev/ttyS0", "w");
	put("/sys/cgroup.subtree_control", "+memory");
	mkdir("/sys/parents", 0755);
	mkdir("/sys/childs", 0755);
	put("/sys/parents/cgroup.procs", "0");

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(mem, SIZE, MADV_NOHUGEPAGE);
	memset(mem, 1, SIZE);
	a = stat_of("parents", "pagetables");
	b = stat_of("childs", "pagetables");
	args.cgroup = open("/sys/childs", O_RDONLY | O_DIRECTORY);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (!pid) {
		pause();
		_exit(0);
	}
	sleep(3);
	a = stat_of("parents", "pagetables") - a;
	b = stat_of("childs", "pagetables") - b;
	fprintf(out, "child %s, 400 KiB of page tables or more to the parent's cgroup: %s, to the child's: %s\n",
		pid > 0 ? "made" : "not made", a >= 400 ? "yes" : "no", b >= 400 ? "yes" : "no");
	fclose(out);
	sleep(1);
	reboot(RB_AUTOBOOT);
}
C
finding_says "CLONE_INTO_CGROUP" "$(run_linux -cpu max -m 512)" \
	"child made, 400 KiB of page tables or more to the parent's cgroup: yes, to the child's: no"
