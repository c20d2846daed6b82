// SPDX-License-Identifier: GPL-2.0
/*
 * The pair of 8259A interrupt controllers of a PC, with the ELCRs of later chipsets.
 *
 * Each chip is kept as KVM saves it. The slave's output is pin 2 of the master and follows it as a level.
 * The master's output is LINT0 of whichever LAPIC takes ExtINT, normally the boot processor's; when it
 * rises that vCPU is woken, and lodge_pic_ack() is its interrupt acknowledge cycle.
 *
 * Modes: edge and level by ELCR, rotation, special mask, special fully nested, automatic EOI, poll.
 * Not there, as in PCs: a single chip, 8080 mode, buffered mode.
 *
 * All state: the raw lock, IRQs off, any context; the output is read without it. Acknowledge notifications
 * are collected and run after unlocking, for they lower and raise pins.
 *
 * Interleaving: a pin rises while the vCPU looks at the output and goes to sleep. The output is
 * written before the request is set, and the vCPU looks at requests after it queued itself, so one
 * of the two sees the other.
 */
#include <linux/bitops.h>
#include <linux/slab.h>

#include "irqchip/irqchip.h"

#define PINS 16

struct lodge_pic {
	struct lodge_chip kept;
	raw_spinlock_t lock;
	struct lodge_vm *vm;
	struct kvm_pic_state chip[2];	/* master, slave */
	bool out;			/* the master's INTR */
	bool woken;			/* its rise still has to wake a vCPU */
	u32 acked;			/* pins to notify of when the lock is dropped */
	u8 sources[PINS];		/* who holds each pin up */
	struct lodge_iodev dev[3];	/* not state, as all is from chip to here */
};

/* How far down the order of priority the first bit of a mask is; 8: none. */
static int rank(const struct kvm_pic_state *s, u8 mask)
{
	u8 turned = ror8(mask, s->priority_add & 7);

	return turned ? __ffs(turned) : 8;
}

static int pin_at(const struct kvm_pic_state *s, int rank)
{
	return (rank + s->priority_add) & 7;
}

/* The pin that would be acknowledged now, or -1. */
static int best(const struct lodge_pic *p, int n)
{
	const struct kvm_pic_state *s = &p->chip[n];
	int want = rank(s, s->irr & ~s->imr);
	u8 isr = s->isr;

	if (want == 8)
		return -1;
	if (s->special_mask)
		isr &= ~s->imr;
	if (s->special_fully_nested_mode && n == 0)
		isr &= ~BIT(2);		/* the slave may interrupt itself */
	return want < rank(s, isr) ? pin_at(s, want) : -1;
}

static void update(struct lodge_pic *p)
{
	bool out;

	if (best(p, 1) >= 0)
		p->chip[0].irr |= BIT(2);
	else
		p->chip[0].irr &= ~BIT(2);
	out = best(p, 0) >= 0;
	if (out && !p->out)
		p->woken = true;
	WRITE_ONCE(p->out, out);
}

static unsigned long lock(struct lodge_pic *p) __acquires(&p->lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&p->lock, flags);
	return flags;
}

/* Drop the lock, then do what must not be done under it. */
static void unlock(struct lodge_pic *p, unsigned long flags) __releases(&p->lock)
{
	unsigned long acked = p->acked;
	struct lodge_vm *vm = p->vm;
	bool wake = p->woken;
	struct lodge_vcpu *v;
	int i;

	p->acked = 0;
	p->woken = false;
	raw_spin_unlock_irqrestore(&p->lock, flags);
	if (wake) {
		lodge_for_each_vcpu(i, v, vm) {
			if (!lodge_lapic_accepts_extint(v))
				continue;
			lodge_request(v, REQ_EVENT);
			break;
		}
	}
	for_each_set_bit(i, &acked, PINS)
		lodge_ack_notify(vm, i >> 3, i & 7);
}

static int set_pin(struct kvm_pic_state *s, int pin, bool up)
{
	u8 bit = BIT(pin);
	int ret = 1;

	if (!up) {
		s->last_irr &= ~bit;
		if (s->elcr & bit)
			s->irr &= ~bit;
	} else {
		if (s->elcr & bit || !(s->last_irr & bit)) {
			ret = !(s->irr & bit);
			s->irr |= bit;
		} else {
			ret = 0;
		}
		s->last_irr |= bit;
	}
	return s->imr & bit ? -1 : ret;
}

