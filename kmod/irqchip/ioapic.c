// SPDX-License-Identifier: GPL-2.0
/*
 * The IOAPIC: 24 pins, each with a redirection entry that turns it into a message to LAPICs.
 *
 * A pin is up while any of its sources holds it up. An edge pin sends when it goes up. A level
 * pin sends while it is up and no EOI is outstanding (remote IRR); the LAPIC's EOI of its vector, told
 * by lodge_ioapic_eoi(), clears that and sends again. A line that never goes down keeps its guest busy, not
 * the host: each round takes an EOI, so an exit. After many rounds it pauses, so that the guest
 * executes something else than the handler and can find out.
 *
 * vm->told_eois tells LAPICs, without a lock, whose EOI is wanted here. It is recomputed under the
 * lock before a changed entry can send, so no vector can be in service that it does not know.
 *
 * All state: the raw lock, IRQs off, any context. Messages are sent with it held: LAPICs have no
 * lock. Acknowledge notifications run without it, for they lower and raise pins.
 *
 * Interleaving of EOI and a source: EOI clears remote IRR and looks at the line in one critical section,
 * raising sets the line and looks at remote IRR in another, so one of the two sends.
 */
#include <linux/slab.h>

#include "irqchip/irqchip.h"

#define IOAPIC_BASE	0xfec00000
#define IOAPIC_SIZE	0x100
#define PINS		KVM_IOAPIC_NUM_PINS
#define STORM		10000
#define STORM_PAUSE	(10 * NSEC_PER_MSEC)
#define IOAPIC_VERSION	(0x11 | (PINS - 1) << 16)

#define RTE_VECTOR	0xffull
#define RTE_MODE	GENMASK_ULL(10, 8)
#define RTE_LOGICAL	BIT_ULL(11)
#define RTE_STATUS	BIT_ULL(12)
#define RTE_REMOTE_IRR	BIT_ULL(14)
#define RTE_LEVEL	BIT_ULL(15)
#define RTE_MASKED	BIT_ULL(16)
#define RTE_VALID	(GENMASK_ULL(16, 0) | GENMASK_ULL(63, 56))

struct lodge_ioapic {
	struct lodge_chip kept;
	raw_spinlock_t lock;
	struct lodge_vm *vm;
	struct lodge_iodev dev[2];	/* one of them on the bus: [slots_lock] which */
	int at;
	u32 notify;			/* edge pins whose EOI somebody wants */
	/* state, up to pause */
	u32 select, id;
	u32 line;			/* pins that are up */
	u32 sent;			/* edge pins whose rise has been sent */
	u8 sources[PINS];		/* who holds each pin up */
	u64 rte[PINS];
	u16 rounds[PINS];		/* EOIs in a row that found the line up */
	struct hrtimer pause;		/* after STORM of them */
};

/* Send what a pin has to send. <0: masked, 0: refused or for nobody, >0: sent. */
static int service(struct lodge_ioapic *io, int pin)
{
	u64 e = io->rte[pin];
	struct lodge_msg m = {
		.dest = e >> 56, .vector = e & RTE_VECTOR, .mode = (e & RTE_MODE) >> 8,
		.logical = e & RTE_LOGICAL, .level = e & RTE_LEVEL, .assert = true,
	};
	int ret;

	if (e & RTE_MASKED || (m.level && e & RTE_REMOTE_IRR))
		return -1;
	if (m.level)
		io->rte[pin] |= RTE_REMOTE_IRR;	/* first: its EOI may come at once */
	ret = lodge_lapic_deliver(io->vm, NULL, &m);
	if (m.level && ret <= 0)
		io->rte[pin] = e;
	if (!m.level)
		io->sent |= BIT(pin);
	return ret;
}

