// SPDX-License-Identifier: GPL-2.0
/*
 * The dirty log: one bit a page of a slot.
 *
 * A fault sets the bit and makes the page writable in one step under
 * npt->lock; what the kernel itself writes sets it after the write. Reading the log takes the bits,
 * then the writability (under the same lock), flushes, and only then hands the bits out: a write
 * that the reader may not see in the page's bytes always has its bit set again. With
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 reading only copies, and KVM_CLEAR_DIRTY_LOG does the rest for
 * the pages it names. A log that begins with all bits set leaves the tables as they are: a leaf,
 * large or small, stays writable until one of its bits is taken. Where the hardware logs writes
 * (pte_ops->log) it is the entry's dirty bit that is taken, and a vCPU hands in what was logged
 * when its window ends: before the log is read every window is ended.
 *
 * Readers of a log: vm->slots_lock. Bits are set by faults and by what the kernel writes, at any time.
 */
#include <linux/compat.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "host/compat.h"
#include "mem/mem.h"

/**
 * lodge_mark_dirty - a page of a logged slot was written
 * @s: the slot
 * @gfn: the frame, inside it
 */
void lodge_mark_dirty(struct lodge_memslot *s, gfn_t gfn)
{
	unsigned long bit = lodge_slot_page(s, gfn);

	if (s->dirty && !test_bit(bit, s->dirty))
		set_bit(bit, s->dirty);
}

/*
 * Take bits of a logged slot, and the writability of their pages. bits: those to take, of the
 * words from first on; out of it come those that were set.
 */
static void take_dirty(struct lodge_vm *vm, struct lodge_memslot *s, unsigned long first,
		       unsigned long words, unsigned long *bits)
{
	gfn_t at = s->base_gfn + first * BITS_PER_LONG;
	unsigned long i, *dirty;
	bool any = false;

	for (i = 0; i < words; i++, at += BITS_PER_LONG) {
		dirty = &s->dirty[first + i];
		bits[i] &= READ_ONCE(*dirty);
		if (!bits[i])
			continue;
		bits[i] &= atomic_long_fetch_andnot(bits[i], (atomic_long_t *)dirty);
		lodge_npt_protect_word(vm, at, bits[i]);
		any = true;
		cond_resched();
	}
	if (any)
		lodge_npt_flush(vm);
}

static int get_dirty_log(struct lodge_vm *vm, struct lodge_memslot *s, void __user *to)
{
	unsigned long i, words = BITS_TO_LONGS(s->npages), *out;
	int ret = 0;

	if (vm->set.dirty_log_manual)
		return copy_to_user(to, s->dirty, words * sizeof(long)) ? -EFAULT : 0;
	out = kvmalloc_array(words, sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!out)
		return -ENOMEM;
	memset(out, 0xff, words * sizeof(long));
	take_dirty(vm, s, 0, words, out);
	if (copy_to_user(to, out, words * sizeof(long))) {
		for (i = 0; i < words; i++)
			if (out[i])
				atomic_long_or(out[i], (atomic_long_t *)&s->dirty[i]);
		ret = -EFAULT;
	}
	kvfree(out);
	return ret;
}

/* A program of 32 bits writes the half of the union that its pointers have; the other is junk. */
static void __user *user_bits(void __user *p)
{
	return in_compat_syscall() ? compat_ptr((unsigned long)p) : p;
}

static int clear_dirty_log(struct lodge_vm *vm, struct lodge_memslot *s, const struct kvm_clear_dirty_log *log)
{
	unsigned long words = BITS_TO_LONGS(log->num_pages), *bits;

	if (log->first_page > s->npages || log->num_pages > s->npages - log->first_page)
		return -EINVAL;
	/* Only the slot's last word may be a part of one. */
	if (log->num_pages % 64 && log->num_pages < s->npages - log->first_page)
		return -EINVAL;
	if (!words)
		return 0;
	bits = vmemdup_user(user_bits(log->dirty_bitmap), words * sizeof(long));
	if (IS_ERR(bits))
		return PTR_ERR(bits);
	take_dirty(vm, s, log->first_page / 64, words, bits);
	kvfree(bits);
	return 0;
}

/**
 * lodge_ioc_get_dirty_log - KVM_GET_DIRTY_LOG
 * @vm: the VM
 * @buf: struct kvm_dirty_log
 * @arg: unused
 *
 * Return: 0, -EINVAL (slot number), -ENOENT (no such slot, or not logged), -EFAULT (the bits are
 * kept), -ENOMEM.
 */
int lodge_ioc_get_dirty_log(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_dirty_log *log = buf;
	struct lodge_memslot *s;
	int ret = -ENOENT;

	if (log->slot >= LODGE_MAX_SLOTS)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	s = lodge_slot_by_id(vm, log->slot);
	if (lodge_ops->pte_ops->log)
		lodge_kick_all_sync(vm);
	if (s && s->dirty)
		ret = get_dirty_log(vm, s, user_bits(log->dirty_bitmap));
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/**
 * lodge_ioc_clear_dirty_log - KVM_CLEAR_DIRTY_LOG: take the bits that userspace names
 * @vm: the VM
 * @buf: struct kvm_clear_dirty_log
 * @arg: unused
 *
 * Return: 0, -EINVAL (slot number, range), -ENOENT (no such slot, or not logged), -EFAULT, -ENOMEM.
 */
int lodge_ioc_clear_dirty_log(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_clear_dirty_log *log = buf;
	struct lodge_memslot *s;
	int ret = -ENOENT;

	if (log->slot >= LODGE_MAX_SLOTS || log->first_page % 64)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	s = lodge_slot_by_id(vm, log->slot);
	if (s && s->dirty)
		ret = clear_dirty_log(vm, s, log);
	mutex_unlock(&vm->slots_lock);
	return ret;
}