/**
 * lodge_pic_set_irq - one source raises or lowers a pin
 * @vm: the VM
 * @pin: 0..15
 * @source: LODGE_IRQ_SOURCE_*
 * @level: up or down
 *
 * Return: <0 masked, 0 merged with one that waits, >0 delivered.
 */
int lodge_pic_set_irq(struct lodge_vm *vm, int pin, int source, int level)
{
	struct lodge_pic *p = vm->pic;
	unsigned long flags = lock(p);
	int ret;

	if (level)
		p->sources[pin] |= BIT(source);
	else
		p->sources[pin] &= ~BIT(source);
	ret = set_pin(&p->chip[pin >> 3], pin & 7, p->sources[pin]);
	update(p);
	unlock(p, flags);
	return ret;
}

bool lodge_pic_pending(struct lodge_vm *vm)
{
	return READ_ONCE(vm->pic->out);
}

/* A pin's service is over. */
static void end(struct lodge_pic *p, int n, int pin)
{
	p->chip[n].isr &= ~BIT(pin);
	p->acked |= BIT(n * 8 + pin);
}

static void acknowledge(struct lodge_pic *p, int n, int pin)
{
	struct kvm_pic_state *s = &p->chip[n];

	s->isr |= BIT(pin);
	if (!(s->elcr & BIT(pin)))
		s->irr &= ~BIT(pin);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (pin + 1) & 7;
		end(p, n, pin);
	}
}

/**
 * lodge_pic_ack - the interrupt acknowledge cycle
 * @vm: the VM
 *
 * Return: the vector; pin 7's (spurious) when the request has gone meanwhile.
 */
int lodge_pic_ack(struct lodge_vm *vm)
{
	struct lodge_pic *p = vm->pic;
	unsigned long flags = lock(p);
	int pin = best(p, 0), n = 0;

	if (pin >= 0)
		acknowledge(p, 0, pin);
	if (pin == 2) {
		n = 1;
		pin = best(p, 1);
		if (pin >= 0)
			acknowledge(p, 1, pin);
	}
	if (pin < 0)
		pin = 7;
	pin += p->chip[n].irq_base;
	update(p);
	unlock(p, flags);
	return pin & 0xff;
}

/* -- ports -- */

/* ICW1 (8259A data sheet, initialization command words). Level requests stay. */
static void init_chip(struct lodge_pic *p, int n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];

	*s = (struct kvm_pic_state) {
		.irr = s->irr & s->elcr, .elcr = s->elcr, .elcr_mask = s->elcr_mask,
		.irq_base = s->irq_base, .init4 = val & 1, .init_state = 1,
		.special_fully_nested_mode = val & 1 ? s->special_fully_nested_mode : 0,
		.auto_eoi = val & 1 ? s->auto_eoi : 0,
	};
	if (n == 0)
		lodge_pit_unmasked(p->vm);
}

/* OCW2: EOIs and rotation. */
static void end_command(struct lodge_pic *p, int n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];
	int pin = val & 7, r;

	switch (val >> 5) {
	case 0:		/* rotation on automatic EOI: off, on */
	case 4:
		s->rotate_on_auto_eoi = val >> 7;
		break;
	case 1:		/* EOI of the highest in service, 5: and it becomes the lowest */
	case 5:
		r = rank(s, s->special_mask ? s->isr & ~s->imr : s->isr);
		if (r == 8)
			break;
		pin = pin_at(s, r);
		if (val >> 5 == 5)
			s->priority_add = (pin + 1) & 7;
		end(p, n, pin);
		break;
	case 3:
		end(p, n, pin);
		break;
	case 6:
		s->priority_add = (pin + 1) & 7;
		break;
	case 7:
		s->priority_add = (pin + 1) & 7;
		end(p, n, pin);
		break;
	}
}

static void write_command(struct lodge_pic *p, int n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];

	if (val & 0x10) {
		init_chip(p, n, val);
	} else if (val & 8) {	/* OCW3 */
		s->poll = !!(val & 4);
		if (val & 2)
			s->read_reg_select = val & 1;
		if (val & 0x40)
			s->special_mask = val >> 5 & 1;
	} else {
		end_command(p, n, val);
	}
}

