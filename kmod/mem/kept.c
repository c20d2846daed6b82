// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of a snapshot: what memory held when it was taken, and what was written since.
 *
 * While a slot is tracked (slot->kept) none of its pages is writable for the guest but those whose old content has been
 * copied away: a leaf becomes writable in the same step that puts the page on the list of those written, under
 * npt->lock. What the kernel writes for the guest through the VMM's mapping comes by lodge_kept_touch() first; what it
 * writes in the window goes through a writable leaf. So each page that differs from the snapshot is on a list.
 *
 * Records are found by their frame: a slot has a table of chunks, a chunk is there where a page of its range was written.
 * So a snapshot costs what is written, not what the slots could hold.
 *
 * A copy stays for as long as the snapshot does: putting memory back goes through the lists, and takes writability away
 * again, but the next first write to the same page finds its copy made. Pages that are written round after round are
 * worth no fault: they become hot, stay writable, and are copied back whether they were written or not. Every
 * COOL_EVERY rounds they have to show again that they are.
 *
 * Memory is put back through the leaf where it is there and writable, for then the host's page is the VMM's own; where
 * the host has taken it out (swap, migration, a fork of the VMM) through the VMM's mapping.
 *
 * Snapshots stack. The top one alone tracks. When it goes, what it has seen belongs to the one below: a page that was
 * not written between the two has the same old content in both.
 *
 * Locks: slots_lock for a snapshot's beginning, end and reset, with all vCPUs outside KVM_RUN, so that a vCPU in KVM_RUN
 * sees neither; npt->lock for records and lists.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mem/mem.h"

#define HOT_AFTER	3	/* rounds in a row that a page was written in */
#define COOL_EVERY	128	/* rounds */
#define BATCH		8	/* pages put back with the lock held */

struct lodge_kept {
	struct lodge_kept *next;	/* on a list */
	void *copy;
	struct lodge_memslot *slot;
	gfn_t gfn;
	u64 *leaf;			/* where it was found last; good while the tables are those of leaf_gen */
	u64 leaf_gen;
	u32 round;			/* the last in which it was written */
	u8 heat;
	bool listed;			/* among the written ones or the hot */
};

#define CHUNK		(PAGE_SIZE / sizeof(void *))

struct lodge_kept_chunk {
	struct lodge_kept *record[CHUNK];
};

struct lodge_snap {
	struct lodge_snap *below;
	struct lodge_frozen *state;	/* the top floor's */
	struct lodge_kept *written, *hot;
	atomic_long_t kept;
	unsigned long limit;
	u32 round;
	int nslots;
	struct {
		struct lodge_memslot *slot;
		struct lodge_kept_chunk **kept;
	} slots[];
};

static struct lodge_snap *top(struct lodge_vm *vm)
{
	return READ_ONCE(vm->snap);
}

static struct lodge_kept_chunk **chunk_of(struct lodge_memslot *s, gfn_t gfn)
{
	return &s->kept[lodge_slot_page(s, gfn) / CHUNK];
}

static unsigned long nchunks(const struct lodge_memslot *s)
{
	return DIV_ROUND_UP(s->npages, CHUNK);
}

/* NULL: no page near it was written. Chunks stay for as long as the snapshot does. */
static struct lodge_kept **record_of(struct lodge_memslot *s, gfn_t gfn)
{
	struct lodge_kept_chunk *c = READ_ONCE(*chunk_of(s, gfn));

	return c ? &c->record[lodge_slot_page(s, gfn) % CHUNK] : NULL;
}

/**
 * lodge_kept_state - what a write to a page of a slot has to do first
 * @s: the slot; the snapshot does not begin or end meanwhile
 * @gfn: the frame, inside it
 */
enum lodge_kept_state lodge_kept_state(struct lodge_memslot *s, gfn_t gfn)
{
	struct lodge_kept **record, *k;

	if (likely(!s->kept))
		return KEPT_WRITTEN;
	record = record_of(s, gfn);
	k = record ? READ_ONCE(*record) : NULL;
	return !k ? KEPT_NOT : READ_ONCE(k->listed) ? KEPT_WRITTEN : KEPT_CLEAN;
}

static void free_record(struct lodge_kept *k)
{
	if (k)
		free_page((unsigned long)k->copy);
	kfree(k);
}

static bool make_chunk(struct lodge_memslot *s, gfn_t gfn)
{
	struct lodge_kept_chunk *c;

	BUILD_BUG_ON(sizeof(*c) != PAGE_SIZE);
	if (likely(READ_ONCE(*chunk_of(s, gfn))))
		return true;
	c = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (c && cmpxchg(chunk_of(s, gfn), NULL, c))
		free_page((unsigned long)c);
	return c;
}

