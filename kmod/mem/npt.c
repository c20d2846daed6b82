// SPDX-License-Identifier: GPL-2.0
/*
 * The second-level tables: one radix tree, whatever the format of its entries (struct
 * lodge_pte_ops: masks for EPT or NPT).
 *
 * Leaves are 4K, 2M or 1G. Entries change under npt->lock; the hardware and lockless readers
 * (lodge_npt_peek, in the window) look at them any time, so each change is one 64-bit store and a
 * table page is freed only when lodge_npt_flush() has seen every window end.
 *
 * There are two walkers, descend() to a frame and walk() of a range, which are inlined with their visitors into their
 * users: looking an entry up, writing a leaf; taking ranges away, write-protecting, asking what was used. walk() stays as
 * low in the tree as it can; a range is gone through table by table, not from the root for each of its pages.
 *
 * What goes over a range goes in bounded steps, so that the lock is never held for long. A range
 * that covers all of a 2M or 1G table takes the table out, with those below it: the next fault may
 * map 2M or 1G there, which it does not where a table is. That is also how small pages become a large
 * one: the host announces it to the mmu notifier.
 *
 * Locks: npt->lock (raw, IRQs off) is a leaf. Called from faults, the mmu notifier, slot changes.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "host/compat.h"
#include "mem/mem.h"

#define ENTRIES		512
#define MAX_LEVELS	5
#define STEP		128	/* entries looked at with the lock held */
#define HAS_COPIES	BIT(8)	/* in a table page's private, with the level where it is dead */

static unsigned int shift(int level)
{
	return (level - 1) * 9;		/* of a frame number */
}

static u64 *table(u64 pa)
{
	return phys_to_virt(pa & lodge_ops->pte_ops->addr);
}

static bool is_present(u64 e)
{
	return e & lodge_ops->pte_ops->present;
}

static bool is_leaf(u64 e, int level)
{
	return level == 1 || e & lodge_ops->pte_ops->large;
}

/* What the walker has come to. */
struct spot {
	u64 *e;			/* the entry */
	u64 val;		/* what it held */
	gfn_t gfn;		/* the first frame asked for that it translates */
	int level;
	bool table;		/* it leads to a table; else a leaf, or nothing */
};

enum go { ON, DOWN, STOP };

typedef enum go visit_fn(struct spot *at, void *arg);

static __always_inline void look(struct spot *at, u64 *table, gfn_t gfn, unsigned int s)
{
	at->gfn = gfn;
	at->e = table + (gfn >> s & (ENTRIES - 1));
	at->val = READ_ONCE(*at->e);
	at->table = is_present(at->val) && !is_leaf(at->val, at->level);
}

/* Visit the entries on the way to one frame, from the top, until the visitor does not answer DOWN. */
static __always_inline void descend(const struct lodge_npt *npt, gfn_t gfn, visit_fn *visit, void *arg)
{
	struct spot at = { .level = npt->levels };
	unsigned int s = shift(at.level);
	u64 *t = phys_to_virt(npt->root);

	for (look(&at, t, gfn, s); visit(&at, arg) == DOWN; look(&at, t, gfn, s)) {
		s -= 9;
		at.level--;
		t = table(at.val);
	}
}

/*
 * Visit the entries that translate a range, in order: tables before what is below them; leaves and absent entries
 * at the level where they are. A visitor answers ON (what is below is left out), DOWN (into the table that
 * at->val names by now) or STOP. At most budget entries.
 *
 * Return: the frame to go on with; end, where the visitor said STOP.
 */
static __always_inline gfn_t walk(const struct lodge_npt *npt, gfn_t gfn, gfn_t end, int budget,
				  visit_fn *visit, void *arg)
{
	struct spot at = { .level = npt->levels };
	unsigned int s = shift(at.level);
	u64 *t[MAX_LEVELS + 1];

	t[at.level] = phys_to_virt(npt->root);
	while (gfn < end && budget--) {
		look(&at, t[at.level], gfn, s);
		switch (visit(&at, arg)) {
		case DOWN:
			s -= 9;
			t[--at.level] = table(at.val);
			break;
		case ON:
			gfn = ((gfn >> s) + 1) << s;
			/* Up again where a table ends. */
			for (; at.level < npt->levels && !(gfn >> s & (ENTRIES - 1)); s += 9)
				at.level++;
			break;
		case STOP:
			return end;
		}
	}
	return gfn;
}

