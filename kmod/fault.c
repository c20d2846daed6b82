// SPDX-License-Identifier: GPL-2.0
/*
 * Second-level faults: from a guest frame to a host frame, by the VMM's own mapping.
 *
 * Fast, in the window: the slot comes from the vCPU's cache, the page from
 * get_user_pages_fast_only(), table pages from the vCPU's stock; nothing sleeps. Slow: the host
 * takes the fault first, as if the VMM had touched the page. What then is still not found the fast
 * way goes through get_user_pages_unlocked(), which knows why, or is a device mapping, which has no
 * struct page.
 *
 * No reference to the page is kept: the mmu notifier tells when it goes. The race with it: the
 * notifier's sequence is read before the page is looked up, and compared again under npt->lock
 * right before the entry is written (lodge_notify_stale). An invalidation under way over that
 * address, or one that has ended since, makes the vCPU run again and fault anew.
 *
 * Pages mapped writable are marked dirty now, so swap and write-back know of them. A write to a
 * slot with a dirty log sets the page's bit in the same step that makes it writable.
 *
 * Called by the vCPU's thread. Locks: npt->lock around the install.
 */
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>

#include "lodge.h"

struct fault {
	gfn_t gfn;
	unsigned long hva;
	struct lodge_memslot *slot;
	bool write;
	bool may_write;		/* the slot allows it, and no log wants to hear of it first */
	bool writable;		/* the host page is */
	bool uncached;
	kvm_pfn_t pfn;
	unsigned long seq;
};

static int begin(struct lodge_vcpu *v, struct fault *f, gpa_t gpa, u32 access)
{
	f->gfn = gpa >> PAGE_SHIFT;
	f->slot = lodge_vcpu_slot(v, f->gfn);
	f->write = access & ACC_WRITE;
	f->uncached = false;
	if (!f->slot || (f->write && f->slot->flags & KVM_MEM_READONLY))
		return MAP_MMIO;
	f->hva = f->slot->hva + ((f->gfn - f->slot->base_gfn) << PAGE_SHIFT);
	f->may_write = f->write || !(f->slot->dirty || f->slot->flags & KVM_MEM_READONLY);
	f->seq = READ_ONCE(v->vm->npt.notify_seq);
	smp_rmb();	/* the sequence before the host's page tables */
	return MAP_DONE;
}

/* A writable page if it is one already; a read never breaks copy-on-write. */
static struct page *page_fast(struct fault *f)
{
	struct page *p;

	f->writable = f->may_write && get_user_pages_fast_only(f->hva, 1, FOLL_WRITE, &p) == 1;
	if (f->writable || (!f->write && get_user_pages_fast_only(f->hva, 1, 0, &p) == 1))
		return p;
	return NULL;
}

/*
 * The size at which the host maps an address: 2 where a PMD or PUD maps it. Called under npt->lock
 * after the sequence was compared: what is found is what the page was found through. The page
 * tables cannot be freed meanwhile: IRQs are off, and who frees them waits for that (by IPI or RCU).
 */
static int host_level(struct mm_struct *mm, unsigned long hva)
{
	pgd_t pgd = READ_ONCE(*pgd_offset(mm, hva));
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	if (pgd_none(pgd))
		return 1;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (!p4d_present(p4d))
		return 1;
	pud = READ_ONCE(*pud_offset(&p4d, hva));
	if (!pud_present(pud))
		return 1;
	if (lodge_pud_leaf(pud))
		return 2;
	pmd = READ_ONCE(*pmd_offset(&pud, hva));
	return pmd_present(pmd) && lodge_pmd_leaf(pmd) ? 2 : 1;
}

/* 2 where the slot, the host's page and what the notifier is doing allow a 2M leaf; else 1. */
static int map_level(struct lodge_vcpu *v, const struct fault *f)
{
	const struct lodge_memslot *s = f->slot;
	unsigned long hva = f->hva & ~((512ul << PAGE_SHIFT) - 1);
	gfn_t first = f->gfn & ~511ull;

	if (!lodge_npt_huge || s->dirty || f->uncached || (f->gfn ^ f->hva >> PAGE_SHIFT) & 511 ||
	    first < s->base_gfn || first + 512 > s->base_gfn + s->npages)
		return 1;
	if (lodge_npt_has_table(v, f->gfn) || host_level(v->vm->mm, f->hva) == 1)
		return 1;
	return lodge_notify_stale(&v->vm->npt, f->seq, hva, hva + (512ul << PAGE_SHIFT)) ? 1 : 2;
}

/* Under the lock: still true? Then write it. */
static int install(struct lodge_vcpu *v, const struct fault *f)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	struct lodge_npt *npt = &v->vm->npt;
	u64 bits = f->uncached ? ops->leaf_uc : ops->leaf;
	unsigned long flags;
	bool done = true;

	if (f->writable)
		bits |= ops->write;
	raw_spin_lock_irqsave(&npt->lock, flags);
	if (likely(!lodge_notify_stale(npt, f->seq, f->hva, f->hva + PAGE_SIZE))) {
		if (f->write)
			lodge_mark_dirty(f->slot, f->gfn);
		if (map_level(v, f) == 2)
			done = lodge_npt_install(v, f->gfn & ~511ull, f->pfn & ~511ull, 2,
						 bits | ops->large);
		else
			done = lodge_npt_install(v, f->gfn, f->pfn, 1, bits);
	}	/* else: run again, fault again */
	raw_spin_unlock_irqrestore(&npt->lock, flags);
	return done ? MAP_DONE : MAP_RETRY;
}

