// SPDX-License-Identifier: GPL-2.0
/*
 * Memory slots: which guest frames are which user addresses.
 *
 * The table is a sorted array, immutable once published in vm->slots; every change builds a new
 * one. A slot that goes or moves is first marked invalid; when lodge_vm_sync() returns no fault can
 * map it any more, and its range is removed from the second-level tables. Only then does it leave
 * the table: until nothing of it is mapped the mmu notifier must find it. So when the ioctl returns
 * no vCPU reaches the old memory. A failed call changes nothing: all memory is allocated before
 * the table is swapped.
 *
 * Dirty log: one bit a page. A fault sets the bit and makes the page writable in one step under
 * npt->lock; what the kernel itself writes sets it after the write. Reading the log takes the bits,
 * then the writability (under the same lock), flushes, and only then hands the bits out: a write
 * that the reader may not see in the page's bytes always has its bit set again. With
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 reading only copies, and KVM_CLEAR_DIRTY_LOG does the rest for
 * the pages it names. A log that begins with all bits set leaves the tables as they are: a leaf,
 * large or small, stays writable until one of its bits is taken. Where the hardware logs writes
 * (pte_ops->log) it is the entry's dirty bit that is taken, and a vCPU hands in what was logged
 * when its window ends: before the log is read every window is ended.
 *
 * Changes: vm->slots_lock. Readers: vm->srcu, or the window.
 */
#include <linux/compat.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "host/compat.h"
#include "mem/mem.h"

#define MAX_SLOT_PAGES	((1UL << 31) - 1)

static struct lodge_memslots *current_slots(struct lodge_vm *vm)
{
	return rcu_dereference_protected(vm->slots, lockdep_is_held(&vm->slots_lock));
}

/* heir: the slot that took over the log, or NULL. */
static void free_slot(struct lodge_memslot *s, const struct lodge_memslot *heir)
{
	if (s && !(heir && heir->dirty == s->dirty))
		kvfree(s->dirty);
	kfree(s);
}

/** lodge_slots_init - an empty table; 0 or -ENOMEM */
int lodge_slots_init(struct lodge_vm *vm)
{
	struct lodge_memslots *t = kvzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);

	if (!t)
		return -ENOMEM;
	t->generation = 1;
	rcu_assign_pointer(vm->slots, t);
	return 0;
}

/** lodge_slots_free - the VM goes; nobody looks at the table any more */
void lodge_slots_free(struct lodge_vm *vm)
{
	struct lodge_memslots *t = rcu_dereference_protected(vm->slots, 1);
	int i;

	for (i = 0; i < t->n; i++)
		free_slot(t->by_gfn[i], NULL);
	kvfree(t);
}

static struct lodge_memslot *find(const struct lodge_memslots *t, gfn_t gfn)
{
	int lo = 0, hi = t->n;

	while (lo < hi) {
		int mid = (lo + hi) / 2;
		struct lodge_memslot *s = t->by_gfn[mid];

		if (gfn < s->base_gfn)
			hi = mid;
		else if (gfn - s->base_gfn >= s->npages)
			lo = mid + 1;
		else
			return s;
	}
	return NULL;
}

/**
 * lodge_vcpu_slot - the slot of a guest frame, through the vCPU's cache of the last answer
 * @v: the vCPU, in its thread; vm->srcu held, or in the window
 * @gfn: the frame
 *
 * The cached pointer is used only while the table it came from is the current one: by generation,
 * for a freed table's address may come back.
 *
 * Return: the slot or NULL.
 */
struct lodge_memslot *lodge_vcpu_slot(struct lodge_vcpu *v, gfn_t gfn)
{
	const struct lodge_memslots *t = rcu_dereference_check(v->vm->slots, irqs_disabled() ||
							       srcu_read_lock_held(&v->vm->srcu));
	struct lodge_memslot *s = v->last_slot;

	if (unlikely(v->last_slots_gen != t->generation || gfn - s->base_gfn >= s->npages)) {
		s = find(t, gfn);
		if (!s)
			return NULL;
		v->last_slot = s;
		v->last_slots_gen = t->generation;
	}
	return READ_ONCE(s->invalid) ? NULL : s;
}

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

