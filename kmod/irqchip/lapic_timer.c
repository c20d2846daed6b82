// SPDX-License-Identifier: GPL-2.0
/*
 * The LAPIC's timer: one-shot, periodic and TSC deadline, on one hrtimer; a deadline also on the
 * timer that a processor may have for its guest.
 *
 * A tick of its bus is a whole number of nanoseconds (1, unless KVM_CAP_X86_APIC_BUS_CYCLES_NS said otherwise), so
 * arming needs no division. A deadline is scaled by a factor computed once.
 *
 * The timer fires in a host interrupt, hard even on PREEMPT_RT, and sets the vector in IRR right
 * there; it is pinned to the CPU that armed it, usually the one the vCPU runs on, where the host's
 * timer interrupt itself ends the window.
 *
 * Where there is such a timer (v->entry_timer) a deadline is v->timer_tsc: the vendor sees to it
 * that the guest is left then, and calls lodge_lapic_timer_check(). Arming it costs no more than
 * the store. It can only end a guest that runs: a vCPU that goes to sleep hands the deadline over
 * to the hrtimer. In userspace nobody misses it, for KVM_GET_LAPIC looks too.
 *
 * Races: the callback reads LVTT, TMICT and the period, which the vCPU's thread writes only after it
 * cancelled the timer and so waited for the callback. A deadline is different: it is re-armed while an
 * older one's callback may run, which is harmless, for that callback writes nothing but IRR, and the
 * deadline it stands for has passed. That a deadline has passed is seen by comparing, so the
 * callback need not clear it.
 *
 * SDM 3, 11.5.4. vcpu->mutex held, in the window or not; no locks.
 */
#include <asm/tsc.h>
#include <linux/math64.h>

#include "irqchip/lapic.h"

static enum hrtimer_restart fire(struct hrtimer *t)
{
	struct lodge_lapic *l = container_of(t, struct lodge_lapic, timer);
	u32 lvt = lapic_get(l, APIC_LVTT);
	u64 period = READ_ONCE(l->period);

	if (!(lvt & APIC_LVT_MASKED) && (lvt & LVT_VECTOR) >= 16)
		lodge_lapic_set_irq(l->v, lvt & LVT_VECTOR, false);
	if ((lvt & LVT_MODE_TIMER) != APIC_LVT_TIMER_PERIODIC || !period)
		return HRTIMER_NORESTART;
	/* Periods that passed unseen are skipped: IRR would have merged them. */
	hrtimer_forward(t, ktime_get(), ns_to_ktime(max_t(u64, period, LODGE_MIN_PERIOD)));
	return HRTIMER_RESTART;
}

static void arm(struct lodge_lapic *l, u64 ns)
{
	hrtimer_start(&l->timer, ktime_add_ns(ktime_get(), ns), HRTIMER_MODE_ABS_PINNED_HARD);
}

/* So many counts as time. 128 times the largest count fits (LODGE_MAX_BUS_NS); what no clock reaches is cut off. */
static u64 count_ns(const struct lodge_lapic *l, u32 count)
{
	return min_t(u64, ((u64)count << l->div_shift) * l->v->vm->set.apic_bus_ns, KTIME_MAX / 2);
}

/* A TSC deadline so many cycles away: rounded up, the guest must not find it still ahead. */
static void arm_cycles(struct lodge_lapic *l, u64 cycles)
{
	arm(l, mul_u64_u64_shr(cycles, l->ns_mult, 32) + 1);
}

/** lodge_lapic_halt - the hrtimer stops; when it would have fired (host time), or 0 */
ktime_t lodge_lapic_halt(struct lodge_vcpu *v)
{
	return lodge_timer_halt(&v->lapic->timer);
}

/** lodge_lapic_go - it fires then, or not at all: 0 */
void lodge_lapic_go(struct lodge_vcpu *v, ktime_t at)
{
	if (at)
		hrtimer_start(&v->lapic->timer, at, HRTIMER_MODE_ABS_PINNED_HARD);
}

static void expire_now(struct lodge_lapic *l)
{
	u32 lvt = lapic_get(l, APIC_LVTT);

	if (!(lvt & APIC_LVT_MASKED) && (lvt & LVT_VECTOR) >= 16)
		lapic_self(l->v, lvt & LVT_VECTOR);
}

void lapic_timer_init(struct lodge_lapic *l)
{
	lodge_hrtimer_setup(&l->timer, fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_PINNED_HARD);
	l->ns_mult = div_u64((u64)NSEC_PER_MSEC << 32, l->v->vm->tsc_khz);
}

void lapic_timer_stop(struct lodge_lapic *l)
{
	hrtimer_cancel(&l->timer);
	l->v->tsc_deadline = l->v->timer_tsc = 0;
}

/* One-shot or periodic: TMICT holds the count to reload, the first expiry may come earlier. */
void lapic_timer_start(struct lodge_lapic *l, u32 count)
{
	u32 initial = lapic_get(l, APIC_TMICT);

	hrtimer_cancel(&l->timer);
	WRITE_ONCE(l->period, count_ns(l, initial));
	if (!initial)
		return;
	if (!count && lapic_timer_mode(l) == APIC_LVT_TIMER_PERIODIC)
		count = initial;
	arm(l, count_ns(l, count));
}