/* All of a range with npt->lock, which is taken anew for each step; where the caller may sleep others may run between. */
static __always_inline void walk_steps(struct lodge_npt *npt, gfn_t gfn, gfn_t end, bool sleeps,
				       visit_fn *visit, void *arg)
{
	unsigned long flags;

	while (gfn < end) {
		raw_spin_lock_irqsave(&npt->lock, flags);
		gfn = walk(npt, gfn, end, STEP, visit, arg);
		raw_spin_unlock_irqrestore(&npt->lock, flags);
		if (sleeps)
			cond_resched();
	}
}

/** lodge_npt_init - the top table; 0 or -ENOMEM */
int lodge_npt_init(struct lodge_vm *vm)
{
	struct page *p = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);

	if (!p)
		return -ENOMEM;
	lodge_count_tables(p, 1);
	raw_spin_lock_init(&vm->npt.lock);
	vm->npt.levels = lodge_ops->npt_levels();
	vm->npt.root = page_to_phys(p);
	vm->npt.gen = 1;
	return 0;
}

/* Level 0: the page of a leaf with LODGE_PTE_COPY. The leaves that go are counted by their levels, if asked for. */
static void free_table(u64 pa, int level, bool sleeps, u64 *leaves)
{
	u64 *t = table(pa);
	bool below = level > 1 || (level && (leaves || page_private(virt_to_page(t)) & HAS_COPIES));
	int i;

	for (i = 0; below && i < ENTRIES; i++) {
		if (!is_present(t[i]))
			continue;
		if (leaves && is_leaf(t[i], level))
			leaves[level - 1]++;
		if (level > 1 ? !is_leaf(t[i], level) : t[i] & LODGE_PTE_COPY)
			free_table(t[i], level - 1, sleeps, leaves);
	}
	if (level)
		lodge_count_tables(virt_to_page(t), -1);
	free_page((unsigned long)t);
	if (sleeps)
		cond_resched();
}

/** lodge_npt_free - the VM goes: nobody walks the tables any more */
void lodge_npt_free(struct lodge_vm *vm)
{
	free_table(vm->npt.root, vm->npt.levels, true, NULL);
}

/**
 * lodge_npt_stock_fill - table pages for the faults to come
 * @v: the vCPU; may sleep
 *
 * Return: 0 or -ENOMEM.
 */
int lodge_npt_stock_fill(struct lodge_vcpu *v)
{
	struct lodge_npt_stock *s = &v->stock;

	while (s->n < LODGE_STOCK) {
		struct page *p = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);

		if (!p)
			return -ENOMEM;
		s->page[s->n++] = p;
	}
	return 0;
}

/** lodge_npt_stock_drain - give them back */
void lodge_npt_stock_drain(struct lodge_vcpu *v)
{
	while (v->stock.n)
		__free_page(v->stock.page[--v->stock.n]);
}

/* Who enters from now on flushes first. */
static u64 raise_gen(struct lodge_vm *vm)
{
	unsigned long flags;
	u64 number;

	raw_spin_lock_irqsave(&vm->npt.lock, flags);
	number = lodge_tlb_number(&vm->npt);
	WRITE_ONCE(vm->npt.gen, vm->npt.gen + 1);
	vm->stat.remote_tlb_flush++;
	raw_spin_unlock_irqrestore(&vm->npt.lock, flags);
	return number;
}

/**
 * lodge_npt_flush - no vCPU uses a translation that was taken away before
 * @vm: the VM
 *
 * Context: IRQs on, npt->lock not held; does not sleep.
 */
void lodge_npt_flush(struct lodge_vm *vm)
{
	u64 number = raise_gen(vm);

	lodge_kick_all_sync(vm);
	lodge_tlb_settled(&vm->npt, number);
}

/** lodge_npt_flush_idle - the same where no vCPU is in KVM_RUN, nor can come in */
void lodge_npt_flush_idle(struct lodge_vm *vm)
{
	lodge_tlb_settled(&vm->npt, raise_gen(vm));
}

struct found {
	u64 val;
	int level;
};

static enum go find_visit(struct spot *at, void *arg)
{
	struct found *f = arg;

	if (at->table)
		return DOWN;
	*f = (struct found) { at->val, at->level };
	return STOP;
}

/* The kernel's address of a byte of guest memory whose leaf has the bits. */
static void *reach(const struct lodge_npt *npt, gpa_t gpa, u64 bits)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	gfn_t gfn = gpa >> PAGE_SHIFT;
	struct found f;
	u64 mask;

	if (gpa >> lodge_npt_gpa_bits(npt))
		return NULL;
	descend(npt, gfn, find_visit, &f);
	if (!is_present(f.val) || (f.val & (ops->leaf | ops->leaf_uc | bits)) != (ops->leaf | bits))
		return NULL;
	mask = (PAGE_SIZE << shift(f.level)) - 1;
	return phys_to_virt((f.val & ops->addr & ~mask) | (gpa & mask));
}