static void write_data(struct lodge_pic *p, int n, u8 val)
{
	struct kvm_pic_state *s = &p->chip[n];
	u8 unmasked;

	switch (s->init_state) {
	case 1:
		s->irq_base = val & 0xf8;
		s->init_state = 2;
		break;
	case 2:		/* ICW3: the wiring is what it is */
		s->init_state = s->init4 ? 3 : 0;
		break;
	case 3:
		s->special_fully_nested_mode = val >> 4 & 1;
		s->auto_eoi = val >> 1 & 1;
		s->init_state = 0;
		break;
	default:
		unmasked = s->imr & ~val;
		s->imr = val;
		if (n == 0 && unmasked & BIT(0))
			lodge_pit_unmasked(p->vm);
	}
}

/* A read after the poll command acknowledges. */
static u8 poll(struct lodge_pic *p, int n)
{
	int pin = best(p, n);

	p->chip[n].poll = 0;
	if (pin < 0)
		return 0;
	acknowledge(p, n, pin);
	return 0x80 | pin;
}

static u8 read_port(struct lodge_pic *p, u16 port)
{
	int n = port >> 7;
	const struct kvm_pic_state *s = &p->chip[n];

	if (s->poll)
		return poll(p, n);
	if (port & 1)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

static int pic_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val)
{
	struct lodge_pic *p = v->vm->pic;
	unsigned long flags;

	memset(val, 0, len);
	if (len != 1)
		return 0;
	flags = lock(p);
	if (addr >= 0x4d0) {
		*(u8 *)val = p->chip[addr & 1].elcr;
	} else {
		*(u8 *)val = read_port(p, addr);
		update(p);
	}
	unlock(p, flags);
	return 0;
}

static int pic_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct lodge_pic *p = v->vm->pic;
	u8 data = *(const u8 *)val;
	unsigned long flags;

	if (len != 1)
		return 0;
	flags = lock(p);
	if (addr >= 0x4d0)
		p->chip[addr & 1].elcr = data & p->chip[addr & 1].elcr_mask;
	else if (addr & 1)
		write_data(p, addr >> 7, data);
	else
		write_command(p, addr >> 7, data);
	update(p);
	unlock(p, flags);
	return 0;
}

/* -- life and state -- */

/**
 * lodge_pic_create - make both chips
 *
 * slots_lock held. lodge_irqchip_destroy() frees them. Return: 0, -ENOMEM or -ENOSPC.
 */
int lodge_pic_create(struct lodge_vm *vm)
{
	static const u16 base[] = { 0x20, 0xa0, 0x4d0 };
	struct lodge_pic *p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	int i, ret = 0;

	if (!p)
		return -ENOMEM;
	raw_spin_lock_init(&p->lock);
	p->vm = vm;
	p->kept = (struct lodge_chip) {
		.lock = &p->lock, .state = p->chip, LODGE_CHIP_STATE(struct lodge_pic, chip, dev),
	};
	p->chip[0].elcr_mask = 0xf8;	/* the timer, keyboard and cascade are edges */
	p->chip[1].elcr_mask = 0xde;	/* the clock and the FPU too */
	vm->pic = p;
	for (i = 0; i < ARRAY_SIZE(base) && !ret; i++) {
		p->dev[i] = (struct lodge_iodev) {
			.base = base[i], .len = 2, .fast = true,
			.read = pic_read, .write = pic_write,
		};
		ret = lodge_bus_add(vm, BUS_PIO, &p->dev[i]);
		if (ret)
			p->dev[i].len = 0;
	}
	if (ret)
		lodge_pic_remove(vm);
	return ret;
}

/** lodge_pic_remove - undo lodge_pic_create(), also half of it; slots_lock held, no vCPU exists */
void lodge_pic_remove(struct lodge_vm *vm)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vm->pic->dev); i++)
		if (vm->pic->dev[i].len)
			lodge_bus_del(vm, BUS_PIO, &vm->pic->dev[i]);
	kfree(vm->pic);
	vm->pic = NULL;
}

/** lodge_pic_state - KVM_GET_IRQCHIP and KVM_SET_IRQCHIP of so many chips from one on */
void lodge_pic_state(struct lodge_vm *vm, int chip, int n, struct kvm_pic_state *s, bool set)
{
	struct lodge_pic *p = vm->pic;
	unsigned long flags = lock(p);
	struct kvm_pic_state *c = &p->chip[chip];

	for (; n--; c++, s++) {
		u8 mask = c->elcr_mask;

		if (!set) {
			*s = *c;
			continue;
		}
		*c = *s;
		c->elcr_mask = mask;
		c->elcr &= mask;
		c->priority_add &= 7;
		c->irq_base &= 0xf8;
		p->woken = true;
	}
	if (set)
		update(p);
	unlock(p, flags);
}
