// SPDX-License-Identifier: GPL-2.0
/* See reset.h. */
#include "reset.h"

void needs_snapshot(void)
{
	if (!check_cap(LODGE_CAP_SNAPSHOT))
		test_skip("no LODGE_CAP_SNAPSHOT");
}

static int call(struct vm *vm, unsigned long cmd, void *arg)
{
	return ioctl(vm->fd, cmd, arg) < 0 ? -errno : 0;
}

int vm_snapshot(struct vm *vm, u64 limit)
{
	return call(vm, LODGE_SNAPSHOT, &(struct lodge_snapshot) { .limit = limit });
}

int vm_reset(struct vm *vm, struct lodge_reset *r)
{
	*r = (struct lodge_reset) { };
	return call(vm, LODGE_RESET, r);
}

int vm_touch(struct vm *vm, u64 gpa, u64 len)
{
	return call(vm, LODGE_SNAPSHOT_TOUCH, &(struct lodge_touch) { .gpa = gpa, .len = len });
}

int vm_drop(struct vm *vm)
{
	return call(vm, LODGE_SNAPSHOT_DROP, NULL);
}

u8 *copy_of(struct vm *vm)
{
	u8 *copy = host_pages(vm->size);

	memcpy(copy, vm->mem, vm->size);
	return copy;
}

void same_memory(struct vm *vm, const u8 *want, int round)
{
	count_check();
	if (!memcmp(vm->mem, want, vm->size))
		return;
	for (size_t i = 0; i < vm->size; i++)
		if (vm->mem[i] != want[i])
			FAIL("round %d: byte 0x%zx is 0x%x, was 0x%x", round, i, vm->mem[i], want[i]);
}