static int set_line(struct lodge_ioapic *io, int pin, bool up)
{
	bool was = io->line & BIT(pin);

	if (!up) {
		io->line &= ~BIT(pin);
		io->sent &= ~BIT(pin);
		return 1;
	}
	io->line |= BIT(pin);
	if (was && !(io->rte[pin] & RTE_LEVEL))
		return 0;
	return service(io, pin);
}

/**
 * lodge_ioapic_set_irq - one source raises or lowers a pin
 * @vm: the VM
 * @pin: 0..23
 * @source: LODGE_IRQ_SOURCE_*
 * @level: up or down
 *
 * Return: <0 masked, 0 no edge, refused or for nobody, >0 delivered.
 */
int lodge_ioapic_set_irq(struct lodge_vm *vm, int pin, int source, int level)
{
	struct lodge_ioapic *io = vm->ioapic;
	unsigned long flags;
	int ret;

	raw_spin_lock_irqsave(&io->lock, flags);
	if (level)
		io->sources[pin] |= BIT(source);
	else
		io->sources[pin] &= ~BIT(source);
	ret = set_line(io, pin, io->sources[pin]);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return ret;
}

/* The line was up at its EOI. */
static void again(struct lodge_ioapic *io, int pin)
{
	if (++io->rounds[pin] < STORM) {
		service(io, pin);
		return;
	}
	io->rounds[pin] = 0;
	hrtimer_start(&io->pause, ns_to_ktime(STORM_PAUSE), HRTIMER_MODE_REL_HARD);
}

static enum hrtimer_restart pause_over(struct hrtimer *t)
{
	struct lodge_ioapic *io = container_of(t, struct lodge_ioapic, pause);
	unsigned long flags;
	int pin;

	raw_spin_lock_irqsave(&io->lock, flags);
	for (pin = 0; pin < PINS; pin++)
		if (io->line & BIT(pin) && io->rte[pin] & RTE_LEVEL)
			service(io, pin);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return HRTIMER_NORESTART;
}

static bool wants_eoi(const struct lodge_ioapic *io, int pin, u8 vector, bool level)
{
	if ((io->rte[pin] & RTE_VECTOR) != vector)
		return false;
	return io->rte[pin] & RTE_LEVEL ? level : !level && io->notify & BIT(pin);
}

/**
 * lodge_ioapic_eoi - a LAPIC is done with a vector that lodge_eoi_is_told()
 * @vm: the VM; any context
 * @vector: which
 * @level: it was sent as a level, by this or another pin that shares the number: an edge, a message say, does not
 *         end a pin's level
 */
