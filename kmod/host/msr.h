/* SPDX-License-Identifier: GPL-2.0 */
/* Reading and writing MSRs. */
#ifndef LODGE_HOST_MSR_H
#define LODGE_HOST_MSR_H

#include <linux/kernel.h>
#include <linux/types.h>
#include <asm/asm.h>

/* The kernel's own MSR accessors change names and may trace or WARN: these are ours. */
static __always_inline u64 lodge_rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a" (lo), "=d" (hi) : "c" (msr));
	return lo | (u64)hi << 32;
}

static __always_inline void lodge_wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" : : "c" (msr), "a" (lower_32_bits(val)), "d" (upper_32_bits(val)) : "memory");
}

/* The same where the processor may refuse: false, and nothing has changed. */
static inline bool lodge_rdmsr_safe(u32 msr, u64 *val)
{
	u32 lo = 0, hi = 0;
	bool bad = true;

	asm volatile("1: rdmsr\n\tmovb $0, %0\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+q" (bad), "+a" (lo), "=d" (hi) : "c" (msr));
	*val = lo | (u64)hi << 32;
	return !bad;
}

static __always_inline bool lodge_wrmsr_safe(u32 msr, u64 val)
{
	bool bad = true;

	asm volatile("1: wrmsr\n\tmovb $0, %0\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+q" (bad) : "c" (msr), "a" (lower_32_bits(val)), "d" (upper_32_bits(val)) : "memory");
	return !bad;
}
#endif
