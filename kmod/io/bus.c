// SPDX-License-Identifier: GPL-2.0
/*
 * The device bus: which in-kernel device answers a port or a physical address; coalesced MMIO.
 *
 * Each bus is an immutable array sorted by base, replaced as a whole and searched by halving.
 * Several devices may share a base (ioeventfds that match different data): each is asked until one takes the access.
 * A device says whether it can be called in the window (fast); otherwise the access is repeated outside.
 *
 * Coalesced MMIO lets userspace batch writes that need no answer: they go into a ring that it mmaps
 * with the vCPU and drains at its next exit. The ring is shared memory: its indices are checked
 * each time they are read.
 *
 * Changes: vm->slots_lock. Readers: vm->srcu, or the window. The ring: vm->ring_lock.
 */
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "io/io.h"

#define MAX_DEVICES 1000	/* of those that are counted: ioeventfds are limited by the program's files */

struct lodge_bus {
	int n;
	u32 max_len;			/* of the longest device, 1 or more: how far back a match may begin */
	struct lodge_bus *spare;	/* the other half of the memory: takes over when a device goes */
	struct lodge_iodev *dev[];	/* sorted by base */
};

struct coalesced {
	struct lodge_iodev dev;
	struct lodge_vm *vm;
	int bus;
};

#define RING_SLOTS ((PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / \
		    sizeof(struct kvm_coalesced_mmio))

static struct lodge_bus *bus_alloc(int n)
{
	size_t size = struct_size((struct lodge_bus *)NULL, dev, n);
	struct lodge_bus *b = kvzalloc(2 * size, GFP_KERNEL_ACCOUNT);

	if (b) {
		b->spare = (void *)b + size;
		b->spare->spare = b;
	}
	return b;
}

static void bus_release(struct lodge_bus *b)
{
	kvfree(b ? min(b, b->spare) : NULL);
}

/* What was there before is not in use any more when this returns. */
static void bus_publish(struct lodge_vm *vm, int bus, struct lodge_bus *new)
{
	int i;

	new->max_len = 1;
	for (i = 0; i < new->n; i++)
		new->max_len = max(new->max_len, new->dev[i]->len);
	rcu_assign_pointer(vm->bus[bus], new->n ? new : NULL);
	/* Only vCPUs look into it: before the first, which is made under the same lock, there is nobody to wait for. */
	if (vm->nvcpus)
		lodge_vm_sync(vm);
}

/**
 * lodge_bus_add - a device appears
 * @vm: the VM, slots_lock held
 * @bus: BUS_PIO or BUS_MMIO
 * @d: the device
 *
 * Return: 0, -ENOSPC or -ENOMEM.
 */
int lodge_bus_add(struct lodge_vm *vm, int bus, struct lodge_iodev *d)
{
	struct lodge_bus *old = rcu_dereference_protected(vm->bus[bus], lockdep_is_held(&vm->slots_lock));
	int n = old ? old->n : 0, counted = 0, i;
	struct lodge_bus *new;

	for (i = 0; i < n; i++)
		counted += !old->dev[i]->uncounted;
	if (!d->uncounted && counted >= MAX_DEVICES)
		return -ENOSPC;
	new = bus_alloc(n + 1);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < n && old->dev[i]->base <= d->base; i++)
		new->dev[i] = old->dev[i];
	new->dev[i] = d;
	for (; i < n; i++)
		new->dev[i + 1] = old->dev[i];
	new->n = n + 1;
	bus_publish(vm, bus, new);
	bus_release(old);
	return 0;
}

/**
 * lodge_bus_del - a device goes
 * @vm: the VM, slots_lock held
 * @bus: its bus
 * @d: the device, which is there; nobody uses it when this returns
 *
 * Never fails, for it takes no memory; the other devices answer all the while.
 */
void lodge_bus_del(struct lodge_vm *vm, int bus, struct lodge_iodev *d)
{
	struct lodge_bus *old = rcu_dereference_protected(vm->bus[bus], lockdep_is_held(&vm->slots_lock));
	struct lodge_bus *new = old->spare;
	int i;

	new->n = 0;
	for (i = 0; i < old->n; i++)
		if (old->dev[i] != d)
			new->dev[new->n++] = old->dev[i];
	bus_publish(vm, bus, new);
	if (!new->n)
		bus_release(new);
}

/** lodge_bus_free - the VM goes: every device left is destroyed; nobody uses them any more */
void lodge_bus_free(struct lodge_vm *vm)
{
	int b, i;

	for (b = BUS_PIO; b <= BUS_MMIO; b++) {
		struct lodge_bus *bus = rcu_dereference_protected(vm->bus[b], 1);

		for (i = 0; bus && i < bus->n; i++)
			if (bus->dev[i]->destroy)
				bus->dev[i]->destroy(bus->dev[i]);
		bus_release(bus);
		RCU_INIT_POINTER(vm->bus[b], NULL);
	}
}

