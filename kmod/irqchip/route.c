// SPDX-License-Identifier: GPL-2.0
/*
 * GSIs: the numbers by which userspace, irqfds and the PIT name interrupts, and what each leads to:
 * pins of the 8259s and the IOAPIC, or a message (MSI). And the ioctls of the irqchip as a whole.
 *
 * The table is immutable and replaced as a whole. Entries are sorted by GSI with an index as long as it must be, and an
 * MSI is decoded when it is set, so raising a GSI is a lookup and the delivery.
 *
 * vm->routes: written under slots_lock, read under vm->srcu, also in the window and in hard interrupts
 * (timers, eventfds), which is why the readers here take it themselves.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "irqchip/irqchip.h"

#define CHIP_PINS KVM_IOAPIC_NUM_PINS

struct route {
	bool msi;
	u8 chip, pin;			/* KVM_IRQCHIP_*, and the pin in it */
	struct lodge_msg msg;
};

struct lodge_routes {
	refcount_t refs;			/* the VM's, and those of frozen states */
	u32 ngsi;				/* GSIs up to the last one that is used */
	u32 api;				/* vm->set.x2apic_api, by which MSIs were decoded */
	struct lodge_state_route *wire;		/* behind e: what each was made of */
	u16 *first;				/* behind these: a GSI's entries are [first[gsi], first[gsi + 1]) */
	s16 gsi[KVM_NR_IRQCHIPS][CHIP_PINS];	/* of each pin, -1: none */
	struct route e[];
};

/* -- raising -- */

/*
 * An MSI's address and data (SDM 3, 11.11). Bits 31 to 8 of the destination are in the address's upper half where
 * userspace has said that it means them.
 */
static struct lodge_msg decode_msi(struct lodge_vm *vm, u32 addr, u32 high, u32 data)
{
	u32 api = READ_ONCE(vm->set.x2apic_api);
	struct lodge_msg m = {
		.dest = (addr >> 12 & 0xff) | (api & KVM_X2APIC_API_USE_32BIT_IDS ? high & ~0xffu : 0),
		.x2apic_dest = api & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
		.vector = data & 0xff,
		.mode = data >> 8 & 7,
		.logical = addr & BIT(2),
		.level = data & BIT(15),
		.assert = true,
	};

	if (m.mode == MSG_FIXED && addr & BIT(3))
		m.mode = MSG_LOWEST;	/* the redirection hint */
	return m;
}

static bool high_is_bad(struct lodge_vm *vm, u32 high)
{
	return high & 0xff && READ_ONCE(vm->set.x2apic_api) & KVM_X2APIC_API_USE_32BIT_IDS;
}

static int set_pin(struct lodge_vm *vm, const struct route *e, int source, int level)
{
	if (e->chip == KVM_IRQCHIP_IOAPIC)
		return lodge_ioapic_set_irq(vm, e->pin, source, level);
	return lodge_pic_set_irq(vm, e->chip * 8 + e->pin, source, level);
}

enum action { LOWER, RAISE, PULSE };

static int act(struct lodge_vm *vm, const struct route *e, int source, enum action what)
{
	int ret;

	if (e->msi)
		return what == LOWER ? -1 : lodge_lapic_deliver(vm, NULL, &e->msg);
	ret = set_pin(vm, e, source, what != LOWER);
	if (what == PULSE)
		set_pin(vm, e, source, 0);
	return ret;
}

