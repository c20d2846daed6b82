// SPDX-License-Identifier: GPL-2.0
/*
 * The 8254 timer of a PC at ports 0x40-0x43, and the bits of port 0x61 that belong to it.
 *
 * Counters are not decremented: each remembers when its count was loaded, and reads are computed
 * from the time that passed. Channel 0 drives GSI 0 with an hrtimer; channel 2 can be read only.
 *
 * Reinjection: a guest that was not running loses no ticks. Ticks are counted, and the next is
 * sent when the guest acknowledged the last (its EOI, through lodge_ack_notify()). With
 * KVM_REINJECT_CONTROL off each expiry is sent, and the controllers merge what is not taken.
 *
 * Channel state: the raw lock, IRQs off. The timer's callback takes no lock of the PIT: it reads
 * the period, which changes only after the timer was cancelled, and the two atomics.
 *
 * Interleaving of a tick and an acknowledgement on two CPUs: a tick counts, then takes the right to
 * send; an acknowledgement gives the right back, uncounts one, then takes it again if any is left. Whoever
 * comes second sees the other's half, and xchg lets only one of them send.
 */
#include <linux/math64.h>
#include <linux/slab.h>

#include "irqchip/irqchip.h"

#define PIT_HZ		1193182
#define PIT_MAX_PENDING	2048		/* ticks owed to a guest that does not run */
#define FLAGS_VALID	(KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON)

/* Halves of a count, in rw_mode, read_state and write_state. */
enum { RW_LOW = 1, RW_HIGH, RW_BOTH, RW_BOTH_HIGH };

struct lodge_pit {
	struct lodge_chip kept;
	struct lodge_vm *vm;
	raw_spinlock_t lock;
	struct kvm_pit_channel_state ch[3];	/* state, up to timer */
	u64 period;			/* ns; 0: one shot */
	u32 flags;			/* KVM_PIT_FLAGS_* */
	atomic_t pending;		/* ticks not acknowledged */
	atomic_t may_send;		/* the last tick was acknowledged */
	struct hrtimer timer;		/* channel 0 */
	struct lodge_iodev io, speaker;
	bool has_speaker;		/* on the bus */
};

static u64 to_ns(u32 count)
{
	return div_u64((u64)count * NSEC_PER_SEC, PIT_HZ);
}

/* -- channel 0's interrupt -- */

static void send(struct lodge_pit *p)
{
	lodge_pulse_gsi(p->vm, 0, LODGE_IRQ_SOURCE_PIT);
}

static void start_counting(struct lodge_pit *p)
{
	atomic_set(&p->pending, 0);
	atomic_set(&p->may_send, 1);
}

static enum hrtimer_restart fire(struct hrtimer *t)
{
	struct lodge_pit *p = container_of(t, struct lodge_pit, timer);
	u64 period = READ_ONCE(p->period), ticks = 1;