/* Index after the last device that begins at or below addr. */
static int upper(const struct lodge_bus *bus, u64 addr)
{
	int lo = 0, hi = bus->n;

	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (bus->dev[mid]->base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool covers(const struct lodge_iodev *d, u64 addr, int len)
{
	/* addr - base is below the bus's max_len: this does not wrap. */
	return addr - d->base + len <= d->len || (d->any_len && addr == d->base);
}

/* From the last one that begins at or below the address, until one takes the access. */
static int ask_devices(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool write, bool window)
{
	const struct lodge_bus *b = rcu_dereference_check(v->vm->bus[bus], window ||
							  srcu_read_lock_held(&v->vm->srcu));
	int i, ret;

	if (!b)
		return -EOPNOTSUPP;
	for (i = upper(b, addr) - 1; i >= 0 && addr - b->dev[i]->base < b->max_len; i--) {
		struct lodge_iodev *d = b->dev[i];

		if (!covers(d, addr, len) || (write ? !d->write : !d->read))
			continue;
		if (window && !d->fast)
			return -EAGAIN;
		ret = write ? d->write(d, v, addr, len, val) : d->read(d, v, addr, len, val);
		if (ret != -EOPNOTSUPP)
			return ret;
	}
	return -EOPNOTSUPP;
}

/**
 * lodge_bus_access - lodge_bus_read() and lodge_bus_write(): whatever in-kernel device is there
 * @v: the vCPU
 * @bus: BUS_PIO or BUS_MMIO
 * @addr: port or physical address
 * @len: 1, 2, 4 or 8
 * @val: where to, or from
 * @write: direction
 * @window: called with IRQs off
 *
 * Return: 0, -EOPNOTSUPP (no device), -EAGAIN (not in the window).
 */
int lodge_bus_access(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool write, bool window)
{
	int idx, ret;

	if (window)
		return ask_devices(v, bus, addr, len, val, write, true);
	idx = srcu_read_lock(&v->vm->srcu);
	ret = ask_devices(v, bus, addr, len, val, write, false);
	srcu_read_unlock(&v->vm->srcu, idx);
	return ret;
}

/* -- coalesced MMIO -- */

/**
 * lodge_coalesced_page - the page of the VM's ring
 * @vm: the VM
 *
 * Who maps it or names a zone is the first to need it; most VMs have neither.
 *
 * Return: the page, which stays as long as the VM; NULL: out of memory.
 */
struct page *lodge_coalesced_page(struct lodge_vm *vm)
{
	struct page *old = READ_ONCE(vm->coalesced_page), *page;

	if (old)
		return old;
	page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	old = page ? cmpxchg(&vm->coalesced_page, NULL, page) : NULL;
	if (!old)
		return page;
	__free_page(page);
	return old;
}

static int coalesced_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct coalesced *c = container_of(d, struct coalesced, dev);
	struct kvm_coalesced_mmio_ring *ring = page_address(c->vm->coalesced_page);
	struct kvm_coalesced_mmio *slot;
	u32 first, last;
	int ret = -EOPNOTSUPP;

	raw_spin_lock(&c->vm->ring_lock);
	first = READ_ONCE(ring->first);
	last = READ_ONCE(ring->last);
	/* Full, or userspace wrote nonsense: the write goes out as an ordinary exit. */
	if (first < RING_SLOTS && last < RING_SLOTS && (last + 1) % RING_SLOTS != first) {
		slot = &ring->coalesced_mmio[array_index_nospec(last, RING_SLOTS)];
		slot->phys_addr = addr;
		slot->len = len;
		memcpy(slot->data, val, len);
		slot->pio = c->bus == BUS_PIO;
		/* Userspace reads last, then the slots below it. */
		smp_store_release(&ring->last, (last + 1) % RING_SLOTS);
		ret = 0;
	}
	raw_spin_unlock(&c->vm->ring_lock);
	return ret;
}

static void coalesced_destroy(struct lodge_iodev *d)
{
	kfree(container_of(d, struct coalesced, dev));
}

/**
 * lodge_ioc_coalesced_add - KVM_REGISTER_COALESCED_MMIO
 * @vm: the VM
 * @buf: struct kvm_coalesced_mmio_zone
 * @arg: unused
 *
 * Return: 0, -EINVAL (pio not 0 or 1), -ENOSPC, -ENOMEM.
 */
int lodge_ioc_coalesced_add(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_coalesced_mmio_zone *z = buf;
	struct coalesced *c;
	int ret;

	if (z->pio > 1)
		return -EINVAL;
	c = lodge_coalesced_page(vm) ? kzalloc(sizeof(*c), GFP_KERNEL_ACCOUNT) : NULL;
	if (!c)
		return -ENOMEM;
	c->dev = (struct lodge_iodev) {
		.base = z->addr, .len = z->size, .fast = true,
		.write = coalesced_write, .destroy = coalesced_destroy,
	};
	c->vm = vm;
	c->bus = z->pio ? BUS_PIO : BUS_MMIO;
	mutex_lock(&vm->slots_lock);
	ret = lodge_bus_add(vm, c->bus, &c->dev);
	mutex_unlock(&vm->slots_lock);
	if (ret)
		kfree(c);
	return ret;
}

/* A zone of this bus that contains the one named, or NULL. */
static struct lodge_iodev *find_zone(struct lodge_vm *vm, const struct kvm_coalesced_mmio_zone *z)
{
	struct lodge_bus *b = rcu_dereference_protected(vm->bus[z->pio ? BUS_PIO : BUS_MMIO],
							lockdep_is_held(&vm->slots_lock));
	int i;

	for (i = 0; b && i < b->n; i++) {
		struct lodge_iodev *d = b->dev[i];

		if (d->write == coalesced_write && z->addr - d->base <= d->len &&
		    z->size <= d->len - (z->addr - d->base))
			return d;
	}
	return NULL;
}

/** lodge_ioc_coalesced_del - KVM_UNREGISTER_COALESCED_MMIO; no zone is no error */
int lodge_ioc_coalesced_del(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_coalesced_mmio_zone *z = buf;
	struct lodge_iodev *d;

	if (z->pio > 1)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	while ((d = find_zone(vm, z))) {
		lodge_bus_del(vm, z->pio ? BUS_PIO : BUS_MMIO, d);
		coalesced_destroy(d);
	}
	mutex_unlock(&vm->slots_lock);
	return 0;
}
