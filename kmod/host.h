/* SPDX-License-Identifier: GPL-2.0 */
/* What host.c and the two vendors know of the host CPU. Included by vendors, run.c and fpu.c. */
#ifndef LODGE_HOST_H
#define LODGE_HOST_H

#include <linux/context_tracking_state.h>

#include "lodge.h"

struct lodge_cpuid_regs {
	u32 eax, ebx, ecx, edx;
};

static inline struct lodge_cpuid_regs lodge_host_cpuid(u32 leaf, u32 subleaf)
{
	struct lodge_cpuid_regs r = { .eax = leaf, .ecx = subleaf };

	asm volatile("cpuid" : "+a" (r.eax), "=b" (r.ebx), "+c" (r.ecx), "=d" (r.edx));
	return r;
}

/* One per CPU, touched on it with IRQs off. */
struct lodge_host_cpu {
	bool enabled;		/* virtualization is on, and on by us */
	bool dr_saved;		/* the host had breakpoints: dr[] has to go back */
	u64 last_uid;		/* the vCPU that ran here last */
	unsigned long dr[4], dr6, dr7;
};
DECLARE_PER_CPU(struct lodge_host_cpu, lodge_host_cpu);

bool lodge_dr_enter(struct lodge_vcpu *v, u64 guest_dr7);	/* true: DR0-3 are the guest's */
void lodge_dr_touch(struct lodge_vcpu *v);
void lodge_dr_leave(struct lodge_vcpu *v, u64 guest_dr6);
void lodge_host_machine_check(void);
u64 lodge_host_spec_ctrl(void);
extern const u16 lodge_verw_sel;

/* xfer.c */
void lodge_ct_enter(void);
void lodge_ct_exit(void);

static __always_inline void lodge_context_enter(void)
{
	if (unlikely(context_tracking_enabled_this_cpu()))
		lodge_ct_enter();
}

static __always_inline void lodge_context_exit(void)
{
	if (unlikely(context_tracking_enabled_this_cpu()))
		lodge_ct_exit();
}
#endif