/**
 * lodge_log_written - the hardware's log says that a page was written
 * @v: the vCPU; window
 * @gfn: the frame
 *
 * A slot that is moving takes its log along: also that of what was written before it was invalid.
 */
void lodge_log_written(struct lodge_vcpu *v, gfn_t gfn)
{
	struct lodge_memslot *s = find(rcu_dereference_check(v->vm->slots, irqs_disabled()), gfn);

	if (s)
		lodge_mark_dirty(s, gfn);
}

static struct lodge_memslot *slot_by_id(struct lodge_memslots *t, u16 id)
{
	int i;

	for (i = 0; i < t->n; i++)
		if (t->by_gfn[i]->id == id)
			return t->by_gfn[i];
	return NULL;
}

static bool overlaps(const struct lodge_memslots *t, const struct lodge_memslot *except,
		     gfn_t base, unsigned long npages)
{
	int i;

	for (i = 0; i < t->n; i++) {
		const struct lodge_memslot *s = t->by_gfn[i];

		if (s != except && base < s->base_gfn + s->npages && s->base_gfn < base + npages)
			return true;
	}
	return false;
}

/* A new table: the old one without old, with new. Either may be NULL. */
static struct lodge_memslots *build(const struct lodge_memslots *t, const struct lodge_memslot *old,
				    struct lodge_memslot *new)
{
	struct lodge_memslots *n = kvzalloc(struct_size(n, by_gfn, t->n + 1), GFP_KERNEL_ACCOUNT);
	int i;

	if (!n)
		return NULL;
	for (i = 0; i < t->n; i++) {
		if (new && new->base_gfn < t->by_gfn[i]->base_gfn) {
			n->by_gfn[n->n++] = new;
			new = NULL;
		}
		if (t->by_gfn[i] != old)
			n->by_gfn[n->n++] = t->by_gfn[i];
	}
	if (new)
		n->by_gfn[n->n++] = new;
	n->generation = t->generation + 1;
	return n;
}

static int check_region(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	unsigned int bits = min_t(unsigned int, boot_cpu_data.x86_phys_bits,
				  lodge_npt_gpa_bits(&vm->npt));
	u64 last = r->guest_phys_addr + r->memory_size - 1;

	if (r->flags & ~(u32)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if (r->slot >= LODGE_MAX_SLOTS)		/* also every address space but 0 */
		return -EINVAL;
	if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & ~PAGE_MASK)
		return -EINVAL;
	/* Not access_ok(): newer ones let addresses with a tag pass. */
	if (r->userspace_addr >= TASK_SIZE_MAX ||
	    r->memory_size > TASK_SIZE_MAX - r->userspace_addr)
		return -EINVAL;
	if (r->memory_size >> PAGE_SHIFT > MAX_SLOT_PAGES)
		return -EINVAL;
	if (r->memory_size && (last < r->guest_phys_addr || last >> bits))
		return -EINVAL;
	return 0;
}

