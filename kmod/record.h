/* SPDX-License-Identifier: GPL-2.0 */
/* A VM's state as one object: frozen in the kernel (frozen.c), and as a stream of records (record.c). */
#ifndef LODGE_RECORD_H
#define LODGE_RECORD_H

#include "core/core.h"

#define LODGE_STATE_VERSION	1	/* of the stream */

struct lodge_frozen;

/* frozen.c. slots_lock held where a VM is named; lodge_stop_vcpus() before it is frozen or thawed. */
int lodge_stop_vcpus(struct lodge_vm *vm);		/* 0; -EBUSY: one runs, or an ioctl has it */
void lodge_go_vcpus(struct lodge_vm *vm);
struct lodge_frozen *lodge_freeze(struct lodge_vm *vm);	/* counted once; ERR_PTR(-ENOMEM) */
int lodge_thaw(struct lodge_vm *vm, const struct lodge_frozen *f);	/* 0; -EINVAL, -ENOMEM: nothing has changed */
void lodge_frozen_put(struct lodge_frozen *f);		/* any context that may sleep */
int lodge_frozen_fd(struct lodge_frozen *f);		/* takes over the count, also where it fails */
struct lodge_frozen *lodge_frozen_of(int fd);		/* counted; ERR_PTR: -EBADF, -EINVAL */

struct lodge_frozen *lodge_freeze_spare(struct lodge_vm *vm);	/* lodge_freeze() into what the last one has left */
void lodge_frozen_spare(struct lodge_vm *vm, struct lodge_frozen *f);	/* instead of lodge_frozen_put() */

/* record.c */
void lodge_state_spares_free(struct lodge_vm *vm);
lodge_vm_ioctl lodge_ioc_get_state, lodge_ioc_set_state, lodge_ioc_freeze_state;
#endif