static int act_gsi(struct lodge_vm *vm, u32 gsi, int source, enum action what)
{
	const struct lodge_routes *r;
	int i, one, idx, ret = -1;

	idx = srcu_read_lock(&vm->srcu);
	r = srcu_dereference(vm->routes, &vm->srcu);
	if (!r || gsi >= r->ngsi)
		goto out;
	gsi = array_index_nospec(gsi, r->ngsi);
	for (i = r->first[gsi]; i < r->first[gsi + 1]; i++) {
		one = act(vm, &r->e[i], source, what);
		if (one >= 0)
			ret = one + max(ret, 0);
	}
out:
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

/**
 * lodge_set_gsi - one source raises or lowers a GSI
 * @vm: the VM
 * @gsi: any number
 * @source: LODGE_IRQ_SOURCE_*
 * @level: up or down; an MSI is sent when it goes up
 *
 * Context: any.
 * Return: <0: no route, or masked; 0: no edge, or refused; >0: so many took it.
 */
int lodge_set_gsi(struct lodge_vm *vm, u32 gsi, int source, int level)
{
	return act_gsi(vm, gsi, source, level ? RAISE : LOWER);
}

/** lodge_pulse_gsi - raise and lower: an edge, or one message */
int lodge_pulse_gsi(struct lodge_vm *vm, u32 gsi, int source)
{
	return act_gsi(vm, gsi, source, PULSE);
}

/**
 * lodge_ack_notify - the guest is done with a pin
 * @vm: the VM
 * @chip: KVM_IRQCHIP_*
 * @pin: the pin in it
 *
 * Context: any; no device lock held.
 */
void lodge_ack_notify(struct lodge_vm *vm, int chip, int pin)
{
	const struct lodge_routes *r;
	int idx = srcu_read_lock(&vm->srcu), gsi;

	r = srcu_dereference(vm->routes, &vm->srcu);
	gsi = r ? r->gsi[chip][pin] : -1;
	srcu_read_unlock(&vm->srcu, idx);
	if (gsi == 0)
		lodge_pit_acked(vm);
	if (gsi >= 0 && atomic_read(&vm->resample_irqfds))
		lodge_resample_notify(vm, gsi);
}

/* -- the table -- */

/* One entry of userspace's, checked but for its GSI. */
static int parse(struct lodge_vm *vm, const struct kvm_irq_routing_entry *u, struct route *e)
{
	if (u->flags)
		return -EINVAL;
	if (u->type == KVM_IRQ_ROUTING_MSI) {
		e->msi = true;
		e->msg = decode_msi(vm, u->u.msi.address_lo, u->u.msi.address_hi, u->u.msi.data);
		return high_is_bad(vm, u->u.msi.address_hi) ? -EINVAL : 0;
	}
	if (u->type != KVM_IRQ_ROUTING_IRQCHIP || vm->irqchip != IRQCHIP_FULL ||
	    u->u.irqchip.irqchip >= KVM_NR_IRQCHIPS ||
	    u->u.irqchip.pin >= (u->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC ? CHIP_PINS : 8))
		return -EINVAL;
	e->chip = array_index_nospec(u->u.irqchip.irqchip, KVM_NR_IRQCHIPS);
	e->pin = array_index_nospec(u->u.irqchip.pin, CHIP_PINS);
	return 0;
}

/* A GSI leads to one message, or to at most one pin of each chip. */
static bool clash(const struct route *a, const struct route *b)
{
	return a->msi || b->msi || a->chip == b->chip;
}

/* Where the entries of one GSI clash, nothing is sent: userspace is told. */
static bool clashes(const struct lodge_routes *r)
{
	u32 gsi, i, j;

	for (gsi = 0; gsi < r->ngsi; gsi++)
		for (i = r->first[gsi]; i < r->first[gsi + 1]; i++)
			for (j = r->first[gsi]; j < i; j++)
				if (clash(&r->e[i], &r->e[j]))
					return true;
	return false;
}

static int place(struct lodge_vm *vm, struct lodge_routes *r, const struct kvm_irq_routing_entry *u)
{
	u32 gsi = array_index_nospec(u->gsi, r->ngsi), i = r->first[gsi + 1]++;
	struct route *e = &r->e[i];
	int ret = parse(vm, u, e);

	r->wire[i] = (struct lodge_state_route) { gsi, u->type, { e->chip, e->pin } };
	if (e->msi)
		r->wire[i] = (struct lodge_state_route) { gsi, u->type, {
			u->u.msi.address_lo, e->msg.dest & ~0xffu, u->u.msi.data } };
	else if (!ret)
		r->gsi[e->chip][e->pin] = gsi;
	return ret;
}

/*
 * Userspace's list into a table, sorted by counting: how many entries a GSI has is counted two places behind it, so
 * that their sums are where the next GSI's begin, and placing an entry moves its own GSI's end.
 */
static struct lodge_routes *build(struct lodge_vm *vm, const struct kvm_irq_routing_entry *u, u32 n)
{
	struct lodge_routes *r;
	u32 i, ngsi = 0;
	int ret = 0;

	for (i = 0; i < n; i++) {
		if (u[i].gsi >= LODGE_MAX_GSI)
			return ERR_PTR(-EINVAL);
		ngsi = max(ngsi, u[i].gsi + 1);
	}
	r = kvzalloc(struct_size(r, e, n) + array_size(n, sizeof(*r->wire)) + array_size(ngsi + 2, sizeof(u16)),
		     GFP_KERNEL_ACCOUNT);
	if (!r)
		return ERR_PTR(-ENOMEM);
	refcount_set(&r->refs, 1);
	r->ngsi = ngsi;
	r->api = READ_ONCE(vm->set.x2apic_api);
	r->wire = (void *)&r->e[n];
	r->first = (void *)&r->wire[n];
	memset(r->gsi, 0xff, sizeof(r->gsi));
	for (i = 0; i < n; i++)
		r->first[array_index_nospec(u[i].gsi, ngsi) + 2]++;
	for (i = 2; i < ngsi + 2; i++)
		r->first[i] += r->first[i - 1];
	for (i = 0; i < n && !ret; i++)
		ret = place(vm, r, &u[i]);
	if (!ret && !clashes(r))
		return r;
	kvfree(r);
	return ERR_PTR(-EINVAL);
}

/* With userspace's IOAPIC: the vectors of its level pins, so that it hears of their EOI. */
static void split_vectors(struct lodge_vm *vm, const struct lodge_routes *r)
{
	unsigned long set[256 / BITS_PER_LONG] = { 0 };
	int i;

	for (i = 0; i < r->first[min(vm->split_pins, r->ngsi)]; i++)
		if (r->e[i].msi && r->e[i].msg.level)
			__set_bit(r->e[i].msg.vector, set);
	for (i = 0; i < ARRAY_SIZE(set); i++)
		WRITE_ONCE(vm->told_eois[i], set[i]);
}

/**
 * lodge_routes_notify - tell who looks out for EOIs what the routes say now
 * @vm: the VM, slots_lock held
 *
 * Of edges the PIT wants to hear, and who has an irqfd that resamples: the guest decides how the pin is used.
 */
void lodge_routes_notify(struct lodge_vm *vm)
{
	const struct lodge_routes *r = rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock));
	u32 pins = 0;
	int i;

	if (!r)
		return;
	if (vm->irqchip == IRQCHIP_SPLIT) {
		split_vectors(vm, r);
		return;
	}
	for (i = 0; i < CHIP_PINS; i++)
		if ((vm->pit && r->gsi[KVM_IRQCHIP_IOAPIC][i] == 0) ||
		    lodge_gsi_is_resampled(vm, r->gsi[KVM_IRQCHIP_IOAPIC][i]))
			pins |= BIT(i);
	lodge_ioapic_notify_pins(vm, pins);
}

