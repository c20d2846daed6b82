// SPDX-License-Identifier: GPL-2.0
/*
 * Messages to LAPICs: from another LAPIC's ICR, an MSI, a pin of the IOAPIC, or itself.
 *
 * A message for one vCPU by physical id, which is nearly all of them, finds it without looking at the
 * others: vm->apic_odd counts LAPICs that were given an id of their own, and while it is 0 the vCPU's id
 * is the APIC id in both modes. Everything else asks each vCPU whether it is meant; their ids and modes are
 * read without a lock, so a message that races with a change of them may go by either.
 *
 * Any context unless said otherwise: IRR and TMR are set with atomic operations, and a kick is at
 * most an IPI or a wake-up under a raw lock. No locks.
 */
#include "irqchip/lapic.h"

static struct lodge_vcpu *by_id(struct lodge_vm *vm, u32 id)
{
	struct lodge_vcpu *v;

	/* Most VMMs number their vCPUs without gaps. */
	if (likely(id < smp_load_acquire(&vm->nvcpus))) {
		v = lodge_vcpu_get(vm, id);
		if (likely(v->id == id))
			return v;
	}
	return lodge_vcpu_by_id(vm, id);
}

/* A destination of 8 bits reaches x2APIC LAPICs too, and its 0xff means all of them. */
static bool broadcast(const struct lodge_msg *m, bool x2)
{
	return m->dest == ~0u || (m->dest == 0xff && !(x2 && m->x2apic_dest));
}

/* SDM 3, 11.6.2 and 11.12.10. */
static bool meant(const struct lodge_vcpu *v, const struct lodge_vcpu *src, const struct lodge_msg *m)
{
	const struct lodge_lapic *l = v->lapic;
	bool x2 = lapic_x2(v);
	u32 ldr;

	switch (m->shorthand) {
	case SHORT_SELF:
		return v == src;
	case SHORT_ALL:
		return true;
	case SHORT_OTHERS:
		return v != src;
	}
	if (broadcast(m, x2))
		return true;
	if (!m->logical)
		return m->dest == (x2 ? v->id : lapic_get(l, APIC_ID) >> 24);
	if (x2)
		return m->dest >> 16 == v->id >> 4 && m->dest & BIT(v->id & 15);
	ldr = lapic_get(l, APIC_LDR) >> 24;
	if (lapic_get(l, APIC_DFR) >> 28 == 0xf)
		return ldr & m->dest;
	return ldr >> 4 == m->dest >> 4 && ldr & m->dest & 15;
}

/* IRR, with TMR before it. False: it was set. */
static bool set_irr(struct lodge_lapic *l, u8 vector, bool level)
{
	unsigned long *tmr = lapic_word(l, APIC_TMR, vector);
	u8 bit = vector & 31;

	if (unlikely(level))
		set_bit(bit, tmr);
	else if (unlikely(test_bit(bit, tmr)))
		clear_bit(bit, tmr);
	if (test_and_set_bit(bit, lapic_word(l, APIC_IRR, vector)))
		return false;
	WRITE_ONCE(l->irr_any, true);
	return true;
}

/**
 * lodge_lapic_set_irq - a fixed interrupt for one vCPU
 * @v: the vCPU
 * @vector: 16..255; when it is waiting already, whoever set it kicks
 * @level: its trigger mode
 */
void lodge_lapic_set_irq(struct lodge_vcpu *v, u8 vector, bool level)
{
	if (set_irr(v->lapic, vector, level))
		lodge_request(v, REQ_EVENT);
}

/* The same by the vCPU's own thread, which needs no kick. */
void lapic_self(struct lodge_vcpu *v, u8 vector)
{
	if (set_irr(v->lapic, vector, false))
		lodge_set_request(v, REQ_EVENT);
}

static void wake_for(struct lodge_vcpu *v, int bit)
{
	set_bit(bit, &v->lapic->events);
	lodge_request(v, REQ_APIC_EVENTS);
}

