// SPDX-License-Identifier: GPL-2.0
/*
 * Second-level faults: from a guest frame to a host frame, by the VMM's own mapping.
 *
 * Fast, in the window: the slot comes from the vCPU's cache, the page from the host's page tables
 * themselves, table pages from the vCPU's stock; nothing sleeps. Slow: the host takes the fault
 * first, as if the VMM had touched the page. What then is still not found the fast way goes
 * through get_user_pages_unlocked(), which knows why, or is a device mapping, which has no struct
 * page.
 *
 * No reference to the page is kept: the mmu notifier tells when it goes. The race with it: the
 * notifier's sequence is read before the page is looked up, and compared again under npt->lock
 * right before the entry is written (lodge_notify_stale). An invalidation under way over that
 * address, or one that has ended since, makes the vCPU run again and fault anew.
 *
 * Pages mapped writable are marked dirty now, so swap and write-back know of them. A write to a
 * slot with a dirty log sets the page's bit in the same step that makes it writable; where the
 * hardware keeps a log the page may be writable before, but not dirty.
 *
 * Called by the vCPU's thread. Locks: npt->lock around the install.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>

#include "host/compat.h"
#include "host/lookup.h"
#include "mem/mem.h"

#define AROUND		16	/* pages: as many as the host maps at once where a file is read */
#define AROUND_BYTES	(AROUND * PAGE_SIZE)

struct fault {
	gfn_t gfn;
	unsigned long hva;
	struct lodge_memslot *slot;
	bool write;
	bool may_write;		/* the slot allows it, and no log wants to hear of it first */
	bool writable;		/* the host page is */
	bool uncached;
	bool held;		/* a reference to the page is ours */
	u8 level;		/* 1 to 3: how large the host maps it, and the processor could */
	kvm_pfn_t pfn;
	struct page *page;	/* NULL: a device's memory */
	unsigned long seq;
	struct lodge_kept *spare;	/* for the old content of a page that a snapshot has */
};

static void take_seq(struct lodge_vcpu *v, struct fault *f)
{
	f->seq = READ_ONCE(v->vm->npt.notify_seq);
	smp_rmb();	/* the sequence before the host's page tables */
}

static int begin(struct lodge_vcpu *v, struct fault *f, gpa_t gpa, u32 access)
{
	f->gfn = gpa >> PAGE_SHIFT;
	f->slot = lodge_vcpu_slot(v, f->gfn);
	f->write = access & ACC_WRITE;
	f->uncached = false;
	f->held = false;
	f->spare = NULL;
	if (!f->slot || (f->write && f->slot->flags & KVM_MEM_READONLY))
		return MAP_MMIO;
	f->hva = lodge_slot_hva(f->slot, f->gfn);
	f->may_write = f->write || (!(f->slot->flags & KVM_MEM_READONLY) && !f->slot->kept &&
				    (!f->slot->dirty || lodge_ops->pte_ops->log));
	take_seq(v, f);
	return MAP_DONE;
}

/* Is there room to be made for the page's old content? Once there is it stays, until the vCPU is out of KVM_RUN. */
static bool must_keep(const struct fault *f)
{
	return unlikely(f->slot->kept) && f->write && lodge_kept_state(f->slot, f->gfn) == KEPT_NOT;
}

/*
 * The page, if the host has it mapped; IRQs off. An anonymous one needs no reference: when the
 * sequence still holds, under npt->lock, it is still mapped. Of other pages some are not for the
 * kernel's eyes (memfd_secret): the kernel knows which.
 */
static bool find_page(struct mm_struct *mm, struct fault *f)
{
	struct lodge_host_page host;
	struct page *p;

	if (!lodge_host_lookup(mm, f->hva, f->write, &host))
		return false;
	f->pfn = host.pfn;
	f->writable = f->may_write && host.writable;
	f->level = min_t(int, host.level, lodge_ops->pte_ops->top_leaf);
	f->page = pfn_to_page(f->pfn);
	if (likely(PageAnon(f->page)))
		return true;
	if (get_user_pages_fast_only(f->hva, 1, f->writable ? FOLL_WRITE : 0, &p) != 1)
		return false;
	f->held = p == f->page;
	if (!f->held)
		put_page(p);
	return f->held;
}