void lodge_routes_put(struct lodge_routes *r)
{
	if (r && refcount_dec_and_test(&r->refs))
		kvfree(r);
}

/* slots_lock held. Interrupts raised after this returns go by the new table. */
static void publish(struct lodge_vm *vm, struct lodge_routes *r)
{
	struct lodge_routes *old = rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock));

	rcu_assign_pointer(vm->routes, r);
	lodge_routes_notify(vm);
	if (old)
		synchronize_srcu_expedited(&vm->srcu);
	lodge_routes_put(old);
}

/**
 * lodge_ioc_set_gsi_routing - KVM_SET_GSI_ROUTING
 * @vm: the VM
 * @buf: the head of struct kvm_irq_routing
 * @arg: the userspace address of all of it
 *
 * Return: 0, -EINVAL (no irqchip, too many, bad entry, two that clash), -EFAULT, -ENOMEM.
 */
int lodge_ioc_set_gsi_routing(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_irq_routing *head = buf;
	struct kvm_irq_routing __user *u = (void __user *)arg;
	struct kvm_irq_routing_entry *e = NULL;
	struct lodge_routes *r;
	int ret = -EINVAL;

	if (head->nr > LODGE_MAX_GSI || head->flags)
		return -EINVAL;
	if (head->nr) {
		e = vmemdup_user(u->entries, array_size(head->nr, sizeof(*e)));
		if (IS_ERR(e))
			return PTR_ERR(e);
	}
	mutex_lock(&vm->slots_lock);
	if (vm->irqchip == IRQCHIP_NONE)
		goto out;
	r = build(vm, e, head->nr);
	ret = PTR_ERR_OR_ZERO(r);
	if (!ret)
		publish(vm, r);
out:
	mutex_unlock(&vm->slots_lock);
	kvfree(e);
	return ret;
}