/* One vCPU gets a message. 1: taken, be it merged with one that waits; 0: refused. */
static int accept(struct lodge_vcpu *v, const struct lodge_msg *m)
{
	struct lodge_lapic *l = v->lapic;

	if (unlikely(!(READ_ONCE(v->apic_base) & MSR_IA32_APICBASE_ENABLE)))
		return 0;
	switch (m->mode) {
	case MSG_FIXED:
	case MSG_LOWEST:
		if (m->vector < 16 || (m->level && !m->assert) || !lapic_sw_enabled(l))
			return 0;
		lodge_lapic_set_irq(v, m->vector, m->level);
		return 1;
	case MSG_NMI:
		lodge_queue_nmi(v);
		return 1;
	case MSG_INIT:
		if (m->level && !m->assert)	/* the deassert of old */
			return 1;
		clear_bit(LAPIC_SIPI_BIT, &l->events);
		wake_for(v, LAPIC_INIT_BIT);
		return 1;
	case MSG_SIPI:
		WRITE_ONCE(l->sipi_vector, m->vector);
		wake_for(v, LAPIC_SIPI_BIT);
		return 1;
	}
	return 0;	/* SMI: there is no SMM. ExtINT: the 8259s have LINT0 */
}

/*
 * Lowest priority: one of those that can take it, chosen by the vector. This spreads interrupts
 * and keeps each on one vCPU; the architecture leaves the choice open (SDM 3, 11.6.2.4).
 */
static int deliver_lowest(struct lodge_vm *vm, struct lodge_vcpu *src, const struct lodge_msg *m)
{
	struct lodge_vcpu *v, *pick = NULL;
	int i, n = 0;

	lodge_for_each_vcpu(i, v, vm)
		if (meant(v, src, m) && lodge_lapic_enabled(v))
			n++;
	if (!n)
		return 0;
	n = m->vector % n;
	lodge_for_each_vcpu(i, v, vm) {
		if (!meant(v, src, m) || !lodge_lapic_enabled(v))
			continue;
		pick = v;
		if (n-- == 0)
			break;
	}
	return pick ? accept(pick, m) : 0;
}

/**
 * lodge_lapic_deliver - deliver a message
 * @vm: the VM, which has in-kernel LAPICs
 * @src: the sender, for shorthands; may be NULL without one
 * @m: the message
 *
 * Return: how many took it; 0 when they refused or it is for nobody.
 */
int lodge_lapic_deliver(struct lodge_vm *vm, struct lodge_vcpu *src, const struct lodge_msg *m)
{
	struct lodge_vcpu *v;
	int i, ret = 0;

	if (likely(!m->logical && !m->shorthand && m->dest < 0xff && !atomic_read(&vm->apic_odd))) {
		v = by_id(vm, m->dest);
		return v ? accept(v, m) : 0;
	}
	if (m->mode == MSG_LOWEST)
		return deliver_lowest(vm, src, m);
	lodge_for_each_vcpu(i, v, vm)
		if (meant(v, src, m))
			ret += accept(v, m);
	return ret;
}

/* The ICR of the sender, in its own thread (SDM 3, 11.6.1). */
void lapic_send(struct lodge_vcpu *v, u32 low, u32 high)
{
	struct lodge_lapic *l = v->lapic;
	bool x2 = lapic_x2(v);
	struct lodge_msg m = {
		.dest = x2 ? high : high >> 24,
		.vector = low & APIC_VECTOR_MASK,
		.mode = (low & APIC_MODE_MASK) >> 8,
		.logical = low & APIC_DEST_LOGICAL,
		.level = low & APIC_INT_LEVELTRIG,
		.assert = low & APIC_INT_ASSERT,
		.x2apic_dest = x2,
		.shorthand = low >> 18 & 3,
	};

	lapic_put(l, APIC_ICR, low & ~(u32)APIC_ICR_BUSY);
	lapic_put(l, APIC_ICR2, high);
	if (m.mode <= MSG_LOWEST && m.vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL);
		return;
	}
	if (m.mode == MSG_FIXED && m.shorthand == SHORT_SELF) {
		if (lapic_sw_enabled(l))
			lapic_self(v, m.vector);
		return;
	}
	lodge_lapic_deliver(v->vm, v, &m);
}

/**
 * lodge_lapic_events - which of INIT and SIPI have come since the last time
 * @v: the vCPU, in its thread
 * @page: where to start: the SIPI's vector
 *
 * Both are taken at once, so that their order is kept: see cpu/reset.c.
 *
 * Return: LAPIC_INIT, LAPIC_SIPI, both or 0.
 */
unsigned long lodge_lapic_events(struct lodge_vcpu *v, u8 *page)
{
	unsigned long events = xchg(&v->lapic->events, 0);

	*page = READ_ONCE(v->lapic->sipi_vector);
	return events;
}
