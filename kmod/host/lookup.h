/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host's own page tables, read without a lock.
 *
 * A second-level fault in the window wants to know which page the VMM has at an address, and how large it is
 * mapped there. No kernel tells every module without sleeping (get_user_pages_fast_only() gives the page, not the
 * size of its mapping), so the tables are read here. What that rests on, from 5.10 to 7.3:
 *
 * - Format: the processor's own (SDM 3, 4.5), for the same tables serve it. One format for all levels: bit 0
 *   present, 1 write, 2 user, 7 a leaf above level 1, address bits 51:12. The kernel cannot change it.
 * - Root: mm->pgd is the table of the top level, a kernel address; five levels where pgtable_l5_enabled().
 *   A table is in the direct map, for x86-64 has no other place for one (no HIGHPTE). With page-table isolation
 *   there is a second top table that user mode runs on; this is the kernel's, which maps all of user space.
 * - Life: a table page is freed only after every CPU that might walk it has been told, by an IPI or by RCU, and
 *   both wait for interrupts to come on: what the kernel's own lockless walkers rely on (mm/gup.c: "gup_fast").
 * - Value: an entry is one aligned 64-bit store. It may be gone when we return: the caller compares the mmu
 *   notifier's sequence under npt->lock.
 * - Software's bits: a special entry (bit 9: devices, the zero page) is not ours to read as a page; neither is one
 *   with a protection key, which depends on who asks. PROT_NONE, swap and migration entries are not
 *   present; an entry that userfaultfd has write-protected has its write bit clear.
 * - Memory encryption: its bits are part of the address here, so hosts that use it are refused at load.
 *
 * Interrupts off. No locks.
 */
#ifndef LODGE_HOST_LOOKUP_H
#define LODGE_HOST_LOOKUP_H

#include <linux/build_bug.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

#define LODGE_LEVEL_BITS	9		/* of an index */
#define LODGE_HOST_USER		((u64)(_PAGE_PRESENT | _PAGE_USER))

/* As much of the above as a compiler can see. */
static_assert((_PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_PSE) == (BIT(0) | BIT(1) | BIT(2) | BIT(7)));
static_assert((_PAGE_SPECIAL) == BIT(9));
static_assert((PTRS_PER_PTE) == BIT(LODGE_LEVEL_BITS) && (PAGE_SHIFT) == 12);
static_assert((PMD_SHIFT) == (PAGE_SHIFT) + LODGE_LEVEL_BITS && (PUD_SHIFT) == (PMD_SHIFT) + LODGE_LEVEL_BITS);
static_assert(sizeof(pgd_t) == sizeof(u64) && sizeof(pte_t) == sizeof(u64));
static_assert(!IS_ENABLED(CONFIG_HIGHPTE));
static_assert((__PHYSICAL_MASK_SHIFT) == 52);	/* the address: bits 51:12 */

struct lodge_host_page {
	u64 pfn;		/* of the address itself */
	const u64 *entry;	/* that maps it */
	u8 level;		/* 1 to 5: of the entry */
	bool writable;
};

/* An entry's value, and what it maps an address to, to read or write it; see below. */
static __always_inline bool lodge_host_leaf(u64 e, int level, unsigned long hva, bool write, struct lodge_host_page *p)
{
	const u64 mask = BIT_ULL(PAGE_SHIFT + LODGE_LEVEL_BITS * (level - 1)) - 1;

	if ((e & (LODGE_HOST_USER | _PAGE_SPECIAL | _PAGE_PKEY_MASK)) != LODGE_HOST_USER || (write && !(e & _PAGE_RW)))
		return false;
	p->pfn = ((e & PTE_PFN_MASK & ~mask) | (hva & mask)) >> PAGE_SHIFT;
	p->level = level;
	p->writable = e & _PAGE_RW;
	return level == 1 || pfn_valid(p->pfn);
}

/**
 * lodge_host_lookup - what a user address is mapped to
 * @mm: whose
 * @hva: the address, of user space
 * @write: for a write; a read never breaks copy-on-write: the page is writable if it is so already
 * @p: the result: the frame of @hva itself, and how large it is mapped
 *
 * Context: IRQs off.
 * Return: false where this access would fault, or where the page is not to be taken from here.
 */
static __always_inline bool lodge_host_lookup(struct mm_struct *mm, unsigned long hva, bool write,
					       struct lodge_host_page *p)
{
	int level = pgtable_l5_enabled() ? 5 : 4, shift = PAGE_SHIFT + LODGE_LEVEL_BITS * (level - 1);
	const u64 *t = (const u64 *)mm->pgd;
	u64 e;

	for (;; level--, shift -= LODGE_LEVEL_BITS) {
		p->entry = t + (hva >> shift & (PTRS_PER_PTE - 1));
		e = READ_ONCE(*p->entry);
		if (level == 1 || e & _PAGE_PSE || (e & LODGE_HOST_USER) != LODGE_HOST_USER)
			return lodge_host_leaf(e, level, hva, write, p);
		t = __va(e & PTE_PFN_MASK);
	}
}
#endif
