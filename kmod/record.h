/* SPDX-License-Identifier: GPL-2.0 */
/* STUB until the state object is merged */
#ifndef LODGE_RECORD_H
#define LODGE_RECORD_H
#include <linux/slab.h>
#include "cpu/cpu.h"
struct lodge_frozen { struct kvm_regs r[8]; struct kvm_sregs s[8]; };
static inline int lodge_stop_vcpus(struct lodge_vm *vm)
{
	struct lodge_vcpu *v; int i;
	lodge_for_each_vcpu(i, v, vm) { if (!mutex_trylock(&v->mutex)) return -EBUSY; mutex_unlock(&v->mutex); }
	return 0;
}
static inline void lodge_go_vcpus(struct lodge_vm *vm) {}
static inline struct lodge_frozen *lodge_freeze(struct lodge_vm *vm)
{
	struct lodge_frozen *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT); struct lodge_vcpu *v; int i;
	lodge_for_each_vcpu(i, v, vm) { if (v->complete_regs) { v->complete_regs(v); v->complete_regs = NULL; } lodge_get_regs(v, &f->r[i], 0); lodge_get_sregs(v, &f->s[i], 0); }
	return f;
}
static inline int lodge_thaw(struct lodge_vm *vm, struct lodge_frozen *f)
{
	struct lodge_vcpu *v; int i;
	lodge_for_each_vcpu(i, v, vm) { v->complete = NULL; v->complete_regs = NULL; lodge_set_sregs(v, &f->s[i], 0); lodge_set_regs(v, &f->r[i], 0); }
	return 0;
}
static inline void lodge_frozen_put(struct lodge_frozen *f) { kfree(f); }
#endif