	if (period)
		ticks = hrtimer_forward(t, ktime_get(), ns_to_ktime(period));
	if (!READ_ONCE(p->vm->set.pit_reinject)) {
		send(p);
	} else {
		if (atomic_read(&p->pending) < PIT_MAX_PENDING)
			atomic_add(min_t(u64, ticks, PIT_MAX_PENDING), &p->pending);
		if (atomic_xchg(&p->may_send, 0))
			send(p);
	}
	return period ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

void lodge_pit_acked(struct lodge_vm *vm)
{
	struct lodge_pit *p = READ_ONCE(vm->pit);

	if (!p || !READ_ONCE(vm->set.pit_reinject))
		return;
	atomic_xchg(&p->may_send, 1);
	if (atomic_dec_if_positive(&p->pending) > 0 && atomic_xchg(&p->may_send, 0))
		send(p);
}

void lodge_pit_unmasked(struct lodge_vm *vm)
{
	struct lodge_pit *p = READ_ONCE(vm->pit);

	if (p)
		start_counting(p);
}

/* Channel 0 has a new count. The lock is held: the callback takes none, so it can be waited for. */
static void start_timer(struct lodge_pit *p)
{
	const struct kvm_pit_channel_state *c = &p->ch[0];
	bool periodic = c->mode == 2 || c->mode == 3;
	u64 ns = to_ns(c->count);

	hrtimer_cancel(&p->timer);
	if (c->mode > 4 || p->flags & KVM_PIT_FLAGS_HPET_LEGACY)
		return;
	if (periodic)
		ns = max_t(u64, ns, LODGE_MIN_PERIOD);
	WRITE_ONCE(p->period, periodic ? ns : 0);
	start_counting(p);
	hrtimer_start(&p->timer, ktime_add_ns(c->count_load_time, ns), HRTIMER_MODE_ABS_HARD);
}

/* -- counters -- */

static u64 elapsed(const struct kvm_pit_channel_state *c)
{
	s64 ns = ktime_to_ns(ktime_get()) - c->count_load_time;

	return mul_u64_u32_div(max_t(s64, ns, 0), PIT_HZ, NSEC_PER_SEC);
}

static u16 current_count(const struct kvm_pit_channel_state *c)
{
	u64 t = elapsed(c);

	switch (c->mode) {
	case 2:
		return c->count - t % c->count;
	case 3:
		return c->count - 2 * t % c->count;
	default:
		return c->count - t;
	}
}

static bool output(const struct kvm_pit_channel_state *c)
{
	u64 t = elapsed(c);

	switch (c->mode) {
	case 1:
		return t < c->count;
	case 2:
		return t && !(t % c->count);
	case 3:
		return t % c->count < (c->count + 1) / 2;
	case 4:
	case 5:
		return t == c->count;
	default:
		return t >= c->count;
	}
}

static void load(struct lodge_pit *p, int n, u32 count, ktime_t now)
{
	struct kvm_pit_channel_state *c = &p->ch[n];

	c->count = count ?: 0x10000;
	c->count_load_time = ktime_to_ns(now);
	if (n == 0)
		start_timer(p);
}

static void latch_count(struct kvm_pit_channel_state *c)
{
	if (c->count_latched)
		return;
	c->latched_count = current_count(c);
	c->count_latched = c->rw_mode;
}

static void latch_status(struct kvm_pit_channel_state *c)
{
	if (c->status_latched)
		return;
	c->status = output(c) << 7 | c->rw_mode << 4 | c->mode << 1 | c->bcd;
	c->status_latched = 1;
}

static void write_control(struct lodge_pit *p, u8 val)
{
	struct kvm_pit_channel_state *c;
	int i;

	if (val >> 6 == 3) {	/* read back */
		for (i = 0; i < 3; i++) {
			if (!(val & 2 << i))
				continue;
			if (!(val & 0x20))
				latch_count(&p->ch[i]);
			if (!(val & 0x10))
				latch_status(&p->ch[i]);
		}
		return;
	}
	c = &p->ch[array_index_nospec(val >> 6, 3)];
	if (!(val & 0x30)) {
		latch_count(c);
		return;
	}
	c->rw_mode = c->read_state = c->write_state = val >> 4 & 3;
	c->mode = val >> 1 & 7;
	if (c->mode > 5)
		c->mode -= 4;
	c->bcd = val & 1;
}

static void write_count(struct lodge_pit *p, int n, u8 val)
{
	struct kvm_pit_channel_state *c = &p->ch[n];

	switch (c->write_state) {
	case RW_BOTH:
		c->write_latch = val;
		c->write_state = RW_BOTH_HIGH;
		return;
	case RW_BOTH_HIGH:
		c->write_state = RW_BOTH;
		load(p, n, c->write_latch | val << 8, ktime_get());
		return;
	}
	load(p, n, c->write_state == RW_HIGH ? val << 8 : val, ktime_get());
}

static u8 read_count(struct kvm_pit_channel_state *c)
{
	u16 count;
	u8 half;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched) {
		count = c->latched_count;
		half = c->count_latched;
		c->count_latched = half == RW_BOTH ? RW_HIGH : 0;
	} else {
		count = current_count(c);
		half = c->read_state;
		if (half >= RW_BOTH)
			c->read_state = half == RW_BOTH ? RW_BOTH_HIGH : RW_BOTH;
	}
	return half == RW_HIGH || half == RW_BOTH_HIGH ? count >> 8 : count;
}