/**
 * lodge_kept_alloc - room for the old content of one page
 * @vm: the VM, with a snapshot; may sleep
 * @s: the page's slot
 * @gfn: its frame
 * @bounded: heed the limit
 *
 * Return: the record, for lodge_kept_write() or lodge_kept_free(); -ENOSPC: the limit is reached; -ENOMEM.
 */
struct lodge_kept *lodge_kept_alloc(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn, bool bounded)
{
	struct lodge_snap *snap = top(vm);
	struct lodge_kept *k;

	if (atomic_long_inc_return(&snap->kept) > snap->limit && bounded) {
		atomic_long_dec(&snap->kept);
		return ERR_PTR(-ENOSPC);
	}
	k = make_chunk(s, gfn) ? kzalloc(sizeof(*k), GFP_KERNEL_ACCOUNT) : NULL;
	if (k)
		k->copy = (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (k && k->copy)
		return k;
	kfree(k);
	atomic_long_dec(&snap->kept);
	return ERR_PTR(-ENOMEM);
}

/** lodge_kept_free - it was not needed; NULL will do */
void lodge_kept_free(struct lodge_vm *vm, struct lodge_kept *k)
{
	if (k)
		atomic_long_dec(&top(vm)->kept);
	free_record(k);
}

static void push(struct lodge_kept **list, struct lodge_kept *k)
{
	k->next = *list;
	*list = k;
}

/**
 * lodge_kept_write - a page of a tracked slot is about to be written; npt->lock held
 * @vm: the VM
 * @s: the slot
 * @gfn: the frame
 * @spare: a record where the page may have none; taken if so
 * @content: what the page holds, or NULL: it is in the record
 *
 * Return: false where a record is missing and none was given: the page must not become writable.
 */
bool lodge_kept_write(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn, struct lodge_kept **spare,
		      const void *content)
{
	struct lodge_snap *snap = top(vm);
	struct lodge_kept **record = record_of(s, gfn), *k = record ? *record : NULL;

	lockdep_assert_held(&vm->npt.lock);
	if (!k) {
		k = *spare;
		if (!k)
			return false;
		*spare = NULL;
		if (content)
			copy_page(k->copy, (void *)content);
		k->slot = s;
		k->gfn = gfn;
		WRITE_ONCE(*record, k);	/* the spare came with its chunk */
	}
	if (k->listed)
		return true;
	k->heat = k->round + 1 == snap->round ? min(k->heat + 1, HOT_AFTER) : 1;
	k->round = snap->round;
	push(&snap->written, k);
	WRITE_ONCE(k->listed, true);
	return true;
}

/**
 * lodge_kept_touch - keep a page that will be written through the VMM's mapping
 * @vm: the VM: current's; may sleep, not inside SRCU
 * @s: the slot; it stays, for the snapshot does: vcpu->mutex or slots_lock is held
 * @gfn: the frame
 *
 * The limit is not for these: an instruction half-way could not wait for the VMM's answer.
 *
 * Return: 0, -ENOMEM, -EFAULT: nothing is mapped there.
 */
int lodge_kept_touch(struct lodge_vm *vm, struct lodge_memslot *s, gfn_t gfn)
{
	struct lodge_kept *spare = NULL;
	unsigned long flags;
	int ret = 0;

	if (lodge_kept_state(s, gfn) == KEPT_NOT) {
		spare = lodge_kept_alloc(vm, s, gfn, false);
		if (IS_ERR(spare))
			return PTR_ERR(spare);
		if (copy_from_user(spare->copy, (void __user *)lodge_slot_hva(s, gfn), PAGE_SIZE))
			ret = -EFAULT;
	}
	if (!ret) {
		raw_spin_lock_irqsave(&vm->npt.lock, flags);
		lodge_kept_write(vm, s, gfn, &spare, NULL);
		raw_spin_unlock_irqrestore(&vm->npt.lock, flags);
	}
	lodge_kept_free(vm, spare);
	return ret;
}

/**
 * lodge_kept_touch_range - keep all pages of a range
 * @vm: the VM, with a snapshot; slots_lock held
 * @gfn: the first frame
 * @last: the last one
 *
 * Return: as lodge_kept_touch(); -EINVAL where no writable slot is; -EINTR.
 */
int lodge_kept_touch_range(struct lodge_vm *vm, gfn_t gfn, gfn_t last)
{
	struct lodge_memslot *s = NULL;
	int ret = 0;

	for (; gfn <= last && !ret; gfn++) {
		if (!s || gfn - s->base_gfn >= s->npages)
			s = lodge_slot_by_gfn(vm, gfn);
		if (!s || !s->kept)
			return -EINVAL;
		if (lodge_kept_state(s, gfn) != KEPT_WRITTEN)
			ret = lodge_kept_touch(vm, s, gfn);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return ret;
}

/** lodge_kept_frozen - the state that the top snapshot came with */
struct lodge_frozen *lodge_kept_frozen(struct lodge_vm *vm)
{
	return vm->snap->state;
}

static void free_snap(struct lodge_snap *snap)
{
	int i;

	for (i = 0; i < snap->nslots; i++)
		kvfree(snap->slots[i].kept);
	kvfree(snap);
}


static struct lodge_snap *make_snap(struct lodge_vm *vm, unsigned long limit)
{
	struct lodge_snap *snap;
	struct rb_node *n;
	int nslots = 0;

	for (n = rb_first(&vm->slot_ids); n; n = rb_next(n))
		nslots++;
	snap = kvzalloc(struct_size(snap, slots, nslots), GFP_KERNEL_ACCOUNT);
	if (!snap)
		return NULL;
	snap->limit = limit;
	snap->round = 2;	/* no page was written in the round before */
	for (n = rb_first(&vm->slot_ids); n; n = rb_next(n)) {
		struct lodge_memslot *s = rb_entry(n, struct lodge_memslot, id_node);

		if (s->flags & KVM_MEM_READONLY)
			continue;
		snap->slots[snap->nslots].slot = s;
		snap->slots[snap->nslots].kept = kvcalloc(nchunks(s), sizeof(void *), GFP_KERNEL_ACCOUNT);
		if (!snap->slots[snap->nslots].kept) {
			free_snap(snap);
			return NULL;
		}
		snap->nslots++;
	}
	return snap;
}

/**
 * lodge_kept_begin - memory as it is now is what lodge_kept_reset() brings back
 * @vm: the VM; slots_lock held, vCPUs outside KVM_RUN
 * @state: what lodge_kept_frozen() will answer
 * @limit: so many pages may be copied
 *
 * Return: 0 or -ENOMEM, and nothing has changed.
 */
int lodge_kept_begin(struct lodge_vm *vm, struct lodge_frozen *state, unsigned long limit)
{
	struct lodge_snap *snap = make_snap(vm, limit);
	struct lodge_memslot *s;
	int i;

	lockdep_assert_held(&vm->slots_lock);
	if (!snap)
		return -ENOMEM;
	snap->state = state;
	snap->below = vm->snap;
	WRITE_ONCE(vm->snap, snap);
	for (i = 0; i < snap->nslots; i++) {
		s = snap->slots[i].slot;
		s->kept = snap->slots[i].kept;
		lodge_npt_readonly(vm, s->base_gfn, s->base_gfn + s->npages);
	}
	lodge_npt_flush(vm);
	return 0;
}

/* The entry that maps a page, NULL where its table is not there. npt->lock held. */
static u64 *leaf_of(const struct lodge_npt *npt, struct lodge_kept *k)
{
	if (unlikely(!k->leaf || k->leaf_gen != npt->tables_gen)) {
		k->leaf = lodge_npt_leaf(npt, k->gfn);
		k->leaf_gen = npt->tables_gen;
	}
	return k->leaf;
}

/* The old content is in the page again, if its leaf is there and writable. npt->lock held. */
static bool copy_back(struct lodge_npt *npt, struct lodge_kept *k)
{
	void *page = lodge_npt_own_page(leaf_of(npt, k));

	if (!page)
		return false;
	copy_page(page, k->copy);
	return true;
}

/* One batch of a list that nobody adds to: what comes back is put on *done, and counted; what does not on *left. */
static struct lodge_kept *copy_batch(struct lodge_vm *vm, struct lodge_kept *list, struct lodge_kept **done,
				     struct lodge_kept **left, u64 *copied)
{
	struct lodge_kept *k;
	unsigned long flags;
	bool good;
	int n;

	raw_spin_lock_irqsave(&vm->npt.lock, flags);
	for (n = 0; list && n < BATCH; n++) {
		k = list;
		list = k->next;
		good = copy_back(&vm->npt, k);
		*copied += good;
		push(good ? done : left, k);
		if (unlikely(k->slot->dirty))
			lodge_mark_dirty(k->slot, k->gfn);
	}
	raw_spin_unlock_irqrestore(&vm->npt.lock, flags);
	return list;
}

/* All pages of a list get their old content; those that the VMM does not let have it go to *failed. How many did. */
static u64 put_back(struct lodge_vm *vm, struct lodge_kept **list, struct lodge_kept **failed)
{
	struct lodge_kept *k, *next, *done = NULL, *left = NULL;
	u64 copied = 0;
	bool good;

	for (k = *list; k; k = next) {
		next = copy_batch(vm, k, &done, &left, &copied);
		cond_resched();
	}
	for (k = left; k; k = next) {
		next = k->next;
		good = !copy_to_user((void __user *)lodge_slot_hva(k->slot, k->gfn), k->copy, PAGE_SIZE);
		copied += good;
		push(good ? &done : failed, k);
		cond_resched();
	}
	*list = done;
	return copied;
}

/* Every page that was hot has to show again that it is: one round will do. */
static void cool(struct lodge_snap *snap)
{
	struct lodge_kept *k;

	while ((k = snap->hot) != NULL) {
		snap->hot = k->next;
		k->heat = HOT_AFTER - 1;
		k->round = snap->round;
		push(&snap->written, k);
	}
}

/* The pages written in this round lose their writability, or become hot. True: a flush is due. */
static bool settle(struct lodge_vm *vm, struct lodge_snap *snap)
{
	struct lodge_kept *k, *list = snap->written;
	unsigned long flags;
	bool any = false;
	int n;

	while (list) {
		raw_spin_lock_irqsave(&vm->npt.lock, flags);
		for (n = 0; list && n < BATCH; n++) {
			k = list;
			list = k->next;
			if (k->heat >= HOT_AFTER) {
				push(&snap->hot, k);
				continue;
			}
			k->listed = false;
			any |= lodge_npt_weaken_page(&vm->npt, leaf_of(&vm->npt, k));
		}
		raw_spin_unlock_irqrestore(&vm->npt.lock, flags);
		cond_resched();
	}
	return any;
}

/**
 * lodge_kept_reset - memory as it was when the top snapshot was taken
 * @vm: the VM, with a snapshot; slots_lock held, vCPUs outside KVM_RUN, current is the VMM's
 * @r: what it came to
 *
 * Return: 0; -EFAULT: pages that the guest has written may no longer be written through the VMM's mapping. All others
 * are back, and the next reset tries these again.
 */
int lodge_kept_reset(struct lodge_vm *vm, struct lodge_reset *r)
{
	struct lodge_snap *snap = vm->snap;
	struct lodge_kept *failed = NULL;

	lockdep_assert_held(&vm->slots_lock);
	r->written = put_back(vm, &snap->written, &failed);
	r->hot = put_back(vm, &snap->hot, &failed);
	if (snap->round % COOL_EVERY == 0)
		cool(snap);
	if (settle(vm, snap))
		lodge_npt_flush_idle(vm);
	snap->written = failed;
	snap->round++;
	r->kept = atomic_long_read(&snap->kept);
	return failed ? -EFAULT : 0;
}

/* A snapshot ends: what it knows of a page, for the one below. */
static void hand_down(struct lodge_snap *below, struct lodge_kept **heir, struct lodge_kept *k)
{
	bool listed = k->listed;

	if (*heir) {
		free_record(k);
		k = *heir;
		listed &= !k->listed;
	} else {
		*heir = k;
		atomic_long_inc(&below->kept);
	}
	if (!listed)
		return;
	k->listed = true;
	k->heat = 0;
	k->round = below->round;
	push(&below->written, k);
}

/* What a snapshot that ends has in a chunk. @heir: the chunk of the one below, which may be this one from here on. */
static void end_chunk(struct lodge_snap *below, struct lodge_kept_chunk *c, struct lodge_kept_chunk **heir)
{
	struct lodge_kept *k;
	int i;

	if (below && !*heir)
		*heir = c;
	for (i = 0; i < CHUNK; i++) {
		k = c->record[i];
		c->record[i] = NULL;
		if (k && below)
			hand_down(below, &(*heir)->record[i], k);
		else
			free_record(k);
	}
	if (!below || *heir != c)
		free_page((unsigned long)c);
}

/* Both have the same slots in the same order: they do not change while there is a snapshot. */
static void end_records(struct lodge_snap *snap, struct lodge_snap *below)
{
	struct lodge_kept_chunk *c;
	unsigned long n;
	int i;

	for (i = 0; i < snap->nslots; i++) {
		for (n = 0; n < nchunks(snap->slots[i].slot); n++) {
			c = snap->slots[i].kept[n];
			if (c)
				end_chunk(below, c, below ? &below->slots[i].kept[n] : NULL);
			cond_resched();
		}
	}
}

/**
 * lodge_kept_end - the top snapshot goes; memory stays as it is
 * @vm: the VM, with a snapshot; slots_lock held and vCPUs outside KVM_RUN, or nobody reaches it any more
 */
void lodge_kept_end(struct lodge_vm *vm)
{
	struct lodge_snap *snap = vm->snap, *below = snap->below;
	struct lodge_memslot *s;
	int i;

	end_records(snap, below);
	for (i = 0; i < snap->nslots; i++) {
		s = snap->slots[i].slot;
		s->kept = below ? below->slots[i].kept : NULL;
		/* Its pages may be mapped by large ones again. */
		if (!below && lodge_npt_huge)
			lodge_npt_zap(vm, s->base_gfn, s->base_gfn + s->npages);
	}
	WRITE_ONCE(vm->snap, below);
	free_snap(snap);
}
