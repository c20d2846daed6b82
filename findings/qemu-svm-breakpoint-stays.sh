#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3, its emulation of SVM, under Debian's
#   linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1 with its kvm and kvm-amd.
# Input: a guest writes the address 500H to DR0, switches that breakpoint on by MOV DR7, twice, for the first is KVM's to carry
#   out, and halts. A second VM is run, whose guest has its debug registers as they are at reset and goes from 4FFH to a HLT at
#   500H; its vector 1 leads to another HLT, at 600H.
# Most expect: the breakpoint was the first guest's. #VMEXIT disables all of them (AMD64 APM volume 2, 15.6), the VMRUN after
#   it loads the second one's DR7, and that guest halts behind 500H.
# Seen: the second guest takes #DB there, and halts behind 600H.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "init.h"

/* Runs a guest in a VM of its own from an address to its HLT. Where that is. */
static long run(int kvm, const unsigned char *memory, long from)
{
	struct kvm_userspace_memory_region slot = { .memory_size = 0x1000, .userspace_addr = (unsigned long)memory };
	struct kvm_regs regs = { .rflags = 2, .rip = from, .rsp = 0x1000 };
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), cpu;
	struct kvm_sregs sregs;

	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	ioctl(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &sregs);
	ioctl(cpu, KVM_SET_REGS, &regs);
	ioctl(cpu, KVM_RUN, 0);
	ioctl(cpu, KVM_GET_REGS, &regs);
	return regs.rip;
}

int main(void)
{
	static const unsigned char arms[] = { 0x66, 0xb8, 0, 5, 0, 0, 0x0f, 0x23, 0xc0,	/* MOV EAX, 500H; MOV DR0, EAX */
		0x66, 0xb8, 1, 4, 0, 0, 0x0f, 0x23, 0xf8, 0x0f, 0x23, 0xf8, 0xf4 };	/* MOV EAX, 401H; MOV DR7, EAX */
	unsigned char *memory;
	int kvm;
	long before, first, after;
	FILE *out;

	out = begin();
	kvm = open("/dev/kvm", O_RDWR);
	memory = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory[5] = 6;			/* vector 1: 0:600H */
	memcpy(memory + 0x100, arms, sizeof(arms));
	memory[0x4ff] = 0x90;
	memory[0x500] = memory[0x600] = 0xf4;
	before = run(kvm, memory, 0x4ff);
	first = run(kvm, memory, 0x100);
	after = run(kvm, memory, 0x4ff);
	fprintf(out, "at %lx before, %lx, %lx after\n", before, first, after);
	end(out);
}
C
finding_says "where the guests halt" "$(run_linux -cpu max -m 512)" "at 501 before, 116, 601 after"