/**
 * lodge_get_routes - all routes, by GSI
 * @vm: the VM, slots_lock held
 * @to: where they are; stay as long as the lock
 *
 * Return: how many.
 */
u32 lodge_get_routes(struct lodge_vm *vm, const struct lodge_state_route **to)
{
	const struct lodge_routes *r = rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock));

	*to = r ? r->wire : NULL;
	return r ? r->first[r->ngsi] : 0;
}

/** lodge_set_routes - these and no others; slots_lock held. 0; -EINVAL as KVM_SET_GSI_ROUTING, -ENOMEM */
int lodge_set_routes(struct lodge_vm *vm, const struct lodge_state_route *from, u32 n)
{
	struct lodge_routes *r = rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock));
	struct kvm_irq_routing_entry *e;
	u32 i;

	/* A new table is waited for. */
	if (r && r->first[r->ngsi] == n && r->api == READ_ONCE(vm->set.x2apic_api) &&
	    lodge_same_words(r->wire, from, (n & ~1u) * sizeof(*from)) &&
	    (!(n & 1) || !memcmp(&r->wire[n - 1], &from[n - 1], sizeof(*from))))
		return 0;
	if (n > LODGE_MAX_GSI || vm->irqchip == IRQCHIP_NONE)
		return -EINVAL;
	e = kvcalloc(n + 1, sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		e[i].gsi = from[i].gsi;
		e[i].type = from[i].type;
		memcpy(&e[i].u, from[i].u, sizeof(from[i].u));
	}
	r = build(vm, e, n);
	kvfree(e);
	if (IS_ERR(r))
		return PTR_ERR(r);
	publish(vm, r);
	return 0;
}

/* What a PC has: GSI n is pin n of the IOAPIC, and the first 16 are pins of the 8259s too. */
static struct lodge_routes *default_routes(struct lodge_vm *vm)
{
	struct kvm_irq_routing_entry *e = kcalloc(CHIP_PINS + 16, sizeof(*e), GFP_KERNEL_ACCOUNT);
	struct lodge_routes *r;
	int i;

	if (!e)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < CHIP_PINS + 16; i++) {
		bool pic = i >= CHIP_PINS;

		e[i].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[i].gsi = pic ? i - CHIP_PINS : i;
		e[i].u.irqchip.irqchip = pic ? e[i].gsi >> 3 : KVM_IRQCHIP_IOAPIC;
		e[i].u.irqchip.pin = pic ? e[i].gsi & 7 : i;
	}
	r = build(vm, e, CHIP_PINS + 16);
	kfree(e);
	return r;
}

/* -- ioctls -- */

