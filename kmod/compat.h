/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that depends on the kernel's version, and nothing else in the tree does. Written for
 * the newest kernel (7.3): the old ones are back-filled here, by feature test where there is one.
 */
#ifndef LODGE_COMPAT_H
#define LODGE_COMPAT_H

#include <linux/version.h>
#include <linux/nospec.h>
#include <linux/types.h>

/* -- core -- */

/* The kernel's own MSR accessors change names and may trace or WARN: these are ours. */
static __always_inline u64 lodge_rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a" (lo), "=d" (hi) : "c" (msr));
	return lo | (u64)hi << 32;
}

static __always_inline void lodge_wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" : : "c" (msr), "a" ((u32)val), "d" ((u32)(val >> 32)) : "memory");
}

/* -- memory -- */

/* -- irqchip -- */

/* -- state -- */

#endif
