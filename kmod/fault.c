// SPDX-License-Identifier: GPL-2.0
/*
 * Second-level faults: from a guest frame to a host frame, by the VMM's own mapping.
 *
 * Fast, in the window: the slot comes from the vCPU's cache, the page from
 * get_user_pages_fast_only(), table pages from the vCPU's stock; nothing sleeps. Slow: the same with
 * get_user_pages_unlocked(), which faults the page in, and with device mappings that have no struct page.
 *
 * No reference to the page is kept: the mmu notifier tells when it goes. The race with it:
 * the notifier's sequence is read before the page is looked up, and compared again under npt->lock
 * right before the entry is written (lodge_notify_stale). An invalidation under way over that address, or one that
 * has ended since, makes the vCPU run again and fault anew.
 *
 * Pages mapped writable are marked dirty now, so swap and write-back know of them; with a dirty log a page is writable
 * only once its bit is set.
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

	if (f->may_write && get_user_pages_fast_only(f->hva, 1, FOLL_WRITE, &p) == 1) {
		f->writable = true;
		return p;
	}
	f->writable = false;
	if (!f->write && get_user_pages_fast_only(f->hva, 1, 0, &p) == 1)
		return p;
	return NULL;
}

/*
 * The size at which the host maps an address: 2 where a PMD maps 2M. Called under npt->lock after
 * the sequence was compared, so the page tables cannot be freed under us: IRQs are off, and a
 * freeing CPU waits for that (or for the notifier, which waits for the lock).
 */
static int host_level(struct mm_struct *mm, unsigned long hva)
{
	pgd_t *pgd = pgd_offset(mm, hva);
	p4d_t *p4d;
	pud_t *pud, pudval;
	pmd_t pmd;

	if (pgd_none(READ_ONCE(*pgd)))
		return 1;
	p4d = p4d_offset(pgd, hva);
	if (p4d_none(READ_ONCE(*p4d)) || !p4d_present(*p4d))
		return 1;
	pud = pud_offset(p4d, hva);
	pudval = READ_ONCE(*pud);
	if (pud_none(pudval) || !pud_present(pudval))
		return 1;
	if (lodge_pud_leaf(pudval))
		return 2;
	pmd = READ_ONCE(*pmd_offset(pud, hva));
	return pmd_present(pmd) && lodge_pmd_leaf(pmd) ? 2 : 1;
}

static int map_level(struct lodge_vcpu *v, const struct fault *f)
{
	const struct lodge_memslot *s = f->slot;
	gfn_t first = f->gfn & ~511ull;

	if (!lodge_npt_huge || s->dirty || f->uncached || (f->gfn ^ f->hva >> PAGE_SHIFT) & 511 ||
	    first < s->base_gfn || first + 512 > s->base_gfn + s->npages)
		return 1;
	if (lodge_npt_has_table(v, f->gfn))
		return 1;
	return host_level(v->vm->mm, f->hva);
}

/* Under the lock: still true? Then write it. */
static int install(struct lodge_vcpu *v, const struct fault *f)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	struct lodge_npt *npt = &v->vm->npt;
	u64 bits = f->uncached ? ops->leaf_uc : ops->leaf;
	unsigned long flags;
	int level, ret = MAP_DONE;

	if (f->writable)
		bits |= ops->write;
	if (f->write)
		lodge_mark_dirty(f->slot, f->gfn);
	raw_spin_lock_irqsave(&npt->lock, flags);
	if (lodge_notify_stale(npt, f->seq, f->hva))
		goto out;		/* run again, fault again */
	level = map_level(v, f);
	if (level == 2)
		ret = lodge_npt_install(v, f->gfn & ~511ull, f->pfn & ~511ull, 2, bits | ops->large) ?
			MAP_DONE : MAP_RETRY;
	else
		ret = lodge_npt_install(v, f->gfn, f->pfn, 1, bits) ? MAP_DONE : MAP_RETRY;
out:
	raw_spin_unlock_irqrestore(&npt->lock, flags);
	return ret;
}

static void release_page(struct page *p, bool writable)
{
	if (writable && !PageReserved(p))
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
	f->uncached = !pfn_valid(f->pfn);
out:
	mmap_read_unlock(mm);
	return ret;
}

static int page_slow(struct fault *f, struct page **p)
{
	long n = get_user_pages_unlocked(f->hva, 1, p, FOLL_HWPOISON | (f->write ? FOLL_WRITE : 0));

	if (n != 1)
		return n < 0 ? n : -EFAULT;
	f->writable = f->write;
	return 0;
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
	struct page *p = NULL;
	struct fault f;
	int ret;

	ret = lodge_npt_stock_fill(v);
	if (ret)
		return ret;
	ret = begin(v, &f, gpa, access);
	if (ret != MAP_DONE)
		return ret;
	p = page_fast(&f);
	ret = p ? 0 : page_slow(&f, &p);
	if (ret == -EHWPOISON) {
		poisoned(f.hva);
		return MAP_DONE;	/* the signal is seen before the next entry */
	}
	if (ret == -EFAULT) {
		p = NULL;
		ret = pfn_mapping(v, &f);
	}
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