/* The slot's limits for a large leaf; with a dirty log or a snapshot pages are mapped one by one. */
static bool large_fits(const struct fault *f, int level)
{
	const struct lodge_memslot *s = f->slot;
	gfn_t size = 1ULL << (level - 1) * 9, first = f->gfn & -size;

	return lodge_npt_huge && !s->dirty && !s->kept && !((f->gfn ^ f->hva >> PAGE_SHIFT) & (size - 1)) &&
	       first >= s->base_gfn && first + size <= s->base_gfn + s->npages;
}

/* The page's old content is safe; npt->lock held. A device's memory has none that could be brought back. */
static bool keep(struct lodge_vm *vm, struct fault *f)
{
	return likely(!f->slot->kept || !f->write) || !f->page ||
	       lodge_kept_write(vm, f->slot, f->gfn, &f->spare, pfn_to_kaddr(f->pfn));
}

/*
 * A file's page was mapped to be read: when the host did so it mapped those around it (mm/memory.c, do_fault_around()). So
 * do we, or the guest would come back for each. What is of the same file the kernel may see, too.
 */
static noinline void map_around(struct lodge_vcpu *v, const struct fault *f)
{
	u64 *leaf, bits = lodge_ops->pte_ops->leaf | (f->slot->dirty ? 0 : lodge_ops->pte_ops->log);
	const int at = (f->hva >> PAGE_SHIFT) % AROUND;
	unsigned long flags, first = f->hva & -AROUND_BYTES;
	struct lodge_npt *npt = &v->vm->npt;
	struct lodge_host_page p;
	int i;

	raw_spin_lock_irqsave(&npt->lock, flags);
	leaf = lodge_npt_leaf(npt, f->gfn);
	/* What is mapped stays so, without a reference: an invalidation to come waits for the lock. */
	if (leaf && !lodge_notify_stale(npt, f->seq, first, first + AROUND_BYTES) &&
	    lodge_host_lookup(v->vm->mm, f->hva, false, &p) && p.level == 1) {
		for (i = -at; i < AROUND - at; i++) {
			/* In the slot, and in the same table. */
			if (f->gfn + i - f->slot->base_gfn < f->slot->npages && (f->gfn + i) >> 9 == f->gfn >> 9 &&
			    lodge_host_leaf(READ_ONCE(p.entry[i]), 1, 0, false, &p) &&
			    compound_head(pfn_to_page(p.pfn))->mapping == compound_head(f->page)->mapping)
				lodge_npt_fill(npt, leaf + i, p.pfn, bits);
		}
	}
	raw_spin_unlock_irqrestore(&npt->lock, flags);
}

/* Under the lock: still true? Then write it, and drop the page. */
static int install(struct lodge_vcpu *v, struct fault *f)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	u64 bits = (f->uncached ? ops->leaf_uc : ops->leaf) | (f->writable ? ops->write : 0);
	unsigned long size, start, flags;
	int level = f->level;
	struct lodge_npt *npt = &v->vm->npt;
	bool done = true;

	if (f->write || !f->slot->dirty)
		bits |= ops->log;
	while (level > 1 && !large_fits(f, level))
		level--;
	size = PAGE_SIZE << (level - 1) * 9;
	start = f->hva & -size;
	raw_spin_lock_irqsave(&npt->lock, flags);
	if (likely(!lodge_notify_stale(npt, f->seq, start, start + size) && keep(v->vm, f))) {
		if (f->write)
			lodge_mark_dirty(f->slot, f->gfn);
		/* What is mapped writable counts as dirty: nobody looks at the guest's bits later. */
		if (f->writable && f->page && !PageDirty(f->page) && !PageReserved(f->page))
			SetPageDirty(f->page);
		done = lodge_npt_install(v, f->gfn, f->pfn, level, bits);
	}	/* else: run again, fault again */
	raw_spin_unlock_irqrestore(&npt->lock, flags);
	if (f->held) {
		if (done && level == 1 && !f->writable)
			map_around(v, f);
		put_page(f->page);
	}
	return done ? MAP_DONE : MAP_RETRY;
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
	int ret;

	ret = begin(v, &f, gpa, access);
	if (ret != MAP_DONE)
		return ret;
	if (must_keep(&f))
		return MAP_RETRY;
	return find_page(v->vm->mm, &f) ? install(v, &f) : MAP_RETRY;
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
	f->page = NULL;
	f->level = 1;