void lodge_ioapic_eoi(struct lodge_vm *vm, u8 vector, bool level)
{
	struct lodge_ioapic *io = vm->ioapic;
	unsigned long flags, pins = 0;
	int pin;

	raw_spin_lock_irqsave(&io->lock, flags);
	for (pin = 0; pin < PINS; pin++)
		if (wants_eoi(io, pin, vector, level))
			pins |= BIT(pin);
	raw_spin_unlock_irqrestore(&io->lock, flags);

	for_each_set_bit(pin, &pins, PINS)
		lodge_ack_notify(vm, KVM_IRQCHIP_IOAPIC, pin);

	raw_spin_lock_irqsave(&io->lock, flags);
	for_each_set_bit(pin, &pins, PINS) {
		if (!(io->rte[pin] & RTE_LEVEL) || (io->rte[pin] & RTE_VECTOR) != vector)
			continue;
		io->rte[pin] &= ~RTE_REMOTE_IRR;
		if (io->line & BIT(pin))
			again(io, pin);
		else
			io->rounds[pin] = 0;
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
}

static void publish_vectors(struct lodge_ioapic *io)
{
	unsigned long set[256 / BITS_PER_LONG] = { 0 };
	int i;

#pragma GCC unroll 24
	for (i = 0; i < PINS; i++)
		if (io->rte[i] & RTE_LEVEL || io->notify & BIT(i))
			__set_bit(io->rte[i] & RTE_VECTOR, set);
	for (i = 0; i < ARRAY_SIZE(set); i++)
		WRITE_ONCE(io->vm->told_eois[i], set[i]);
}

static void settle(struct lodge_vm *vm, s64 later)
{
	publish_vectors(vm->ioapic);
}

/** lodge_ioapic_notify_pins - for which pins (bits) an EOI is wanted even of an edge */
void lodge_ioapic_notify_pins(struct lodge_vm *vm, u32 pins)
{
	struct lodge_ioapic *io = vm->ioapic;
	unsigned long flags;

	raw_spin_lock_irqsave(&io->lock, flags);
	io->notify = pins;
	publish_vectors(io);
	raw_spin_unlock_irqrestore(&io->lock, flags);
}

/* One half of an entry. Delivery status and remote IRR are the hardware's. */
static void write_rte(struct lodge_ioapic *io, int pin, bool high, u32 val)
{
	u64 old = io->rte[pin], e;

	if (high)
		e = (u32)old | (u64)val << 32;
	else
		e = (old & ~(u64)U32_MAX) | (val & ~(u32)(RTE_REMOTE_IRR | RTE_STATUS)) |
		    (old & RTE_REMOTE_IRR);
	e &= RTE_VALID;
	if (!(e & RTE_LEVEL))
		e &= ~RTE_REMOTE_IRR;	/* systems clear a stuck one by making the pin an edge */
	io->rte[pin] = e;
	publish_vectors(io);
	if (old & RTE_MASKED && !(e & RTE_MASKED) && io->notify & BIT(pin))
		lodge_pit_unmasked(io->vm);
	if (e & RTE_LEVEL && io->line & BIT(pin))
		service(io, pin);
}

static u32 read_window(const struct lodge_ioapic *io)
{
	u32 i = (io->select - 0x10) >> 1;

	switch (io->select) {
	case 0:
	case 2:
		return (io->id & 15) << 24;
	case 1:
		return IOAPIC_VERSION;
	}
	if (io->select < 0x10 || i >= PINS)
		return 0;
	return io->rte[array_index_nospec(i, PINS)] >> (io->select & 1 ? 32 : 0);
}

static void write_window(struct lodge_ioapic *io, u32 val)
{
	u32 i = (io->select - 0x10) >> 1;

	if (io->select == 0)
		io->id = val >> 24 & 15;
	else if (io->select >= 0x10 && i < PINS)
		write_rte(io, array_index_nospec(i, PINS), io->select & 1, val);
}

static int ioapic_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val)
{
	struct lodge_ioapic *io = d->owner;
	unsigned long flags;
	u32 reg = addr & 0xff, data = 0;

	raw_spin_lock_irqsave(&io->lock, flags);
	if (reg == 0)
		data = io->select;
	else if (reg == 0x10)
		data = read_window(io);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	memset(val, 0, len);
	memcpy(val, &data, min(len, 4));
	return 0;
}

static int ioapic_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct lodge_ioapic *io = d->owner;
	u32 reg = addr & 0xff, data = 0;
	unsigned long flags;

	memcpy(&data, val, min(len, 4));
	raw_spin_lock_irqsave(&io->lock, flags);
	if (reg == 0)
		io->select = data & 0xff;
	else if (reg == 0x10)
		write_window(io, data);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return 0;
}

static struct lodge_iodev at_base(struct lodge_ioapic *io, u64 base)
{
	return (struct lodge_iodev) {
		.base = base, .len = IOAPIC_SIZE, .fast = true,
		.read = ioapic_read, .write = ioapic_write, .owner = io,
	};
}

/* KVM_SET_IRQCHIP says where the registers are. slots_lock held. 0 or -ENOMEM: they are where they were. */
static int move(struct lodge_ioapic *io, u64 base)
{
	struct lodge_iodev *old = &io->dev[io->at], *new = &io->dev[!io->at];
	int ret;

	if (base == old->base)
		return 0;
	*new = at_base(io, base);
	ret = lodge_bus_add(io->vm, BUS_MMIO, new);
	if (ret)
		return ret;
	lodge_bus_del(io->vm, BUS_MMIO, old);
	io->at = !io->at;
	return 0;
}

