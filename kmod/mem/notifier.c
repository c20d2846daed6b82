// SPDX-License-Identifier: GPL-2.0
/*
 * The mmu notifier: what the Linux memory manager does to the VMM's mappings, the guest's follow.
 *
 * invalidate_range_start takes the range out of the second-level tables and flushes before the
 * host changes its own; until invalidate_range_end no fault may map an address in it again, and a
 * fault that began before the end must start over (its page may be the old one). So start raises a
 * count and remembers the hull of the ranges under way, end raises the sequence: see
 * lodge_notify_stale() and fault.c. Ends may come in another order than starts, hence the hull.
 *
 * Locks: npt->lock for count, hull and sequence; vm->srcu for the slots.
 */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>

#include "host/compat.h"
#include "mem/mem.h"

static struct lodge_vm *to_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct lodge_vm, notifier);
}

/**
 * lodge_notify_stale - may a page that was looked up at seq still be mapped?
 * @npt: the tables, lock held
 * @seq: npt->notify_seq before the look-up
 * @start: first user address of what is to be mapped
 * @end: behind the last one
 *
 * Return: true when it must be looked up again.
 */
bool lodge_notify_stale(struct lodge_npt *npt, unsigned long seq, unsigned long start, unsigned long end)
{
	lockdep_assert_held(&npt->lock);
	if (unlikely(npt->notify_count) && end > npt->notify_start && start < npt->notify_end)
		return true;
	return npt->notify_seq != seq;
}

typedef bool (*range_fn)(struct lodge_vm *vm, gfn_t start, gfn_t end, void *arg);

/* Call fn for every range of frames that user addresses start..end back. */
static bool with_ranges(struct lodge_vm *vm, unsigned long start, unsigned long end, range_fn fn, void *arg)
{
	struct lodge_hva_walk at = { };
	struct lodge_memslot *s;
	bool ret = false;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	while ((s = lodge_slot_of_hva(vm, &at, start, end - 1)) != NULL) {
		unsigned long a = max(start, s->hva), b = min(end, s->hva + (s->npages << PAGE_SHIFT));

		ret |= fn(vm, s->base_gfn + ((a - s->hva) >> PAGE_SHIFT),
			  s->base_gfn + ((b - s->hva + PAGE_SIZE - 1) >> PAGE_SHIFT), arg);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

struct zap {
	struct list_head dead;
	bool sleeps;
};

static bool unmap(struct lodge_vm *vm, gfn_t start, gfn_t end, void *arg)
{
	struct zap *zap = arg;

	return lodge_npt_unmap(vm, start, end, &zap->dead, zap->sleeps);
}

static void zap_hva(struct lodge_vm *vm, unsigned long start, unsigned long end, bool sleeps)
{
	struct zap zap = { .dead = LIST_HEAD_INIT(zap.dead), .sleeps = sleeps };

	if (with_ranges(vm, start, end, unmap, &zap))
		lodge_npt_flush(vm);
	lodge_npt_free_dead(vm, &zap.dead, sleeps);
}

static int range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	struct lodge_vm *vm = to_vm(mn);
	struct lodge_npt *npt = &vm->npt;
	unsigned long flags;

	raw_spin_lock_irqsave(&npt->lock, flags);
	if (npt->notify_count++) {
		npt->notify_start = min_t(u64, npt->notify_start, r->start);
		npt->notify_end = max_t(u64, npt->notify_end, r->end);
	} else {
		npt->notify_start = r->start;
		npt->notify_end = r->end;
	}
	raw_spin_unlock_irqrestore(&npt->lock, flags);
	zap_hva(vm, r->start, r->end, mmu_notifier_range_blockable(r));
	return 0;
}

static void range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *r)
{
	struct lodge_npt *npt = &to_vm(mn)->npt;
	unsigned long flags;

	raw_spin_lock_irqsave(&npt->lock, flags);
	WRITE_ONCE(npt->notify_seq, npt->notify_seq + 1);
	npt->notify_count--;
	raw_spin_unlock_irqrestore(&npt->lock, flags);
}

static bool age(struct lodge_vm *vm, gfn_t start, gfn_t end, void *clear)
{
	return lodge_npt_age(vm, start, end, *(bool *)clear);
}

static bool young(struct mmu_notifier *mn, unsigned long start, unsigned long end, bool clear)
{
	return with_ranges(to_vm(mn), start, end, age, &clear);
}

static lodge_young_t clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
				       unsigned long start, unsigned long end)
{
	return young(mn, start, end, true);
}

static lodge_young_t clear_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	return young(mn, start, end, true);
}

static lodge_young_t test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long address)
{
	return young(mn, address, address + 1, false);
}

/* The process exits: its memory goes altogether, whoever still holds the fds. */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	zap_hva(to_vm(mn), 0, ~0UL & PAGE_MASK, true);
}

static const struct mmu_notifier_ops ops = {
	.invalidate_range_start = range_start,
	.invalidate_range_end = range_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
};

/**
 * lodge_notifier_init - follow the creator's memory from here on
 * @vm: the VM
 *
 * Context: may sleep; takes mmap_lock.
 * Return: 0, -ENOMEM or -EINTR.
 */
int lodge_notifier_init(struct lodge_vm *vm)
{
	vm->notifier.ops = &ops;
	return mmu_notifier_register(&vm->notifier, vm->mm);
}

/** lodge_notifier_exit - stop; no callback runs when it returns */
void lodge_notifier_exit(struct lodge_vm *vm)
{
	mmu_notifier_unregister(&vm->notifier, vm->mm);
}