out:
	mmap_read_unlock(mm);
	return ret;
}

/**
 * lodge_fault_in - have the host take a fault, as if the VMM had touched the address
 * @mm: the VMM's, the caller's own
 * @hva: the address
 * @write: for a write
 *
 * May last for ever: not inside SRCU, nor with a lock that others wait for.
 *
 * Return: 0; -EFAULT; -EINTR where the program is being killed; -EHWPOISON.
 */
int lodge_fault_in(struct mm_struct *mm, unsigned long hva, bool write)
{
	bool unlocked = false;
	int ret;

	mmap_read_lock(mm);
	ret = fixup_user_fault(mm, hva, write ? FAULT_FLAG_WRITE : 0, &unlocked);
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Does the program handle faults there itself? Then it may want to be called by a signal, which only the way through
 * get_user_pages can do, in kernels that can at all. mmap_lock held.
 */
static bool handled_by_program(struct mm_struct *mm, unsigned long hva)
{
	struct vm_area_struct *vma = FOLL_INTERRUPTIBLE ? find_vma(mm, hva) : NULL;

	return vma && vma->vm_start <= hva && userfaultfd_armed(vma);
}

/* The page as the host has it now, IRQs on. */
static bool find_now(struct lodge_vcpu *v, struct fault *f)
{
	bool found;

	take_seq(v, f);
	local_irq_disable();
	found = find_page(v->vm->mm, f);
	local_irq_enable();
	return found;
}

/* Fault the page in. 0, -EFAULT, -EHWPOISON, -EINTR. */
static int page_slow(struct lodge_vcpu *v, struct fault *f)
{
	struct mm_struct *mm = v->vm->mm;
	bool unlocked = false;
	long n;

	mmap_read_lock(mm);
	n = handled_by_program(mm, f->hva) ? -EFAULT :
	    fixup_user_fault(mm, f->hva, f->write ? FAULT_FLAG_WRITE : 0, &unlocked);
	mmap_read_unlock(mm);
	/* The fault itself told the notifier where it broke copy-on-write: what counts is from here on. */
	if (!n && find_now(v, f))
		return 0;
	n = get_user_pages_unlocked(f->hva, 1, &f->page,
				    FOLL_HWPOISON | FOLL_INTERRUPTIBLE | (f->write ? FOLL_WRITE : 0));
	if (n != 1)
		return n < 0 ? n : -EFAULT;
	f->held = true;
	f->writable = f->write;
	f->level = 1;
	f->pfn = page_to_pfn(f->page);
	return 0;
}

static void poisoned(unsigned long hva)
{
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
}

/* The slow way, behind begin(). With room for its old content all that the page lacked may have been that. */
static int map_slow(struct lodge_vcpu *v, struct fault *f, gpa_t gpa, u32 access)
{
	int idx, ret = f->spare && find_now(v, f) ? 0 : page_slow(v, f);
	struct fault now;
	bool same;

	if (ret == -EHWPOISON) {
		poisoned(f->hva);
		return MAP_DONE;	/* the signal is seen before the next entry */
	}
	if (ret == -EFAULT)
		ret = pfn_mapping(v, f);
	if (ret == -EAGAIN)
		return MAP_DONE;
	if (ret == -EINTR || ret == -ERESTARTSYS)
		return -EINTR;
	/*
	 * The slot of before may be gone, and the program's memory with it. One that is as it was will do; else the guest
	 * faults anew.
	 */
	idx = srcu_read_lock(&v->vm->srcu);
	same = begin(v, &now, gpa, access) == MAP_DONE && now.hva == f->hva && now.may_write == f->may_write;
	if (!ret && same) {
		f->slot = now.slot;
		install(v, f);
	} else if (!ret && f->held) {
		put_page(f->page);
	}
	srcu_read_unlock(&v->vm->srcu, idx);
	return ret && same ? -EFAULT : MAP_DONE;
}

/**
 * lodge_npt_fault - map, sleeping where that is needed
 * @v: the vCPU; not inside SRCU, for the host's fault may wait for the program itself
 * @gpa: the address that faulted
 * @access: ACC_*
 *
 * Return: MAP_DONE, MAP_MMIO, -EFAULT (nothing mapped there, or not for this access), -EINTR
 * (a signal came first), -ENOMEM, -ENOSPC (a snapshot has to keep the page, and may keep no more).
 */
int lodge_npt_fault(struct lodge_vcpu *v, gpa_t gpa, u32 access)
{
	bool keeps = false;
	struct fault f;
	int idx, ret;

	if (v->stock.n < LODGE_STOCK_LOW && lodge_npt_stock_fill(v))
		return -ENOMEM;
	idx = srcu_read_lock(&v->vm->srcu);
	ret = begin(v, &f, gpa, access);
	if (ret == MAP_DONE)
		keeps = must_keep(&f);
	srcu_read_unlock(&v->vm->srcu, idx);
	if (ret != MAP_DONE)
		return ret;
	if (keeps) {
		f.spare = lodge_kept_alloc(v->vm, f.slot, f.gfn, true);
		if (IS_ERR(f.spare))
			return PTR_ERR(f.spare);
	}
	ret = map_slow(v, &f, gpa, access);
	lodge_kept_free(v->vm, f.spare);
	return ret;
}

/**
 * lodge_npt_copy - let the processor walk the guest's own tables where they lie in a read-only slot
 * @v: the vCPU, outside the window and SRCU
 * @gpa: the entry that it was about to read
 *
 * A walk counts as a write, whether it will set a bit or not (APM 2, 15.25.6; SDM 3, 29.3.3.2). So the processor gets a
 * copy of the page, which may be written, until the slot or the page behind it changes.
 *
 * Return: MAP_DONE; MAP_MMIO where there is no memory; an errno.
 */
int lodge_npt_copy(struct lodge_vcpu *v, gpa_t gpa)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	struct lodge_npt *npt = &v->vm->npt;
	struct fault f, now;
	unsigned long flags;
	bool done = false;
	struct page *p;
	int idx, ret;

	idx = srcu_read_lock(&v->vm->srcu);
	ret = begin(v, &f, gpa, 0);
	srcu_read_unlock(&v->vm->srcu, idx);
	if (ret != MAP_DONE)
		return ret;
	p = alloc_page(GFP_KERNEL_ACCOUNT);
	if (!p)
		return -ENOMEM;
	ret = lodge_read_gpa(v, gpa & PAGE_MASK, page_address(p), PAGE_SIZE);
	if (!ret)
		lodge_npt_zap(v->vm, f.gfn, f.gfn + 1);	/* it may be there to be read */
	idx = srcu_read_lock(&v->vm->srcu);
	if (!ret && begin(v, &now, gpa, 0) == MAP_DONE && now.hva == f.hva && now.slot->flags & KVM_MEM_READONLY) {
		raw_spin_lock_irqsave(&npt->lock, flags);
		if (!lodge_notify_stale(npt, f.seq, f.hva, (f.hva | ~PAGE_MASK) + 1))
			done = lodge_npt_install(v, f.gfn, page_to_pfn(p), 1,
						 ops->leaf | ops->write | ops->log | LODGE_PTE_COPY);
		raw_spin_unlock_irqrestore(&npt->lock, flags);
	}
	srcu_read_unlock(&v->vm->srcu, idx);
	if (!done)
		__free_page(p);		/* run again, fault again */
	return ret ?: MAP_DONE;
}
