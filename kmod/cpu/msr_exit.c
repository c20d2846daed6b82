// SPDX-License-Identifier: GPL-2.0
/*
 * MSR accesses that userspace answers: the filter that keeps a guest from MSRs (KVM_X86_SET_MSR_FILTER), and the exits
 * in place of #GP (KVM_CAP_X86_USER_SPACE_MSR).
 *
 * A guest with a filter has no MSR to itself: all accesses exit, and the filter is asked at each. Userspace's own, by
 * KVM_GET/SET_MSRS, are never filtered, nor are the x2APIC's.
 *
 * vm->msr_filter is replaced under slots_lock, read under RCU, also in the window, and freed a grace period later.
 * Else vcpu->mutex is held.
 */
#include <linux/compat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/trapnr.h>

#include "cpu/cpu.h"

#define BITMAP_BYTES	0x600		/* of a range: what KVM takes */

struct lodge_msr_filter {
	bool allow;			/* what is in no range */
	struct {
		u32 flags, base, n;
		unsigned long bitmap[BITMAP_BYTES / sizeof(long)];	/* 1: allowed */
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

static bool allowed(const struct lodge_msr_filter *f, u32 index, bool write)
{
	u32 type = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ, i, bit;

	for (i = 0; i < ARRAY_SIZE(f->range); i++) {
		bit = index - f->range[i].base;
		if (bit < f->range[i].n && f->range[i].flags & type)
			return test_bit(array_index_nospec(bit, BITMAP_BYTES * 8), f->range[i].bitmap);
	}
	return f->allow;
}

/**
 * lodge_msr_filtered - does the VM's filter keep the guest from this access?
 * @v: the vCPU; in or outside the window
 * @index: the MSR
 * @write: direction
 */
bool lodge_msr_filtered(struct lodge_vcpu *v, u32 index, bool write)
{
	const struct lodge_msr_filter *f;
	bool denied;

	if (index - APIC_BASE_MSR < 0x100)
		return false;
	rcu_read_lock();
	f = rcu_dereference(v->vm->msr_filter);
	denied = f && !allowed(f, index, write);
	rcu_read_unlock();
	return denied;
}

/* Every flag that is known, and a bitmap that fits; an empty range counts for nothing. */
static int copy_range(struct lodge_msr_filter *f, int i, const struct kvm_msr_filter_range *r)
{
	size_t size = BITS_TO_LONGS((u64)r->nmsrs) * sizeof(long);

	if (!r->nmsrs)
		return 0;
	if (!r->flags || r->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) || size > BITMAP_BYTES)
		return -EINVAL;
	f->range[i].flags = r->flags;
	f->range[i].base = r->base;
	f->range[i].n = r->nmsrs;
	return copy_from_user(f->range[i].bitmap, (void __user *)r->bitmap, size) ? -EFAULT : 0;
}

/**
 * lodge_ioc_msr_filter - KVM_X86_SET_MSR_FILTER: replace the filter
 * @vm: the VM
 * @buf: struct kvm_msr_filter
 * @arg: unused
 *
 * Return: 0; -EINVAL for unknown flags, too large a range, or nothing but "deny"; -EFAULT, -ENOMEM.
 */
int lodge_ioc_msr_filter(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct kvm_msr_filter *u = buf;
	struct lodge_msr_filter *f, *old;
	struct lodge_vcpu *v;
	bool empty = true;
	int i, ret = 0;

	if (u->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	f = kvzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->allow = !(u->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (i = 0; i < ARRAY_SIZE(u->ranges) && !ret; i++) {
		empty &= !u->ranges[i].nmsrs;
		ret = copy_range(f, i, &u->ranges[i]);
	}
	if (!ret && empty && !f->allow)
		ret = -EINVAL;
	if (ret || empty) {
		kvfree(f);
		f = NULL;
		if (ret)
			return ret;
	}
	mutex_lock(&vm->slots_lock);
	old = rcu_dereference_protected(vm->msr_filter, lockdep_is_held(&vm->slots_lock));
	rcu_assign_pointer(vm->msr_filter, f);
	lodge_for_each_vcpu(i, v, vm)
		lodge_request(v, REQ_INTERCEPTS);
	mutex_unlock(&vm->slots_lock);
	if (old) {
		synchronize_rcu();
		kvfree(old);
	}
	return 0;
}

/** lodge_ioc_msr_filter32 - the same for a program of 32 bits; -ENOTTY for others */
int lodge_ioc_msr_filter32(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct lodge_msr_filter32 *in = buf;
	struct kvm_msr_filter f = { .flags = in->flags };
	int i;

	if (!in_compat_syscall())
		return -ENOTTY;
	for (i = 0; i < ARRAY_SIZE(f.ranges); i++) {
		f.ranges[i].flags = in->ranges[i].flags;
		f.ranges[i].nmsrs = in->ranges[i].nmsrs;
		f.ranges[i].base = in->ranges[i].base;
		f.ranges[i].bitmap = (void *)(unsigned long)in->ranges[i].bitmap;
	}
	return lodge_ioc_msr_filter(vm, &f, arg);
}

static int copy_filter(const struct lodge_msr_filter *f, struct lodge_msr_filter **to)
{
	*to = f ? kvmalloc(sizeof(*f), GFP_KERNEL_ACCOUNT) : NULL;
	if (f && *to)
		**to = *f;
	return f && !*to ? -ENOMEM : 0;
}

/** lodge_msr_filter_copy - what the VM filters, for lodge_msr_filter_adopt(); NULL: nothing. To be kvfree'd. 0, -ENOMEM */
int lodge_msr_filter_copy(struct lodge_vm *vm, struct lodge_msr_filter **to)
{
	return copy_filter(rcu_dereference_protected(vm->msr_filter, lockdep_is_held(&vm->slots_lock)), to);
}

/** lodge_msr_filter_adopt - a VM that nobody has yet filters so from the start. 0, -ENOMEM */
int lodge_msr_filter_adopt(struct lodge_vm *vm, const struct lodge_msr_filter *f)
{
	struct lodge_msr_filter *own;
	int ret = copy_filter(f, &own);

	rcu_assign_pointer(vm->msr_filter, own);
	return ret;
}

/** lodge_msr_filter_free - the VM goes, nobody looks any more */
void lodge_msr_filter_free(struct lodge_vm *vm)
{
	kvfree(rcu_dereference_protected(vm->msr_filter, true));
}

/** lodge_user_msrs - KVM_CAP_X86_USER_SPACE_MSR: for which reasons userspace wants accesses; -EINVAL for others */
int lodge_user_msrs(struct lodge_vm *vm, u64 reasons)
{
	if (reasons & ~(u64)(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER))
		return -EINVAL;
	WRITE_ONCE(vm->set.user_msrs, reasons);
	return 0;
}

/* The next KVM_RUN: userspace has answered. Gone elsewhere, and nothing is completed. */
static void complete_msr(struct lodge_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 val;

	if (lodge_rip(v) != v->msr_exit.rip)
		return;
	if (READ_ONCE(run->msr.error)) {
		lodge_queue_exception(v, X86_TRAP_GP);
		return;
	}
	if (!v->msr_exit.write) {
		val = READ_ONCE(run->msr.data);
		v->regs[R_AX] = (u32)val;
		v->regs[R_DX] = val >> 32;
	}
	lodge_advance_rip(v, v->msr_exit.rip + v->msr_exit.len);
}

/**
 * lodge_msr_to_user - an access that would raise #GP: hand it to userspace, if it wants it
 * @v: the vCPU; in or outside the window
 * @index: the MSR
 * @val: what was to be written; NULL: a read
 * @filtered: the filter refused it
 * @len: of the instruction
 *
 * Return: false: raise #GP; true: v->run is filled in.
 */
bool lodge_msr_to_user(struct lodge_vcpu *v, u32 index, const u64 *val, bool filtered, int len)
{
	u32 reason = filtered ? KVM_MSR_EXIT_REASON_FILTER :
		     lodge_msr_known(index) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
	struct kvm_run *run = v->run;

	if (!(READ_ONCE(v->vm->set.user_msrs) & reason))
		return false;
	memset(&run->msr, 0, sizeof(run->msr));
	run->exit_reason = val ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.reason = reason;
	run->msr.index = index;
	run->msr.data = val ? *val : 0;
	v->msr_exit = (struct lodge_msr_exit) { .rip = lodge_rip(v), .len = len, .write = val };
	v->complete_regs = complete_msr;
	return true;
}
