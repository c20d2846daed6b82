#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, its kvm and kvm-amd, on QEMU's emulation of SVM.
# Input: a VMM makes a vCPU, gives it a value for XMM0 and one for the x87's control word by KVM_SET_FPU, and runs it; the
#   guest is one HLT. KVM_GET_FPU is asked before and after.
# Most expect: the guest begins with the registers that were set, and a HLT changes none: the same twice
#   (Documentation/virt/kvm/api.rst, KVM_SET_FPU, "Writes the floating point state to the vcpu").
# Seen: before KVM_RUN they are there; after it both are those of a new processor.
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

int main(void)
{
	struct kvm_userspace_memory_region slot = { .memory_size = 0x1000 };
	struct kvm_fpu before = { .fcw = 0x27f }, after;
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int kvm, vm, cpu;
	char *guest;
	FILE *out;

	out = begin();
	kvm = open("/dev/kvm", O_RDWR);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	guest = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guest[0] = 0xf4;	/* HLT */
	slot.userspace_addr = (unsigned long)guest;
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	ioctl(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &sregs);
	ioctl(cpu, KVM_SET_REGS, &regs);
	memset(before.xmm[0], 0x77, sizeof(before.xmm[0]));
	ioctl(cpu, KVM_SET_FPU, &before);
	ioctl(cpu, KVM_GET_FPU, &before);
	ioctl(cpu, KVM_RUN, 0);
	ioctl(cpu, KVM_GET_FPU, &after);
	fprintf(out, "exit %d, control word %x, then %x, XMM0 %x.., then %x..\n", run->exit_reason, before.fcw, after.fcw,
		before.xmm[0][0], after.xmm[0][0]);
	end(out);
}
C
finding_says "what KVM_SET_FPU set, around a HLT" "$(run_linux -cpu max -m 512)" \
	"exit 5, control word 27f, then 37f, XMM0 77.., then 0.."
