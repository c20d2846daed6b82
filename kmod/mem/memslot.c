// SPDX-License-Identifier: GPL-2.0
/*
 * Memory slots: which guest frames are which user addresses.
 *
 * Slots are in two sets, each with a tree by guest frame (disjoint) and one by user address (they may overlap, and the
 * mmu notifier asks for a range of them). Readers look into the set that vm->slots names, which does not change while
 * they can; a change is made in the other one, published, and when no reader of the first is left made there too. So it
 * costs the same whatever the number of slots, and has nothing to allocate that could fail half-way.
 *
 * A slot that goes or moves is first marked invalid; when lodge_vm_sync() returns no fault can
 * map it any more, and its range is removed from the second-level tables. Only then does it leave
 * the set: until nothing of it is mapped the mmu notifier must find it. So when the ioctl returns
 * no vCPU reaches the old memory. A failed call changes nothing.
 *
 * Changes: vm->slots_lock. Readers: vm->srcu, or the window.
 */
#include <linux/interval_tree_generic.h>
#include <linux/slab.h>

#include "host/compat.h"
#include "mem/mem.h"

#define MAX_SLOT_PAGES	((1UL << 31) - 1)

#define FIRST(node) ((node)->first)
#define LAST(node) ((node)->last)
INTERVAL_TREE_DEFINE(struct lodge_slot_hva, rb, unsigned long, subtree_last, FIRST, LAST, static inline, hva_tree)

static struct lodge_memslots *current_slots(struct lodge_vm *vm)
{
	return rcu_dereference_protected(vm->slots, lockdep_is_held(&vm->slots_lock));
}

/* Of the two nodes of each slot a set has the first or the second. */
static struct lodge_memslot *by_gfn(const struct lodge_memslots *t, struct rb_node *node)
{
	return container_of(node - t->second, struct lodge_memslot, gfn_node[0]);
}

static struct lodge_memslot *by_hva(const struct lodge_memslots *t, struct lodge_slot_hva *node)
{
	return node ? container_of(node - t->second, struct lodge_memslot, hva_node[0]) : NULL;
}

/* heir: the slot that took over the log, or NULL. */
static void free_slot(struct lodge_memslot *s, const struct lodge_memslot *heir)
{
	if (s && !(heir && heir->dirty == s->dirty))
		kvfree(s->dirty);
	kfree(s);
}

/** lodge_slots_init - no slots */
void lodge_slots_init(struct lodge_vm *vm)
{
	vm->slot_sets[1].second = true;
	vm->slot_sets[0].generation = 1;
	rcu_assign_pointer(vm->slots, &vm->slot_sets[0]);
}

/** lodge_slots_free - the VM goes; nobody looks at the slots any more */
void lodge_slots_free(struct lodge_vm *vm)
{
	struct lodge_memslot *s, *next;

	rbtree_postorder_for_each_entry_safe(s, next, &vm->slot_ids, id_node)
		free_slot(s, NULL);
}

/** lodge_slot_by_id - the slot of a number, or NULL; slots_lock held */
struct lodge_memslot *lodge_slot_by_id(struct lodge_vm *vm, u32 id)
{
	struct rb_node *n = vm->slot_ids.rb_node;

	lockdep_assert_held(&vm->slots_lock);
	while (n) {
		struct lodge_memslot *s = rb_entry(n, struct lodge_memslot, id_node);

		if (s->id == id)
			return s;
		n = id < s->id ? n->rb_left : n->rb_right;
	}
	return NULL;
}

/* The slot of a frame, or else the next one above it, or NULL. */
static struct lodge_memslot *find_from(const struct lodge_memslots *t, gfn_t gfn)
{
	struct lodge_memslot *next = NULL;
	struct rb_node *n = t->by_gfn.rb_node;

	while (n) {
		struct lodge_memslot *s = by_gfn(t, n);

		if (gfn < s->base_gfn) {
			next = s;
			n = n->rb_left;
		} else if (gfn - s->base_gfn >= s->npages) {
			n = n->rb_right;
		} else {
			return s;
		}
	}
	return next;
}

static struct lodge_memslot *find(const struct lodge_memslots *t, gfn_t gfn)
{
	struct lodge_memslot *s = find_from(t, gfn);

	return s && s->base_gfn <= gfn ? s : NULL;
}

/** lodge_slot_by_gfn - the slot of a frame, or NULL; slots_lock held */
struct lodge_memslot *lodge_slot_by_gfn(struct lodge_vm *vm, gfn_t gfn)
{
	return find(current_slots(vm), gfn);
}

/**
 * lodge_slot_of_hva - the slots that lie in a range of user addresses, one after the other
 * @vm: the VM; vm->srcu held, for all of the walk
 * @at: the walk: at->slots is NULL to begin with
 * @first: the first address
 * @last: the last one
 *
 * Return: the next slot, NULL behind the last.
 */
struct lodge_memslot *lodge_slot_of_hva(struct lodge_vm *vm, struct lodge_hva_walk *at, unsigned long first,
					unsigned long last)
{
	if (!at->slots) {
		at->slots = srcu_dereference(vm->slots, &vm->srcu);
		at->node = hva_tree_iter_first(&at->slots->by_hva, first, last);
	} else {
		at->node = hva_tree_iter_next(at->node, first, last);
	}
	return by_hva(at->slots, at->node);
}

