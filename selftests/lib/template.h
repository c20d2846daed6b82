/* SPDX-License-Identifier: GPL-2.0 */
/* LODGE_TEMPLATE and LODGE_VM_FROM_TEMPLATE, and memory on memfds. */
#ifndef SELFTESTS_TEMPLATE_H
#define SELFTESTS_TEMPLATE_H

#include <linux/lodge.h>

#include "vm.h"

void needs_template(void);		/* or the subtest is skipped */
int memory_file(u32 flags, u64 size);	/* a memfd */
u8 *map_file(int fd, u64 size, u64 offset, int flags);
int template_of(struct vm *vm);		/* its fd */

/* LODGE_VM_FROM_TEMPLATE: the VM's fd, or -errno. */
int vm_from(int template, u8 *const *at, u32 nslots, int *vcpus, u32 nvcpus);

/* The same, as the tests have VMs: slot 0 is of MEM_SIZE bytes. v gets so many vCPUs, with these ids. */
struct vm *child_of(int template, u8 *const *at, u32 nslots, struct vcpu **v, const u32 *ids, u32 nvcpus);
void child_free(struct vcpu *const *v, u32 nvcpus);	/* and slot 0's memory */

#endif