/**
 * lodge_npt_peek - the kernel's address of guest memory that is mapped
 * @v: the vCPU
 * @gpa: the byte, to read
 *
 * Context: IRQs off; the result is good until they come on (or the window ends).
 * Return: the address, NULL when it is not mapped (so) or not ordinary memory.
 */
void *lodge_npt_peek(struct lodge_vcpu *v, gpa_t gpa)
{
	return reach(&v->vm->npt, gpa, 0);
}

/** lodge_npt_poke - the same to write: as the guest would, by a leaf that lets it and is logged already */
void *lodge_npt_poke(struct lodge_vcpu *v, gpa_t gpa)
{
	return reach(&v->vm->npt, gpa, lodge_ops->pte_ops->write | lodge_ops->pte_ops->log);
}

/* So many leaves of each size are mapped: of the VM's statistics. npt->lock held. */
static u64 *leaves_of(struct lodge_npt *npt, int level)
{
	return &container_of(npt, struct lodge_vm, npt)->stat.leaves[level - 1];
}

struct leaf {
	struct lodge_npt *npt;
	struct lodge_npt_stock *stock;
	kvm_pfn_t pfn;
	int level;
	u64 bits;
	bool done;
};

static enum go install_visit(struct spot *at, void *arg)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	struct leaf *leaf = arg;
	u64 e = leaf->bits;

	if (at->table)
		return DOWN;
	if (!is_present(at->val) && at->level > leaf->level) {
		if (!leaf->stock->n)
			return STOP;
		lodge_count_tables(leaf->stock->page[leaf->stock->n - 1], 1);
		at->val = page_to_phys(leaf->stock->page[--leaf->stock->n]) | ops->table;
		WRITE_ONCE(*at->e, at->val);
		return DOWN;
	}
	/* A copy lies where nothing was, alone, and stays. */
	if (unlikely((at->val | leaf->bits) & LODGE_PTE_COPY)) {
		leaf->done = at->val & LODGE_PTE_COPY;
		if (is_present(at->val))
			return STOP;
		set_page_private(virt_to_page(at->e), HAS_COPIES);
	}
	e |= (leaf->pfn >> shift(at->level) << shift(at->level)) << PAGE_SHIFT;
	if (at->level > 1)
		e |= ops->large;
	if (is_present(at->val) && !((at->val ^ e) & ops->addr))
		e |= at->val & (ops->write | ops->log);
	*leaves_of(leaf->npt, at->level) += !is_present(at->val);
	WRITE_ONCE(*at->e, e);
	leaf->done = true;
	return STOP;
}

/**
 * lodge_npt_install - write a leaf; npt->lock held
 * @v: the vCPU whose stock gives table pages
 * @gfn: the frame, inside the slots
 * @pfn: its host frame
 * @level: 2 or 3 where all of its 2M or 1G may be mapped at once, else 1
 * @bits: the leaf's other bits
 *
 * A page that is there already keeps what it has: a fault only ever adds rights, so that no flush
 * is due. Its frame is the same, for the notifier takes a page out before the host exchanges it.
 *
 * Return: true when done, false when the stock ran out.
 */
bool lodge_npt_install(struct lodge_vcpu *v, gfn_t gfn, kvm_pfn_t pfn, int level, u64 bits)
{
	struct lodge_npt *npt = &v->vm->npt;
	struct leaf leaf = { .npt = npt, .stock = &v->stock, .pfn = pfn, .level = level, .bits = bits };

	lockdep_assert_held(&npt->lock);
	descend(npt, gfn, install_visit, &leaf);
	return leaf.done;
}

/** lodge_npt_fill - write a leaf where nothing is: @leaf is lodge_npt_leaf()'s, or one beside it. npt->lock held */
void lodge_npt_fill(struct lodge_npt *npt, u64 *leaf, kvm_pfn_t pfn, u64 bits)
{
	if (is_present(*leaf))
		return;
	(*leaves_of(npt, 1))++;
	WRITE_ONCE(*leaf, pfn << PAGE_SHIFT | bits);
}

/* Take rights away; npt->lock held. The caller sees to the flush. */
static void weaken(struct lodge_npt *npt, u64 *e, u64 val)
{
	WRITE_ONCE(*e, val);
	lodge_tlb_cleared(npt);
}

