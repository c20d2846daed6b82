#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-image-6.12.118+deb13-cloud-amd64 6.12.118-1, its kvm and kvm-amd, on QEMU's emulation of SVM.
# Input: a VMM gives a vCPU a state of FPU and SSE by KVM_SET_FPU, with MXCSR 7f80 in struct kvm_fpu, and reads it back by
#   KVM_GET_FPU and by KVM_GET_XSAVE.
# Most expect: MXCSR is one of the structure's fields (Documentation/virt/kvm/api.rst lists it under KVM_GET_FPU, with no
#   exception), so it is set and read like the others. The control word beside it is.
# Seen: both ioctls leave the field alone. It is not set (KVM_GET_XSAVE says 1f80), and what KVM_GET_FPU returns there is 0: who
#   saves and restores a guest by these two runs it on with another rounding mode and other exceptions than it had.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie kernel linux-image-6.12.118+deb13-cloud-amd64=6.12.118-1
make_init <<'C'
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "init.h"

int main(void)
{
	struct kvm_fpu fpu = { .fcw = 0x27f, .mxcsr = 0x7f80 }, back = { 0 };
	static struct kvm_xsave xsave;
	int kvm, vm, cpu, set, get;
	FILE *out;

	out = begin();
	kvm = open("/dev/kvm", O_RDWR);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	set = ioctl(cpu, KVM_SET_FPU, &fpu);
	get = ioctl(cpu, KVM_GET_FPU, &back);
	ioctl(cpu, KVM_GET_XSAVE, &xsave);
	fprintf(out, "set %d get %d control word %x MXCSR %x, in XSAVE %x\n", set, get, back.fcw, back.mxcsr,
		xsave.region[6]);
	end(out);
}
C
finding_says "what was set as 27f and 7f80" "$(run_linux -cpu max -m 512)" \
	"set 0 get 0 control word 27f MXCSR 0, in XSAVE 1f80"