/**
 * lodge_vcpu_slot - the slot of a guest frame, through the vCPU's cache of the last answer
 * @v: the vCPU, in its thread; vm->srcu held, or in the window
 * @gfn: the frame
 *
 * The cached pointer is used only while the slots are those it came from, by their generation.
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

static bool overlaps(const struct lodge_memslots *t, const struct lodge_memslot *except,
		     gfn_t base, unsigned long npages)
{
	struct lodge_memslot *s = find_from(t, base);

	if (s && s == except)
		s = find_from(t, s->base_gfn + s->npages);
	return s && s->base_gfn < base + npages;
}

static void insert(struct lodge_memslots *t, struct lodge_memslot *s)
{
	struct rb_node **link = &t->by_gfn.rb_node, *parent = NULL;
	struct lodge_slot_hva *hva = &s->hva_node[t->second];

	while (*link) {
		parent = *link;
		link = s->base_gfn < by_gfn(t, parent)->base_gfn ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&s->gfn_node[t->second], parent, link);
	rb_insert_color(&s->gfn_node[t->second], &t->by_gfn);
	hva->first = s->hva;
	hva->last = s->hva + (s->npages << PAGE_SHIFT) - 1;
	hva_tree_insert(hva, &t->by_hva);
}

static void exchange(struct lodge_memslots *t, struct lodge_memslot *old, struct lodge_memslot *new)
{
	if (old) {
		rb_erase(&old->gfn_node[t->second], &t->by_gfn);
		hva_tree_remove(&old->hva_node[t->second], &t->by_hva);
	}
	if (new)
		insert(t, new);
}

/* slots_lock held. */
static void exchange_id(struct lodge_vm *vm, struct lodge_memslot *old, struct lodge_memslot *new)
{
	struct rb_node **link = &vm->slot_ids.rb_node, *parent = NULL;

	if (old && new) {
		rb_replace_node(&old->id_node, &new->id_node, &vm->slot_ids);
		return;
	}
	if (old) {
		rb_erase(&old->id_node, &vm->slot_ids);
		return;
	}
	while (*link) {
		parent = *link;
		link = new->id < rb_entry(parent, struct lodge_memslot, id_node)->id ? &parent->rb_left :
			&parent->rb_right;
	}
	rb_link_node(&new->id_node, parent, link);
	rb_insert_color(&new->id_node, &vm->slot_ids);
}

/* Put a change into both sets; when this returns nobody looks at the old slot. */
static void publish(struct lodge_vm *vm, struct lodge_memslot *old, struct lodge_memslot *new)
{
	struct lodge_memslots *t = current_slots(vm), *next = &vm->slot_sets[!t->second];

	exchange_id(vm, old, new);
	exchange(next, old, new);
	next->generation = t->generation + 1;
	rcu_assign_pointer(vm->slots, next);
	lodge_vm_sync(vm);
	exchange(t, old, new);
}

static int check_region(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	unsigned int bits = min_t(unsigned int, boot_cpu_data.x86_phys_bits, lodge_npt_gpa_bits(&vm->npt));
	u64 last = r->guest_phys_addr + r->memory_size - 1;

	if (r->flags & ~(u32)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	if (r->slot >= LODGE_MAX_SLOTS)		/* also every address space but 0 */
		return -EINVAL;
	if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & ~PAGE_MASK)
		return -EINVAL;
	/* Not access_ok(): newer ones let addresses with a tag pass. */
	if (r->userspace_addr >= TASK_SIZE_MAX || r->memory_size > TASK_SIZE_MAX - r->userspace_addr)
		return -EINVAL;
	if (r->memory_size >> PAGE_SHIFT > MAX_SLOT_PAGES)
		return -EINVAL;
	if (r->memory_size && (last < r->guest_phys_addr || last >> bits))
		return -EINVAL;
	return 0;
}

static struct lodge_memslot *make_slot(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r,
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
	if (vm->set.dirty_log_manual & KVM_DIRTY_LOG_INITIALLY_SET && !(old && old->dirty))
		bitmap_set(s->dirty, 0, s->npages);
	return s;
}

static void replace(struct lodge_vm *vm, struct lodge_memslot *old, struct lodge_memslot *new)
{
	gfn_t end = old ? old->base_gfn + old->npages : 0;

	if (old && (!new || new->base_gfn != old->base_gfn)) {
		WRITE_ONCE(old->invalid, true);
		lodge_vm_sync(vm);
		lodge_npt_zap(vm, old->base_gfn, end);
	}
	publish(vm, old, new);
	if (old && new && new->dirty && !old->dirty && !(vm->set.dirty_log_manual & KVM_DIRTY_LOG_INITIALLY_SET))
		lodge_npt_write_protect(vm, new->base_gfn, new->base_gfn + new->npages);
	/* Without the log the range may be mapped by large pages again. */
	if (old && new && old->dirty && !new->dirty && lodge_npt_huge)
		lodge_npt_zap(vm, old->base_gfn, end);
	free_slot(old, new);
}

static int set_locked(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	struct lodge_memslot *old = lodge_slot_by_id(vm, r->slot), *new;
	gfn_t base = r->guest_phys_addr >> PAGE_SHIFT;
	unsigned long npages = r->memory_size >> PAGE_SHIFT;

	if (!npages) {
		if (!old)
			return -EINVAL;
		replace(vm, old, NULL);
		return 0;
	}
	if (old) {
		if (r->userspace_addr != old->hva || npages != old->npages ||
		    (r->flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (base == old->base_gfn && r->flags == old->flags)
			return 0;
	}
	if (overlaps(current_slots(vm), old, base, npages))
		return -EEXIST;
	new = make_slot(vm, r, old);
	if (!new)
		return -ENOMEM;
	replace(vm, old, new);
	return 0;
}

static int set_region(struct lodge_vm *vm, const struct kvm_userspace_memory_region *r)
{
	int ret = check_region(vm, r);

	if (ret)
		return ret;
	mutex_lock(&vm->slots_lock);
	ret = vm->snap ? -EBUSY : set_locked(vm, r);
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
 * Return: 0, -EINVAL, -EEXIST (overlap), -ENOMEM, -EBUSY (there is a snapshot).
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