/* -- ports -- */

static int pit_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val)
{
	struct lodge_pit *p = container_of(d, struct lodge_pit, io);
	unsigned long flags;

	memset(val, 0, len);
	if ((addr & 3) == 3)
		return 0;
	raw_spin_lock_irqsave(&p->lock, flags);
	*(u8 *)val = read_count(&p->ch[array_index_nospec(addr & 3, 3)]);
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

static int pit_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct lodge_pit *p = container_of(d, struct lodge_pit, io);
	u8 data = *(const u8 *)val;
	unsigned long flags;

	raw_spin_lock_irqsave(&p->lock, flags);
	if ((addr & 3) == 3)
		write_control(p, data);
	else
		write_count(p, array_index_nospec(addr & 3, 3), data);
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

/* Port 0x61: gate and output of channel 2, the speaker's switch, and a bit that toggles (refresh). */
static int speaker_read(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val)
{
	struct lodge_pit *p = container_of(d, struct lodge_pit, speaker);
	u8 refresh = ktime_to_ns(ktime_get()) >> 14 & 1;
	unsigned long flags;

	memset(val, 0, len);
	raw_spin_lock_irqsave(&p->lock, flags);
	*(u8 *)val = p->ch[2].gate | (p->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) |
		     refresh << 4 | output(&p->ch[2]) << 5;
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

static int speaker_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct lodge_pit *p = container_of(d, struct lodge_pit, speaker);
	struct kvm_pit_channel_state *c = &p->ch[2];
	u8 data = *(const u8 *)val, gate = data & 1;
	unsigned long flags;

	raw_spin_lock_irqsave(&p->lock, flags);
	p->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (data & 2)
		p->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	/* In modes 0 and 4 a closed gate would hold the counter; nobody relies on it. */
	if (gate && !c->gate && c->mode != 0 && c->mode != 4)
		c->count_load_time = ktime_to_ns(ktime_get());
	c->gate = gate;
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

/* -- life and state -- */

/* Brought back: as if the counts had been loaded so much later. */
static void settle(struct lodge_vm *vm, s64 later)
{
	int i;

	for (i = 0; i < 3; i++)
		vm->pit->ch[i].count_load_time += later;
}

static struct lodge_pit *pit_alloc(struct lodge_vm *vm)
{
	struct lodge_pit *p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	int i;

	if (!p)
		return NULL;
	p->vm = vm;
	p->kept = (struct lodge_chip) {
		.lock = &p->lock, .state = p->ch, .timer = &p->timer, .settle = settle,
		LODGE_CHIP_STATE(struct lodge_pit, ch, timer),
	};
	raw_spin_lock_init(&p->lock);
	lodge_hrtimer_setup(&p->timer, fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	for (i = 0; i < 3; i++) {
		p->ch[i].mode = 0xff;	/* not programmed */
		p->ch[i].gate = i != 2;
		load(p, i, 0, ktime_get());
	}
	p->io = (struct lodge_iodev) {
		.base = 0x40, .len = 4, .fast = true, .read = pit_read, .write = pit_write,
	};
	p->speaker = (struct lodge_iodev) {
		.base = 0x61, .len = 1, .fast = true,
		.read = speaker_read, .write = speaker_write,
	};
	return p;
}

static int pit_attach(struct lodge_vm *vm, struct lodge_pit *p, bool speaker)
{
	int ret = lodge_bus_add(vm, BUS_PIO, &p->io);

	p->has_speaker = speaker;
	if (!ret && speaker) {
		ret = lodge_bus_add(vm, BUS_PIO, &p->speaker);
		if (ret)
			lodge_bus_del(vm, BUS_PIO, &p->io);
	}
	if (ret)
		return ret;
	smp_store_release(&vm->pit, p);	/* whole before an EOI finds it: lodge_pit_acked() */
	lodge_routes_notify(vm);
	return 0;
}

/**
 * lodge_ioc_create_pit2 - KVM_CREATE_PIT2
 * @vm: the VM
 * @buf: struct kvm_pit_config
 * @arg: unused
 *
 * Return: 0, -EEXIST, -ENOENT without the 8259s, -EINVAL for unknown flags, -ENOMEM, -ENOSPC.
 */
int lodge_ioc_create_pit2(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_pit_config *cfg = buf;
	struct lodge_pit *p = NULL;
	int ret;

	mutex_lock(&vm->slots_lock);
	ret = -EEXIST;
	if (vm->pit)
		goto out;
	ret = -ENOENT;
	if (!vm->pic)
		goto out;
	ret = -EINVAL;
	if (cfg->flags & ~KVM_PIT_SPEAKER_DUMMY)
		goto out;
	ret = -ENOMEM;
	p = pit_alloc(vm);
	if (!p)
		goto out;
	ret = pit_attach(vm, p, cfg->flags & KVM_PIT_SPEAKER_DUMMY);
	if (ret) {
		hrtimer_cancel(&p->timer);
		kfree(p);
	}
out:
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/** lodge_pit_speaker - whether the PIT was made with port 61H; slots_lock held */
bool lodge_pit_speaker(struct lodge_vm *vm)
{
	return vm->pit && vm->pit->has_speaker;
}

/** lodge_pit_stop - the timer stops for good: nobody can program it any more */
void lodge_pit_stop(struct lodge_vm *vm)
{
	if (vm->pit)
		hrtimer_cancel(&vm->pit->timer);
}

/** lodge_ioc_get_pit2 - KVM_GET_PIT2; -ENXIO without one */
int lodge_ioc_get_pit2(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_pit *p = READ_ONCE(vm->pit);
	struct kvm_pit_state2 *s = buf;
	unsigned long flags;

	if (!p)
		return -ENXIO;
	memset(s, 0, sizeof(*s));
	raw_spin_lock_irqsave(&p->lock, flags);
	memcpy(s->channels, p->ch, sizeof(p->ch));
	s->flags = p->flags;
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

/* Whatever userspace says, a channel is one that the code above can work with. */
static void sanitize(struct kvm_pit_channel_state *c)
{
	if (!c->count || c->count > 0x10000)
		c->count = 0x10000;
	if (c->mode > 5)
		c->mode = 0xff;
	c->rw_mode &= 3;
	c->bcd &= 1;
	c->gate &= 1;
}

/** lodge_ioc_set_pit2 - KVM_SET_PIT2: counting starts anew; -ENXIO without one, -EINVAL for flags */
int lodge_ioc_set_pit2(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_pit *p = READ_ONCE(vm->pit);
	const struct kvm_pit_state2 *s = buf;
	ktime_t now = ktime_get();
	unsigned long flags;
	int i;

	if (!p)
		return -ENXIO;
	if (s->flags & ~FLAGS_VALID)
		return -EINVAL;
	raw_spin_lock_irqsave(&p->lock, flags);
	memcpy(p->ch, s->channels, sizeof(p->ch));
	p->flags = s->flags;
	for (i = 0; i < 3; i++) {
		sanitize(&p->ch[i]);
		load(p, i, p->ch[i].count, now);
	}
	raw_spin_unlock_irqrestore(&p->lock, flags);
	return 0;
}

/** lodge_ioc_reinject - KVM_REINJECT_CONTROL; -ENXIO without a PIT */
int lodge_ioc_reinject(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_reinject_control *c = buf;

	if (!READ_ONCE(vm->pit))
		return -ENXIO;
	WRITE_ONCE(vm->set.pit_reinject, !!c->pit_reinject);
	lodge_pit_unmasked(vm);
	return 0;
}