/* What is left to the next expiry, also when that is due but its interrupt is still held off. */
u32 lapic_timer_count(struct lodge_lapic *l)
{
	s64 left = ktime_to_ns(ktime_sub(hrtimer_get_expires(&l->timer), ktime_get()));
	u32 initial = lapic_get(l, APIC_TMICT);

	if (!initial || !l->period || lapic_timer_mode(l) == APIC_LVT_TIMER_TSCDEADLINE)
		return 0;
	if (left <= 0) {
		if (lapic_timer_mode(l) != APIC_LVT_TIMER_PERIODIC)
			return 0;
		left = l->period - (u64)-left % l->period;
	}
	return min_t(u64, div_u64((u64)left >> l->div_shift, l->v->vm->set.apic_bus_ns), initial);
}

/* Another divider, of a timer that is not running, or is started anew. */
void lapic_timer_scale(struct lodge_lapic *l, u32 tdcr)
{
	lapic_put(l, APIC_TDCR, tdcr);
	l->div_shift = (((tdcr & 3) | (tdcr & 8) >> 1) + 1) & 7;
}

/* The same of one that is: the ticks that are left take another time. */
void lapic_timer_divide(struct lodge_lapic *l, u32 tdcr)
{
	u32 left = lapic_timer_count(l);

	lapic_timer_scale(l, tdcr);
	if (left)
		lapic_timer_start(l, left);
}

/* Into or out of deadline mode the timer stops; between the others it runs on. */
void lapic_timer_lvt(struct lodge_lapic *l, u32 lvt)
{
	u32 was = lapic_timer_mode(l), now = lvt & LVT_MODE_TIMER;

	if (was != now && (was == APIC_LVT_TIMER_TSCDEADLINE || now == APIC_LVT_TIMER_TSCDEADLINE)) {
		lapic_timer_stop(l);
		lapic_put(l, APIC_TMICT, 0);
		WRITE_ONCE(l->period, 0);
	}
	lapic_put(l, APIC_LVTT, lvt);
}

/* In which mode, if at all, IA32_TSC_DEADLINE is alive. */
static bool deadline_mode(struct lodge_vcpu *v)
{
	return v->apic_base & MSR_IA32_APICBASE_ENABLE &&
	       lapic_timer_mode(v->lapic) == APIC_LVT_TIMER_TSCDEADLINE;
}

/**
 * lodge_lapic_tsc_deadline - read IA32_TSC_DEADLINE
 * @v: the vCPU
 * @host: userspace asks, which may save it: one that has passed reads as such until its interrupt is
 *        in IRR, so that whoever reads this and then the LAPIC has the one or the other
 *
 * Return: the guest TSC at which the timer will fire, or 0.
 */
u64 lodge_lapic_tsc_deadline(struct lodge_vcpu *v, bool host)
{
	if (!deadline_mode(v))
		return 0;
	if (host && (v->timer_tsc || hrtimer_active(&v->lapic->timer)))
		return v->tsc_deadline;
	return v->tsc_deadline > lodge_tsc() + v->tsc_offset ? v->tsc_deadline : 0;
}

/**
 * lodge_lapic_set_tsc_deadline - write IA32_TSC_DEADLINE
 * @v: the vCPU
 * @tsc: guest TSC; in the past: now; 0 disarms. Ignored outside deadline mode.
 */
void lodge_lapic_set_tsc_deadline(struct lodge_vcpu *v, u64 tsc)
{
	struct lodge_lapic *l = v->lapic;
	u64 host = lodge_tsc(), now = host + v->tsc_offset;
	u64 left = tsc > now ? min_t(u64, tsc - now, 1ull << 56) : 0;

	if (unlikely(!deadline_mode(v)))
		return;
	v->tsc_deadline = tsc;
	v->timer_tsc = 0;
	if (left && !v->entry_timer) {
		arm_cycles(l, left);
		return;
	}
	hrtimer_cancel(&l->timer);	/* with an entry timer: what the last HLT has left */
	if (left)
		v->timer_tsc = host + left;
	else if (tsc)
		expire_now(l);
}

/**
 * lodge_lapic_timer_check - the deadline that the vendor's timer stands for may have passed
 * @v: the vCPU; in the window or not
 */
void lodge_lapic_timer_check(struct lodge_vcpu *v)
{
	if (!v->timer_tsc || lodge_tsc() < v->timer_tsc)
		return;
	v->timer_tsc = 0;
	expire_now(v->lapic);
}

/**
 * lodge_lapic_timer_sleep - the vCPU will not run: the hrtimer takes over from the vendor's
 * @v: the vCPU; IRQs on
 */
void lodge_lapic_timer_sleep(struct lodge_vcpu *v)
{
	u64 now = lodge_tsc(), at = v->timer_tsc;

	if (!at)
		return;
	v->timer_tsc = 0;
	arm_cycles(v->lapic, at > now ? at - now : 0);
}

/** lodge_lapic_tsc_changed - the guest's TSC jumped: an armed deadline is at another time now */
void lodge_lapic_tsc_changed(struct lodge_vcpu *v)
{
	if (deadline_mode(v) && (v->timer_tsc || hrtimer_active(&v->lapic->timer)))
		lodge_lapic_set_tsc_deadline(v, v->tsc_deadline);
}