/* Does gfn..end begin with all that an entry of this level translates? Above 3 nobody asks. */
static bool covers(gfn_t gfn, gfn_t end, int level)
{
	gfn_t size = 1ULL << shift(level);

	return level <= 3 && !(gfn & (size - 1)) && end - gfn >= size;
}

struct zap {
	struct lodge_npt *npt;
	gfn_t end;
	struct list_head *dead;
	bool any;
};

static enum go zap_visit(struct spot *at, void *arg)
{
	struct zap *z = arg;

	if (at->table && !covers(at->gfn, z->end, at->level))
		return DOWN;
	if (!is_present(at->val))
		return ON;
	/* All of a table: out with the table itself. */
	if (at->table)
		z->npt->tables_gen++;
	if (at->table || at->val & LODGE_PTE_COPY) {
		struct page *p = virt_to_page(table(at->val));

		set_page_private(p, (page_private(p) & HAS_COPIES) | (at->level - 1));
		list_add(&p->lru, z->dead);
	}
	if (!at->table)
		(*leaves_of(z->npt, at->level))--;
	weaken(z->npt, at->e, 0);
	z->any = true;
	return ON;
}

/**
 * lodge_npt_unmap - take a range of frames out of the tables
 * @vm: the VM
 * @start: first frame
 * @end: behind the last one
 * @dead: table pages to free after lodge_npt_flush()
 * @sleeps: the caller may
 *
 * Context: IRQs on.
 * Return: true when something was there, and a flush is due.
 */
bool lodge_npt_unmap(struct lodge_vm *vm, gfn_t start, gfn_t end, struct list_head *dead, bool sleeps)
{
	struct zap z = { .npt = &vm->npt, .end = end, .dead = dead };

	walk_steps(&vm->npt, start, end, sleeps, zap_visit, &z);
	return z.any;
}

/** lodge_npt_free_dead - free table pages of a VM that nobody can walk any more */
void lodge_npt_free_dead(struct lodge_vm *vm, struct list_head *dead, bool sleeps)
{
	u64 leaves[ARRAY_SIZE(vm->stat.leaves)] = { 0 };
	struct page *p, *next;
	unsigned long flags;
	int i;

	if (list_empty(dead))
		return;
	list_for_each_entry_safe(p, next, dead, lru) {
		list_del(&p->lru);
		free_table(page_to_phys(p), page_private(p) & ~(unsigned long)HAS_COPIES, sleeps, leaves);
	}
	raw_spin_lock_irqsave(&vm->npt.lock, flags);
	for (i = 0; i < ARRAY_SIZE(leaves); i++)
		vm->stat.leaves[i] -= leaves[i];
	raw_spin_unlock_irqrestore(&vm->npt.lock, flags);
}

/**
 * lodge_npt_zap - take a range out, flush, free
 * @vm: the VM
 * @start: first frame
 * @end: behind the last one
 *
 * Context: may sleep.
 */
void lodge_npt_zap(struct lodge_vm *vm, gfn_t start, gfn_t end)
{
	LIST_HEAD(dead);

	if (lodge_npt_unmap(vm, start, end, &dead, true))
		lodge_npt_flush(vm);
	lodge_npt_free_dead(vm, &dead, true);
}

/* A large leaf goes altogether: its pages come back one by one. Of a small one some rights do. */
static void narrow(struct lodge_npt *npt, struct spot *at, u64 rights)
{
	if (at->level > 1)
		(*leaves_of(npt, at->level))--;
	weaken(npt, at->e, at->level > 1 ? 0 : *at->e & ~rights);
}

static enum go protect_visit(struct spot *at, void *npt)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;

	if (at->table)
		return DOWN;
	if (is_present(at->val))
		narrow(npt, at, ops->log ?: ops->write);
	return ON;
}

/**
 * lodge_npt_protect_word - the next write to each page that has a bit is seen, without the flush
 * @vm: the VM
 * @gfn: the frame of bit 0
 * @bits: the pages
 *
 * Pages become read-only, or not dirty where the hardware keeps a log: what it sets in this very
 * moment, and we overwrite, is in its log.
 */
void lodge_npt_protect_word(struct lodge_vm *vm, gfn_t gfn, unsigned long bits)
{
	struct lodge_npt *npt = &vm->npt;
	unsigned long flags, first, n;

	raw_spin_lock_irqsave(&npt->lock, flags);
	while (bits) {
		first = __ffs(bits);
		n = ~bits ? ffz(bits >> first) : BITS_PER_LONG;
		walk(npt, gfn + first, gfn + first + n, INT_MAX, protect_visit, npt);
		bits &= ~GENMASK(first + n - 1, first);
	}
	raw_spin_unlock_irqrestore(&npt->lock, flags);
}

