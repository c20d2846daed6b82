// SPDX-License-Identifier: GPL-2.0
/*
 * Debug build only: a check of the TLB flushes that does not trust the processor, because an emulator
 * that flushes at every entry runs a hypervisor that never does.
 *
 * Every entry of a second-level table that loses rights gets a number (npt->cleared). When whoever took
 * the rights away believes that no vCPU uses them any more, the number is published (npt->settled).
 * The vendors report every flush of a vCPU on a CPU, which is noted with the number it covers;
 * each entry then asserts that nothing settled is missing on that CPU. The three places know
 * nothing of npt->gen, by which the flushes are really chosen.
 *
 * Interleaving: a window that is open while rights go away runs on with an older number; npt->settled
 * moves only after lodge_kick_all_sync() has ended it.
 *
 * npt->cleared: npt->lock. v->tlb_seen: the CPU's own, IRQs off.
 */
#include <linux/percpu.h>

#include "mem/mem.h"

/** lodge_tlb_cleared - an entry has lost rights; npt->lock held */
void lodge_tlb_cleared(struct lodge_npt *npt)
{
	lockdep_assert_held(&npt->lock);
	npt->cleared++;
}

/** lodge_tlb_number - the last entry that has lost rights */
u64 lodge_tlb_number(struct lodge_npt *npt)
{
	return READ_ONCE(npt->cleared);
}

/** lodge_tlb_settled - nobody uses what was taken away up to @number, its taker believes */
void lodge_tlb_settled(struct lodge_npt *npt, u64 number)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&npt->lock, flags);
	npt->settled = max(npt->settled, number);
	raw_spin_unlock_irqrestore(&npt->lock, flags);
}

/**
 * lodge_tlb_flushed - a vendor is about to flush a vCPU's translations on this CPU
 * @v: the vCPU; window
 */
void lodge_tlb_flushed(struct lodge_vcpu *v)
{
	this_cpu_write(*v->tlb_seen, lodge_tlb_number(&v->vm->npt) + 1);	/* 0: never ran here */
}

/** lodge_tlb_enter - about to enter: nothing settled may be left in this CPU's TLB */
void lodge_tlb_enter(struct lodge_vcpu *v)
{
	u64 seen = this_cpu_read(*v->tlb_seen);

	WARN_ONCE(seen < READ_ONCE(v->vm->npt.settled) + 1,
		  "lodge: TLB check: vCPU %u enters on CPU %d with number %llu of %llu\n", v->id,
		  smp_processor_id(), seen, v->vm->npt.settled + 1);
}

/** lodge_tlb_create - at vCPU creation; 0 or -ENOMEM */
int lodge_tlb_create(struct lodge_vcpu *v)
{
	v->tlb_seen = alloc_percpu(u64);
	return v->tlb_seen ? 0 : -ENOMEM;
}

/** lodge_tlb_destroy - undo lodge_tlb_create(), also when it failed */
void lodge_tlb_destroy(struct lodge_vcpu *v)
{
	free_percpu(v->tlb_seen);
}
