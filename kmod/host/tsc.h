/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The time stamp counter that everything here reckons with: the processor's, plus what that lost while the host
 * slept. So offsets, deadlines and clock pairs stay true over a suspension without anybody touching them: only
 * what lies in the hardware, an offset to the processor's own counter, is written anew (sleep.c).
 */
#ifndef LODGE_HOST_TSC_H
#define LODGE_HOST_TSC_H

#include <linux/types.h>
#include <asm/msr.h>
#include <asm/tsc.h>

struct lodge_vcpu;

/* Changes while one CPU is on, with interrupts off, and all programs are frozen: nobody sees half of it. */
struct lodge_slept {
	u64 tsc;		/* cycles that the processor's TSC is behind */
	u64 ns;			/* of the host's boot time that no TSC counted */
	u32 times;
};
extern struct lodge_slept lodge_slept;

static __always_inline u64 lodge_tsc(void)
{
	return rdtsc() + lodge_slept.tsc;
}

static __always_inline u64 lodge_tsc_ordered(void)
{
	return rdtsc_ordered() + lodge_slept.tsc;
}

/* sleep.c */
void lodge_sleep_begins(void);			/* the last CPU, IRQs off */
void lodge_sleep_ends(void);			/* the same */
void lodge_sleep_noticed(struct lodge_vcpu *v);	/* IRQs off, where a window could begin */
#endif
