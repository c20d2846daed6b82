// SPDX-License-Identifier: GPL-2.0
/* See template.h. */
#include <sys/mman.h>

#include "template.h"

void needs_template(void)
{
	if (!check_cap(LODGE_CAP_TEMPLATE))
		test_skip("no LODGE_CAP_TEMPLATE");
}

int memory_file(u32 flags, u64 size)
{
	int fd = OK(memfd_create("memory", flags));

	OK(ftruncate(fd, size));
	return fd;
}

u8 *map_file(int fd, u64 size, u64 offset, int flags)
{
	u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	TRUE(p != MAP_FAILED);
	return p;
}

int template_of(struct vm *vm)
{
	return OK(ioctl(vm->fd, LODGE_TEMPLATE, 0));
}

int vm_from(int template, u8 *const *at, u32 nslots, int *vcpus, u32 nvcpus)
{
	struct lodge_vm_from_template a = {
		.fd = template, .nslots = nslots, .nvcpus = nvcpus, .addresses = (u64)at, .vcpus = (u64)vcpus,
	};
	int vm = ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a);

	return vm < 0 ? -errno : vm;
}

struct vm *child_of(int template, u8 *const *at, u32 nslots, struct vcpu **v, const u32 *ids, u32 nvcpus)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int fds[MAX_TEST_VCPUS];

	*vm = (struct vm) { .mem = at[0], .size = MEM_SIZE };
	vm->fd = vm_from(template, at, nslots, fds, nvcpus);
	if (vm->fd < 0)
		FAIL("LODGE_VM_FROM_TEMPLATE: %s", strerror(-vm->fd));
	for (u32 i = 0; i < nvcpus; i++) {
		TRUE(fds[i] >= 0);
		v[i] = calloc(1, sizeof(*v[i]));
		*v[i] = (struct vcpu) { .fd = fds[i], .id = ids[i], .vm = vm };
		v[i]->run = mmap(NULL, run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		TRUE(v[i]->run != MAP_FAILED);
	}
	return vm;
}

void child_free(struct vcpu *const *v, u32 nvcpus)
{
	struct vm *vm = v[0]->vm;

	for (u32 i = 0; i < nvcpus; i++)
		vcpu_free(v[i]);
	vm_free(vm);
}