/** lodge_npt_write_protect - the same for a range, with the flush: a slot's log is switched on. May sleep */
void lodge_npt_write_protect(struct lodge_vm *vm, gfn_t start, gfn_t end)
{
	walk_steps(&vm->npt, start, end, true, protect_visit, &vm->npt);
	lodge_npt_flush(vm);
}

static enum go readonly_visit(struct spot *at, void *npt)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;

	if (at->table)
		return DOWN;
	if (is_present(at->val) && (at->level > 1 || at->val & ops->write))
		narrow(npt, at, ops->write | ops->log);
	return ON;
}

/** lodge_npt_readonly - no page of a range is writable, nor a large one, when the caller has flushed. May sleep */
void lodge_npt_readonly(struct lodge_vm *vm, gfn_t start, gfn_t end)
{
	walk_steps(&vm->npt, start, end, true, readonly_visit, &vm->npt);
}

static enum go leaf_visit(struct spot *at, void *leaf)
{
	if (at->table)
		return DOWN;
	*(u64 **)leaf = at->level == 1 ? at->e : NULL;
	return STOP;
}

/** lodge_npt_leaf - the entry of a 4K page, be it present or not; NULL where there is no table for it. npt->lock held */
u64 *lodge_npt_leaf(const struct lodge_npt *npt, gfn_t gfn)
{
	u64 *leaf;

	descend(npt, gfn, leaf_visit, &leaf);
	return leaf;
}

/** lodge_npt_own_page - the kernel's address of the page behind an entry that lets it be written, or NULL. npt->lock held */
void *lodge_npt_own_page(const u64 *leaf)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;
	const u64 bits = ops->leaf | ops->write;

	if (!leaf || (*leaf & (bits | ops->leaf_uc)) != bits)
		return NULL;
	return phys_to_virt(*leaf & ops->addr);
}

/** lodge_npt_weaken_page - the page behind an entry is not writable any more; true: it was, and a flush is due. npt->lock held */
bool lodge_npt_weaken_page(struct lodge_npt *npt, u64 *leaf)
{
	const struct lodge_pte_ops *ops = lodge_ops->pte_ops;

	if (!leaf || !is_present(*leaf) || !(*leaf & ops->write))
		return false;
	weaken(npt, leaf, *leaf & ~(ops->write | ops->log));
	return true;
}

struct age {
	bool clear, young;
};

static enum go age_visit(struct spot *at, void *arg)
{
	const u64 accessed = lodge_ops->pte_ops->accessed;
	struct age *age = arg;

	if (at->table)
		return DOWN;
	if (!is_present(at->val) || !(at->val & accessed))
		return ON;
	age->young = true;
	if (!age->clear)
		return STOP;
	clear_bit(__ffs64(accessed), (unsigned long *)at->e);
	return ON;
}

static enum go any_visit(struct spot *at, void *any)
{
	if (at->table)
		return DOWN;
	*(bool *)any |= is_present(at->val);
	return *(bool *)any ? STOP : ON;
}

/* Without accessed bits what is mapped counts as used, and is used when it has to be mapped again. */
static bool age_without_bits(struct lodge_vm *vm, gfn_t start, gfn_t end, bool clear)
{
	LIST_HEAD(dead);
	bool any = false;

	if (!clear) {
		walk_steps(&vm->npt, start, end, false, any_visit, &any);
		return any;
	}
	any = lodge_npt_unmap(vm, start, end, &dead, false);
	if (any)
		lodge_npt_flush(vm);
	lodge_npt_free_dead(vm, &dead, false);
	return any;
}

/**
 * lodge_npt_age - were pages of a range used since the last time?
 * @vm: the VM
 * @start: first frame
 * @end: behind the last one
 * @clear: forget it
 *
 * Context: does not sleep. A translation that a TLB still holds does not set the bit again: the
 * answer is a hint, as the kernel takes it.
 */
bool lodge_npt_age(struct lodge_vm *vm, gfn_t start, gfn_t end, bool clear)
{
	struct age age = { .clear = clear };

	if (!lodge_ops->pte_ops->accessed)
		return age_without_bits(vm, start, end, clear);
	walk_steps(&vm->npt, start, end, false, age_visit, &age);
	return age.young;
}
