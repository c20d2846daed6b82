// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a VM, runs a guest that spins in it, and prints "running"; ends when it is killed. If the
 * device refuses, it prints the errno's name and ends with status 1. For module_test.sh.
 */
#include <fcntl.h>

#include "vm.h"

static void pause_guest(void)
{
	report(1, 0, 0, 0);
	for (;;)
		cpu_pause();
}

TEST(hold, "holds a VM until it is killed")
{
	int vm = ioctl(sys_fd(), KVM_CREATE_VM, 0);
	struct vcpu *v;

	if (vm < 0) {
		note("KVM_CREATE_VM: %s", strerrorname_np(errno));
		FAIL("refused");
	}
	OK(close(vm));
	v = vcpu_long(vm_new(), 0, pause_guest);
	REPORT(v, 1);
	note("running");
	time_limit(600);
	for (;;)
		vcpu_run(v);
}
