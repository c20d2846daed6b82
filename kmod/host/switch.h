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
#include <asm/msr-index.h>

#include "core/core.h"
#include "host/msr.h"

/* Rows of the table in switch.c; a vendor names those that it switches (lodge_ops.switched). */
enum lodge_switched { SW_STAR, SW_LSTAR, SW_CSTAR, SW_SFMASK, SW_TSC_AUX, SW_XSS, SW_COUNT };

static const u32 lodge_switched_msr[SW_COUNT] = {
	[SW_STAR] = MSR_STAR, [SW_LSTAR] = MSR_LSTAR, [SW_CSTAR] = MSR_CSTAR, [SW_SFMASK] = MSR_SYSCALL_MASK,
	[SW_TSC_AUX] = MSR_TSC_AUX, [SW_XSS] = MSR_IA32_XSS,
};

struct lodge_switch {		/* of a CPU, IRQs off; of MSRs that there are not all is 0, as are a guest's values */
	u64 now[SW_COUNT];	/* what the processor holds */
	u64 host[SW_COUNT];	/* the host's, constant while virtualization is on */
	u32 held;		/* BIT(SW_*): those that there are */
	u32 foreign;		/* BIT(SW_*): written for a guest in this window */
};
DECLARE_PER_CPU(struct lodge_switch, lodge_switch);

void lodge_switch_take(void);
void lodge_switch_restore(void);
void lodge_switch_refused(struct lodge_vcpu *v, u32 msr);
bool lodge_wrmsr_outside(struct lodge_vcpu *v, u32 msr, u64 val);

/* A row, known to the compiler, to the guest's value; window. Inlined: each is written once in most windows. */
static __always_inline void lodge_switch_put(struct lodge_vcpu *v, enum lodge_switched i, u64 val)
{
	if (this_cpu_read(lodge_switch.now[i]) == val)
		return;
	this_cpu_write(lodge_switch.foreign, this_cpu_read(lodge_switch.foreign) | BIT(i));
	this_cpu_write(lodge_switch.now[i], val);
	if (likely(lodge_wrmsr_safe(lodge_switched_msr[i], val)))
		return;
	this_cpu_write(lodge_switch.now[i], 0);
	lodge_switch_refused(v, lodge_switched_msr[i]);
}

/* The window ends: the host's are back. */
static __always_inline void lodge_switch_out(void)
{
	if (this_cpu_read(lodge_switch.foreign))
		lodge_switch_restore();
}
#endif