static struct lodge_memslot *make_slot(struct lodge_vm *vm,
				       const struct kvm_userspace_memory_region *r,
				       struct lodge_memslot *old)
{
	struct lodge_memslot *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return NULL;
	s->base_gfn = r->guest_phys_addr >> PAGE_SHIFT;
	s->npages = r->memory_size >> PAGE_SHIFT;
	s->hva = r->userspace_addr;
	s->flags = r->flags;
	s->id = r->slot;
	if (!(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return s;
	/* A slot that only moves takes its log along. */
	if (old && old->dirty)
		s->dirty = old->dirty;
	else
		s->dirty = kvcalloc(BITS_TO_LONGS(s->npages), sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!s->dirty) {
		kfree(s);
		return NULL;
	}
	if (vm->dirty_log_manual & KVM_DIRTY_LOG_INITIALLY_SET && !(old && old->dirty))
		bitmap_set(s->dirty, 0, s->npages);
	return s;
}

/* Swap the table; when this returns the old slot is in nobody's hands. */
static int replace(struct lodge_vm *vm, struct lodge_memslot *old, struct lodge_memslot *new)
{
	struct lodge_memslots *t = current_slots(vm), *n = build(t, old, new);
	gfn_t end = old ? old->base_gfn + old->npages : 0;

	if (!n)
		return -ENOMEM;
	if (old && (!new || new->base_gfn != old->base_gfn)) {
		WRITE_ONCE(old->invalid, true);
		lodge_vm_sync(vm);
		lodge_npt_zap(vm, old->base_gfn, end);
	}
	rcu_assign_pointer(vm->slots, n);
	lodge_vm_sync(vm);
	if (old && new && new->dirty && !old->dirty &&
	    !(vm->dirty_log_manual & KVM_DIRTY_LOG_INITIALLY_SET))
		lodge_npt_write_protect(vm, new->base_gfn, new->base_gfn + new->npages);
	/* Without the log the range may be mapped by large pages again. */
	if (old && new && old->dirty && !new->dirty && lodge_npt_huge)
		lodge_npt_zap(vm, old->base_gfn, end);
	free_slot(old, new);
	kvfree(t);
	return 0;
}

static int set_locked(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	struct lodge_memslots *t = current_slots(vm);
	struct lodge_memslot *old = slot_by_id(t, r->slot), *new;
	gfn_t base = r->guest_phys_addr >> PAGE_SHIFT;
	unsigned long npages = r->memory_size >> PAGE_SHIFT;
	int ret;

	if (!npages)
		return old ? replace(vm, old, NULL) : -EINVAL;
	if (old) {
		if (r->userspace_addr != old->hva || npages != old->npages ||
		    (r->flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (base == old->base_gfn && r->flags == old->flags)
			return 0;
	}
	if (overlaps(t, old, base, npages))
		return -EEXIST;
	new = make_slot(vm, r, old);
	if (!new)
		return -ENOMEM;
	ret = replace(vm, old, new);
	if (ret)
		free_slot(new, old);
	return ret;
}

static int set_region(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	int ret = check_region(vm, r);

	if (ret)
		return ret;
	mutex_lock(&vm->slots_lock);
	ret = set_locked(vm, r);
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/**
 * lodge_ioc_set_region - KVM_SET_USER_MEMORY_REGION: create, delete, move or change a slot
 * @vm: the VM
 * @buf: struct kvm_userspace_memory_region
 * @arg: unused
 *
 * Context: may sleep; takes slots_lock.
 * Return: 0, -EINVAL, -EEXIST (overlap), -ENOMEM.
 */
int lodge_ioc_set_region(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return set_region(vm, buf);
}

/**
 * lodge_ioc_set_region2 - KVM_SET_USER_MEMORY_REGION2: the same; there is no guest_memfd
 *
 * The padding is not looked at: callers leave it uninitialized, and KVM lets them.
 */
int lodge_ioc_set_region2(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_userspace_memory_region2 *r2 = buf;
	struct kvm_userspace_memory_region r = {
		.slot = r2->slot, .flags = r2->flags, .guest_phys_addr = r2->guest_phys_addr,
		.memory_size = r2->memory_size, .userspace_addr = r2->userspace_addr,
	};

	return set_region(vm, &r);
}

/*
 * Take bits of a logged slot, and the writability of their pages. bits: those to take, of the
 * words from first on; out of it come those that were set.
 */
static void take_dirty(struct lodge_vm *vm, struct lodge_memslot *s, unsigned long first,
		       unsigned long words, unsigned long *bits)
{
	gfn_t end = s->base_gfn + s->npages, at = s->base_gfn + first * BITS_PER_LONG;
	unsigned long i, *dirty;
	bool any = false;

	for (i = 0; i < words; i++, at += BITS_PER_LONG) {
		dirty = &s->dirty[first + i];
		bits[i] &= READ_ONCE(*dirty);
		if (!bits[i])
			continue;
		bits[i] &= atomic_long_fetch_andnot(bits[i], (atomic_long_t *)dirty);
		lodge_npt_protect_range(vm, at, min_t(gfn_t, at + BITS_PER_LONG, end));
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

	if (vm->dirty_log_manual)
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

static int clear_dirty_log(struct lodge_vm *vm, struct lodge_memslot *s,
			   const struct kvm_clear_dirty_log *log)
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
	s = slot_by_id(current_slots(vm), log->slot);
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
	s = slot_by_id(current_slots(vm), log->slot);
	if (s && s->dirty)
		ret = clear_dirty_log(vm, s, log);
	mutex_unlock(&vm->slots_lock);
	return ret;
}