/**
 * lodge_ioc_create_irqchip - KVM_CREATE_IRQCHIP: both 8259s, the IOAPIC, a LAPIC for each vCPU to come
 *
 * Return: 0, -EEXIST, -EINVAL when there are vCPUs, -ENOMEM, -ENOSPC.
 */
int lodge_ioc_create_irqchip(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_routes *r;
	int ret;

	mutex_lock(&vm->slots_lock);
	ret = -EEXIST;
	if (vm->irqchip != IRQCHIP_NONE)
		goto out;
	ret = -EINVAL;
	if (vm->nvcpus)
		goto out;
	ret = lodge_pic_create(vm);
	if (ret)
		goto out;
	vm->irqchip = IRQCHIP_FULL;
	r = default_routes(vm);
	ret = PTR_ERR_OR_ZERO(r);
	if (!ret)
		ret = lodge_ioapic_create(vm);
	if (ret) {
		if (!IS_ERR(r))
			kvfree(r);
		vm->irqchip = IRQCHIP_NONE;
		lodge_pic_remove(vm);
		goto out;
	}
	publish(vm, r);
out:
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/**
 * lodge_split_irqchip - KVM_CAP_SPLIT_IRQCHIP: LAPICs here, everything else in userspace
 * @vm: the VM
 * @pins: how many GSIs, from 0, are pins of userspace's IOAPIC
 *
 * Return: 0, -EEXIST when there is an irqchip or a vCPU, -ENOMEM.
 */
int lodge_split_irqchip(struct lodge_vm *vm, u32 pins)
{
	struct lodge_routes *r;
	int ret = -EEXIST;

	mutex_lock(&vm->slots_lock);
	if (vm->irqchip != IRQCHIP_NONE || vm->nvcpus)
		goto out;
	r = build(vm, NULL, 0);
	ret = PTR_ERR_OR_ZERO(r);
	if (ret)
		goto out;
	vm->irqchip = IRQCHIP_SPLIT;
	vm->split_pins = pins;
	publish(vm, r);
out:
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/** lodge_irqchip_destroy - the VM goes: nobody can raise anything, and the bus is empty */
void lodge_irqchip_destroy(struct lodge_vm *vm)
{
	kfree(vm->pit);
	kfree(vm->ioapic);
	kfree(vm->pic);
	lodge_routes_put(rcu_dereference_protected(vm->routes, 1));
}

static int chip_state(struct lodge_vm *vm, struct kvm_irqchip *c, bool set)
{
	int ret = -ENXIO;

	mutex_lock(&vm->slots_lock);
	if (vm->irqchip == IRQCHIP_FULL) {
		ret = c->chip_id >= KVM_NR_IRQCHIPS ? -EINVAL : 0;
		if (!ret && c->chip_id == KVM_IRQCHIP_IOAPIC)
			ret = lodge_ioapic_state(vm, &c->chip.ioapic, set);
		else if (!ret)
			lodge_pic_state(vm, c->chip_id & 1, 1, &c->chip.pic, set);
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/** lodge_ioc_get_irqchip - KVM_GET_IRQCHIP; -ENXIO without one, -EINVAL for another chip */
int lodge_ioc_get_irqchip(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	memset(&((struct kvm_irqchip *)buf)->chip, 0, sizeof(((struct kvm_irqchip *)buf)->chip));
	return chip_state(vm, buf, false);
}

/** lodge_ioc_set_irqchip - KVM_SET_IRQCHIP; errors as KVM_GET_IRQCHIP's */
int lodge_ioc_set_irqchip(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	return chip_state(vm, buf, true);
}

/**
 * lodge_ioc_irq_line - KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS (struct kvm_irq_level)
 *
 * What lodge_set_gsi() says goes into status. -ENXIO without an irqchip.
 */
int lodge_ioc_irq_line(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct kvm_irq_level *l = buf;

	if (vm->irqchip == IRQCHIP_NONE)
		return -ENXIO;
	l->status = lodge_set_gsi(vm, l->irq, LODGE_IRQ_SOURCE_USER, l->level);
	return 0;
}

/**
 * lodge_ioc_signal_msi - KVM_SIGNAL_MSI (struct kvm_msi)
 *
 * Return: how many took it; 0 when they refused or it is for nobody; -EINVAL.
 */
int lodge_ioc_signal_msi(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_msi *msi = buf;
	struct lodge_msg m = decode_msi(vm, msi->address_lo, msi->address_hi, msi->data);

	if (vm->irqchip == IRQCHIP_NONE || msi->flags || high_is_bad(vm, msi->address_hi))
		return -EINVAL;
	return lodge_lapic_deliver(vm, NULL, &m);
}

/* -- all of them, kept and brought back -- */

/* The VM's chips in the order of enum CHIP_*; NULL: it has no such one. */
static struct lodge_chip *chip(struct lodge_vm *vm, int i)
{
	void *const chips[CHIPS] = { vm->pic, vm->ioapic, vm->pit };

	return chips[i];
}

/** lodge_chips_shape - which controllers a VM has: frozen states fit where it is the same */
int lodge_chips_shape(struct lodge_vm *vm)
{
	return vm->irqchip | !!vm->pit << 2 | vm->split_pins << 3;
}

/** lodge_chips_halt - the timers of the VM's chips stop; when they would have fired goes into k, where it is not NULL */
void lodge_chips_halt(struct lodge_vm *vm, struct lodge_kept_chips *k)
{
	struct lodge_chip *c;
	ktime_t at;
	int i;

	for (i = CHIPS - 1; i >= 0; i--) {	/* the PIT first: it raises pins of the others */
		c = chip(vm, i);
		at = c && c->timer ? lodge_timer_halt(c->timer) : 0;
		if (k)
			k->chip[i].at = at;
	}
}

/** lodge_chips_go - they go on as k says, so much later (ns) */
void lodge_chips_go(struct lodge_vm *vm, const struct lodge_kept_chips *k, s64 later)
{
	int i;

	for (i = 0; i < CHIPS; i++)
		if (k->chip[i].at)
			hrtimer_start(chip(vm, i)->timer, k->chip[i].at + later, HRTIMER_MODE_ABS_HARD);
}

/** lodge_chips_keep - the chips' state and the routes; slots_lock held, timers halted */
void lodge_chips_keep(struct lodge_vm *vm, struct lodge_kept_chips *k)
{
	struct lodge_chip *c;
	unsigned long flags;
	int i;

	k->routes = rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock));
	if (k->routes)
		refcount_inc(&k->routes->refs);
	k->ioapic_base = vm->ioapic ? lodge_ioapic_base(vm) : 0;
	for (i = 0; i < CHIPS; i++) {
		c = chip(vm, i);
		if (!c)
			continue;
		raw_spin_lock_irqsave(c->lock, flags);
		lodge_copy_words(k->chip[i].words, c->state, c->bytes);
		raw_spin_unlock_irqrestore(c->lock, flags);
	}
}

/**
 * lodge_chips_bring_back - what lodge_chips_keep() has kept, of this VM or one of the same shape
 * @vm: the VM, slots_lock held, timers halted; the IOAPIC is where it has to be
 * @k: the state
 * @later: ns that its clocks stood still
 */
void lodge_chips_bring_back(struct lodge_vm *vm, const struct lodge_kept_chips *k, s64 later)
{
	struct lodge_chip *c;
	unsigned long flags;
	int i;

	if (k->routes != rcu_dereference_protected(vm->routes, lockdep_is_held(&vm->slots_lock))) {
		refcount_inc(&k->routes->refs);
		publish(vm, k->routes);
	}
	for (i = 0; i < CHIPS; i++) {
		c = chip(vm, i);
		if (!c)
			continue;
		raw_spin_lock_irqsave(c->lock, flags);
		lodge_copy_words(c->state, k->chip[i].words, c->bytes);
		if (c->settle)
			c->settle(vm, later);
		raw_spin_unlock_irqrestore(c->lock, flags);
	}
}
