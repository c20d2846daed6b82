#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, its kvm and kvm-amd, on QEMU's emulation of SVM.
# Input: a process of one thread makes a VM with one vCPU, and a guest that is one HLT. It then calls
#   unshare(CLONE_NEWUSER): one process before its first KVM_RUN, another after it.
# Most expect: both work. KVM_RUN runs a vCPU on the thread that calls it (the kernel's Documentation/virt/kvm/api.rst,
#   4.10, names no other), and whoever wrote the program made no thread.
# Seen: the first KVM_RUN adds a thread to the process. It is in Threads: of /proc/PID/status, and unshare() refuses a
#   process of several threads (unshare(2), EINVAL): a sandbox entered after the guest's first instruction fails.
#   Debian's 6.1.0-57 does not do that.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "init.h"

static FILE *out;

static void say(const char *what)
{
	char line[200];
	FILE *f = fopen("/proc/self/status", "r");
	int threads = -1;

	while (fgets(line, sizeof(line), f))
		sscanf(line, "Threads: %d", &threads);
	fclose(f);
	fprintf(out, "%s: threads %d ", what, threads);
}

static void work(int run)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, cpu, size, err;
	struct kvm_userspace_memory_region slot = { .memory_size = 0x1000 };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_run *r;
	char *mem = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mem[0] = 0xf4;	/* HLT */
	slot.userspace_addr = (unsigned long)mem;
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	r = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	ioctl(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &sregs);
	ioctl(cpu, KVM_SET_REGS, &regs);
	if (run && (ioctl(cpu, KVM_RUN, 0) || r->exit_reason != KVM_EXIT_HLT))
		fprintf(out, "no HLT ");
	say(run ? "after KVM_RUN" : "before KVM_RUN");
	err = unshare(CLONE_NEWUSER) ? errno : 0;
	fprintf(out, "unshare %s%s", err ? strerrorname_np(err) : "0", run ? " " : ", ");
}

int main(void)
{
	int run;

	out = begin();
	mount("", "/proc", "proc", 0, NULL);
	for (run = 0; run < 2 && !access("/dev/kvm", F_OK); run++) {
		if (!fork()) {
			work(run);
			fflush(out);
			_exit(0);
		}
		wait(NULL);
	}
	fprintf(out, "\n");
	end(out);
}
C
finding_says "a program of one thread" "$(run_linux -cpu max -m 512)" \
	"before KVM_RUN: threads 1 unshare 0, after KVM_RUN: threads 2 unshare EINVAL "
