/* SPDX-License-Identifier: GPL-2.0 */
/* The inside of a LAPIC, shared by lapic*.c alone. */
#ifndef LODGE_LAPIC_H
#define LODGE_LAPIC_H

#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "irqchip/irqchip.h"

#define LVT_MODE_TIMER	(BIT(17) | BIT(18))
#define LVT_VECTOR	0xff
#define LVT_DELIVERY	0x700
#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_BAD_REGISTER BIT(7)

/*
 * [a] any context, with atomic bit operations; [v] the vCPU's thread; others read [v] fields for
 * routing, and a change that races with a message may miss that message as on hardware.
 */
struct lodge_lapic {
	u32 regs[256] __aligned(64);	/* KVM_GET_LAPIC's layout. IRR, TMR: [a]. All else: [v] */
	u64 period;			/* [v] ns, of TMICT; the timer's callback reads it */
	unsigned long events;		/* [a] LAPIC_INIT, LAPIC_SIPI */
	bool irr_any;			/* [a] IRR may hold something */
	u8 isr_top;			/* [v] highest vector in ISR, 0: none */
	u8 isr_count;			/* [v] bits in ISR */
	u8 div_shift;			/* [v] the timer's divider */
	u8 esr;				/* [v] errors since the last write of ESR */
	u8 user_eoi;			/* [v] vector of the EOI that userspace must see */
	u8 sipi_vector;			/* [a] before its bit in events */

	/* up to here it is the guest's state, kept word by word: LODGE_LAPIC_STATE */
	struct lodge_vcpu *v;		/* [c] */
	struct lodge_iodev page;	/* [v] the xAPIC page: v->local */
	bool odd_id;			/* [v] its xAPIC id is not the vCPU's id */
	struct hrtimer timer;
	u64 ns_mult;			/* [c] ns = (TSC cycles * this) >> 32 */
};

/* The mask keeps an offset that the guest chose in bounds, mispredicted branches or not. */
static inline u32 lapic_get(const struct lodge_lapic *l, u32 off)
{
	return READ_ONCE(l->regs[(off & 0x3f0) >> 2]);
}

static inline void lapic_put(struct lodge_lapic *l, u32 off, u32 val)
{
	WRITE_ONCE(l->regs[off >> 2], val);
}

/* The word of a 256-bit register that holds a vector; the bit is vector % 32. */
static inline unsigned long *lapic_word(struct lodge_lapic *l, u32 base, u8 vector)
{
	return (unsigned long *)&l->regs[(base >> 2) + (vector >> 5) * 4];
}

static inline bool lapic_x2(const struct lodge_vcpu *v)
{
	return READ_ONCE(v->apic_base) & X2APIC_ENABLE;
}

static inline bool lapic_sw_enabled(const struct lodge_lapic *l)
{
	return lapic_get(l, APIC_SPIV) & APIC_SPIV_APIC_ENABLED;
}

/* One-shot, periodic or by a deadline: APIC_LVT_TIMER_* */
static inline u32 lapic_timer_mode(const struct lodge_lapic *l)
{
	return lapic_get(l, APIC_LVTT) & LVT_MODE_TIMER;
}

/* lapic.c */
void lapic_error(struct lodge_lapic *l, u8 bit);		/* vCPU thread */

/* lapic_ipi.c */
void lapic_send(struct lodge_vcpu *v, u32 low, u32 high);	/* vCPU thread: an ICR write */
void lapic_self(struct lodge_vcpu *v, u8 vector);		/* vCPU thread: IRR of its own, edge */

/* lapic_timer.c: vCPU thread, window or not */
void lapic_timer_init(struct lodge_lapic *l);
void lapic_timer_stop(struct lodge_lapic *l);
void lapic_timer_start(struct lodge_lapic *l, u32 count);	/* from TMICT; first expiry after count */
u32 lapic_timer_count(struct lodge_lapic *l);			/* TMCCT */
void lapic_timer_scale(struct lodge_lapic *l, u32 tdcr);
void lapic_timer_divide(struct lodge_lapic *l, u32 tdcr);
void lapic_timer_lvt(struct lodge_lapic *l, u32 lvt);		/* a new LVTT */
#endif
