/* SPDX-License-Identifier: GPL-2.0 */
/* LODGE_SNAPSHOT and what goes with it, and memory that has to be as it was. The calls return 0 or -errno. */
#ifndef SELFTESTS_RESET_H
#define SELFTESTS_RESET_H

#include <linux/lodge.h>

#include "vm.h"

void needs_snapshot(void);		/* or the subtest is skipped */
int vm_snapshot(struct vm *vm, u64 limit);
int vm_reset(struct vm *vm, struct lodge_reset *r);
int vm_touch(struct vm *vm, u64 gpa, u64 len);
int vm_drop(struct vm *vm);

u8 *copy_of(struct vm *vm);		/* of slot 0's memory */
void same_memory(struct vm *vm, const u8 *want, int round);

#endif