/**
 * lodge_ioapic_create - make the IOAPIC, all pins masked
 *
 * slots_lock held. lodge_irqchip_destroy() frees it. Return: 0, -ENOMEM or -ENOSPC.
 */
int lodge_ioapic_create(struct lodge_vm *vm)
{
	struct lodge_ioapic *io = kzalloc(sizeof(*io), GFP_KERNEL_ACCOUNT);
	int i, ret;

	if (!io)
		return -ENOMEM;
	raw_spin_lock_init(&io->lock);
	lodge_hrtimer_setup(&io->pause, pause_over, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	io->vm = vm;
	io->kept = (struct lodge_chip) {
		.lock = &io->lock, .state = &io->select, .timer = &io->pause, .settle = settle,
		LODGE_CHIP_STATE(struct lodge_ioapic, select, pause),
	};
	for (i = 0; i < PINS; i++)
		io->rte[i] = RTE_MASKED;
	io->dev[0] = at_base(io, IOAPIC_BASE);
	ret = lodge_bus_add(vm, BUS_MMIO, &io->dev[0]);
	if (ret) {
		kfree(io);
		return ret;
	}
	vm->ioapic = io;
	return 0;
}

/** lodge_ioapic_stop - its timer stops for good: nobody can tell it of an EOI any more */
void lodge_ioapic_stop(struct lodge_vm *vm)
{
	if (vm->ioapic)
		hrtimer_cancel(&vm->ioapic->pause);
}

static void get_state(const struct lodge_ioapic *io, struct kvm_ioapic_state *s)
{
	int i;

	*s = (struct kvm_ioapic_state) {
		.base_address = io->dev[io->at].base, .ioregsel = io->select, .id = io->id,
		.irr = io->line & ~io->sent,	/* an edge that was sent is not pending */
	};
	for (i = 0; i < PINS; i++)
		s->redirtbl[i].bits = io->rte[i];
}

static void set_state(struct lodge_ioapic *io, const struct kvm_ioapic_state *s)
{
	u32 pending = s->irr & (BIT(PINS) - 1);
	int i;

	io->select = s->ioregsel & 0xff;
	io->id = s->id & 15;
	io->line = io->sent = 0;
#pragma GCC unroll 24
	for (i = 0; i < PINS; i++)
		io->rte[i] = s->redirtbl[i].bits & RTE_VALID;
	publish_vectors(io);
	for (; pending; pending &= pending - 1)
		set_line(io, __ffs(pending), true);	/* what was pending rises again */
}

/**
 * lodge_ioapic_state - KVM_GET_IRQCHIP and KVM_SET_IRQCHIP of the IOAPIC
 * @vm: the VM, slots_lock held
 * @s: the state
 * @set: it is set
 *
 * Return: 0; -ENOMEM or -ENOSPC where it cannot answer at another address: nothing has changed.
 */
int lodge_ioapic_state(struct lodge_vm *vm, struct kvm_ioapic_state *s, bool set)
{
	struct lodge_ioapic *io = vm->ioapic;
	int ret = set ? move(io, s->base_address) : 0;
	unsigned long flags;

	if (ret)
		return ret;
	raw_spin_lock_irqsave(&io->lock, flags);
	if (set)
		set_state(io, s);
	else
		get_state(io, s);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return 0;
}

/** lodge_ioapic_base - where it answers */
u64 lodge_ioapic_base(struct lodge_vm *vm)
{
	return vm->ioapic->dev[vm->ioapic->at].base;
}

/** lodge_ioapic_move - it answers there; slots_lock held. 0, -ENOMEM or -ENOSPC: it is where it was */
int lodge_ioapic_move(struct lodge_vm *vm, u64 base)
{
	return move(vm->ioapic, base);
}