/* What is mapped writable counts as dirty: nobody looks at the guest's dirty bits later. */
static void release_page(struct page *p, bool writable)
{
	if (writable && !PageDirty(p) && !PageReserved(p))
		SetPageDirty(p);
	put_page(p);
}

/**
 * lodge_npt_fault_fast - try to map without leaving the window
 * @v: the vCPU; window
 * @gpa: the address that faulted
 * @access: ACC_*
 *
 * Return: MAP_DONE, MAP_MMIO or MAP_RETRY (take the slow path).
 */
int lodge_npt_fault_fast(struct lodge_vcpu *v, gpa_t gpa, u32 access)
{
	struct fault f;
	struct page *p;
	int ret;

	ret = begin(v, &f, gpa, access);
	if (ret != MAP_DONE)
		return ret;
	p = page_fast(&f);
	if (!p)
		return MAP_RETRY;
	f.pfn = page_to_pfn(p);
	ret = install(v, &f);
	release_page(p, f.writable);
	return ret;
}

/* A mapping without struct page (a device's memory): by the host's page tables. */
static int pfn_mapping(struct lodge_vcpu *v, struct fault *f)
{
	struct mm_struct *mm = v->vm->mm;
	struct vm_area_struct *vma;
	bool unlocked = false;
	int ret = -EFAULT;

	mmap_read_lock(mm);
	vma = find_vma(mm, f->hva);
	if (!vma || vma->vm_start > f->hva || !(vma->vm_flags & (VM_IO | VM_PFNMAP)) ||
	    !(vma->vm_flags & (f->write ? VM_WRITE : VM_READ)))
		goto out;
	ret = lodge_follow_pfn(vma, f->hva, &f->pfn, &f->writable);
	if (ret || (f->write && !f->writable)) {
		ret = fixup_user_fault(mm, f->hva, f->write ? FAULT_FLAG_WRITE : 0, &unlocked);
		if (unlocked)
			ret = ret ?: -EAGAIN;
		else if (!ret)
			ret = lodge_follow_pfn(vma, f->hva, &f->pfn, &f->writable);
	}
	if (!ret && f->write && !f->writable)
		ret = -EFAULT;
	f->writable &= f->may_write;
	f->uncached = !page_is_ram(f->pfn);
out:
	mmap_read_unlock(mm);
	return ret;
}

/* Fault the page in. 0 with *p; -EFAULT, -EHWPOISON, -EINTR. */
static int page_slow(struct lodge_vcpu *v, struct fault *f, struct page **p)
{
	struct mm_struct *mm = v->vm->mm;
	bool unlocked = false;
	long n;

	mmap_read_lock(mm);
	n = fixup_user_fault(mm, f->hva, f->write ? FAULT_FLAG_WRITE : 0, &unlocked);
	mmap_read_unlock(mm);
	*p = n ? NULL : page_fast(f);
	if (*p)
		return 0;
	n = get_user_pages_unlocked(f->hva, 1, p, FOLL_HWPOISON | (f->write ? FOLL_WRITE : 0));
	if (n == 1) {
		f->writable = f->write;
		return 0;
	}
	*p = NULL;
	return n < 0 ? n : -EFAULT;
}

static void poisoned(unsigned long hva)
{
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
}

/**
 * lodge_npt_fault - map, sleeping where that is needed
 * @v: the vCPU, vm->srcu held
 * @gpa: the address that faulted
 * @access: ACC_*
 *
 * Return: MAP_DONE, MAP_MMIO, -EFAULT (nothing mapped there, or not for this access), -EINTR
 * (a signal came first), -ENOMEM.
 */
int lodge_npt_fault(struct lodge_vcpu *v, gpa_t gpa, u32 access)
{
	struct page *p;
	struct fault f;
	int ret;

	if (v->stock.n < LODGE_STOCK_LOW && lodge_npt_stock_fill(v))
		return -ENOMEM;
	ret = begin(v, &f, gpa, access);
	if (ret != MAP_DONE)
		return ret;
	ret = page_slow(v, &f, &p);
	if (ret == -EHWPOISON) {
		poisoned(f.hva);
		return MAP_DONE;	/* the signal is seen before the next entry */
	}
	if (ret == -EFAULT)
		ret = pfn_mapping(v, &f);
	if (ret == -EAGAIN)
		return MAP_DONE;
	if (ret)
		return ret == -EINTR || ret == -ERESTARTSYS ? -EINTR : -EFAULT;
	if (p)
		f.pfn = page_to_pfn(p);
	ret = install(v, &f);
	if (p)
		release_page(p, f.writable);
	return ret == MAP_RETRY ? MAP_DONE : ret;
}
