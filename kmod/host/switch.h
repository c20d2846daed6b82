/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MSRs of the host's that are the guest's for the time of a window, and are switched by hand.
 *
 * What the processor holds now is recorded on each CPU, where every write goes through, and the host's values are
 * put back from that record: not from what anybody believes to have written. So a window may end
 * at any point, whatever a handler changed meanwhile.
 *
 * KERNEL_GS_BASE, which SWAPGS changes without an exit, DEBUGCTL and SPEC_CTRL, which the guest writes itself, have no
 * record: they are read when the window ends, or written back whatever they hold.
 */
#ifndef LODGE_HOST_SWITCH_H
#define LODGE_HOST_SWITCH_H

#include <linux/bits.h>
#include <linux/percpu.h>

#include "core/core.h"

/* Rows of the table in switch.c; a vendor names those that it switches (lodge_ops.switched). */
enum lodge_switched { SW_STAR, SW_LSTAR, SW_CSTAR, SW_SFMASK, SW_TSC_AUX, SW_XSS, SW_COUNT };

struct lodge_switch {		/* of a CPU, IRQs off */
	u64 now[SW_COUNT];	/* what the processor holds */
	u64 host[SW_COUNT];	/* the host's, constant while virtualization is on */
	u32 held;		/* BIT(SW_*): those that there are */
	u32 foreign;		/* BIT(SW_*): now differs from host */
};
DECLARE_PER_CPU(struct lodge_switch, lodge_switch);

void lodge_switch_take(void);
void lodge_switch_write(struct lodge_vcpu *v, enum lodge_switched i, u64 val);
void lodge_switch_restore(void);
bool lodge_wrmsr_outside(struct lodge_vcpu *v, u32 msr, u64 val);

/* A row to the guest's value; window. */
static __always_inline void lodge_switch_put(struct lodge_vcpu *v, enum lodge_switched i, u64 val)
{
	if (this_cpu_read(lodge_switch.now[i]) != val)
		lodge_switch_write(v, i, val);
}

/* The window ends: the host's are back. */
static __always_inline void lodge_switch_out(void)
{
	if (this_cpu_read(lodge_switch.foreign))
		lodge_switch_restore();
}
#endif
