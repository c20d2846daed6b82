// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots of a running VM: its state (record.c) and its memory (mem/kept.c) as they were, brought back in place.
 *
 * All of it is done with the vCPUs outside KVM_RUN. State comes back before memory: what setting it writes into the
 * guest's memory is then undone with the rest.
 *
 * Locks: slots_lock.
 */
#include "lodge.h"
#include "mem/mem.h"
#include "record.h"

/* slots_lock held. */
static int take(struct lodge_vm *vm, const struct lodge_snapshot *a)
{
	struct lodge_frozen *state = lodge_freeze(vm);
	int ret;

	if (IS_ERR(state))
		return PTR_ERR(state);
	ret = lodge_kept_begin(vm, state, a->limit ?: ULONG_MAX);
	if (ret)
		lodge_frozen_put(state);
	return ret;
}

/**
 * lodge_ioc_snapshot - LODGE_SNAPSHOT: from now on LODGE_RESET brings back what is now
 * @vm: the VM
 * @buf: struct lodge_snapshot
 * @arg: unused
 *
 * Return: 0, -EINVAL (flags), -EBUSY (a vCPU is in KVM_RUN), -ENOMEM, -EINTR.
 */
int lodge_ioc_snapshot(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct lodge_snapshot *a = buf;
	int ret;

	if (a->flags)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	ret = lodge_stop_vcpus(vm);
	if (!ret) {
		ret = take(vm, a);
		lodge_go_vcpus(vm);
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/**
 * lodge_ioc_reset - LODGE_RESET: state and memory as they were at the last LODGE_SNAPSHOT
 * @vm: the VM
 * @buf: struct lodge_reset
 * @arg: unused
 *
 * Return: 0, -EINVAL (flags, or the VM has got an interrupt controller or PIT since), -ENOENT (no snapshot), -EBUSY (a vCPU
 * is in KVM_RUN), and nothing has changed; -EFAULT: memory that the VMM does not let be written; a later reset tries it again.
 */
int lodge_ioc_reset(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_reset *r = buf;
	int ret;

	if (r->flags)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	ret = vm->snap ? lodge_stop_vcpus(vm) : -ENOENT;
	if (!ret) {
		ret = lodge_thaw(vm, lodge_kept_frozen(vm)) ?: lodge_kept_reset(vm, r);
		vm->stat.resets++;
		vm->stat.pages_put_back += r->written + r->hot;
		vm->stat.pages_hot = r->hot;
		vm->stat.pages_kept = r->kept;
		lodge_go_vcpus(vm);
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/* The last one goes. slots_lock held and vCPUs stopped, or nobody reaches the VM any more. */
static void drop(struct lodge_vm *vm)
{
	struct lodge_frozen *state = lodge_kept_frozen(vm);

	lodge_kept_end(vm);
	lodge_frozen_put(state);
}

/** lodge_ioc_snapshot_drop - LODGE_SNAPSHOT_DROP: the last one goes; 0, -ENOENT, -EBUSY (a vCPU is in KVM_RUN) */
int lodge_ioc_snapshot_drop(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	int ret;

	if (arg)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	ret = vm->snap ? lodge_stop_vcpus(vm) : -ENOENT;
	if (!ret) {
		drop(vm);
		lodge_go_vcpus(vm);
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/** lodge_snapshots_free - the VM goes */
void lodge_snapshots_free(struct lodge_vm *vm)
{
	while (vm->snap)
		drop(vm);
}

/**
 * lodge_ioc_snapshot_touch - LODGE_SNAPSHOT_TOUCH: the VMM is about to write there by itself
 * @vm: the VM, whose vCPUs may run
 * @buf: struct lodge_touch
 * @arg: unused
 *
 * Return: 0, -EINVAL (flags, a range without a writable slot), -ENOENT (no snapshot), -EFAULT, -ENOMEM, -EINTR: some of
 * the pages are kept, which does no harm.
 */
int lodge_ioc_snapshot_touch(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct lodge_touch *t = buf;
	u64 last = t->gpa + t->len - 1;
	int ret = -ENOENT;

	if (t->flags || !t->len || last < t->gpa)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	if (vm->snap)
		ret = lodge_kept_touch_range(vm, t->gpa >> PAGE_SHIFT, last >> PAGE_SHIFT);
	mutex_unlock(&vm->slots_lock);
	return ret;
}
