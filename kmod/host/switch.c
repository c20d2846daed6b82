// SPDX-License-Identifier: GPL-2.0
/*
 * MSRs that are switched by hand (switch.h), and the one way in which a value that was chosen outside the host
 * gets into a WRMSR.
 *
 * Such a value has been checked before (cpu/msr.c), against the host's features. Should that ever miss something the
 * processor refuses it, and a general protection fault in the window would be the end of the host: so the write has a
 * fixup. The VM is stopped, and the register holds 0 in the meantime, which is nobody's secret.
 *
 * Per-CPU data: its own CPU, IRQs off. No locks.
 */
#include <asm/cpufeature.h>
#include <asm/msr-index.h>

#include "host/compat.h"
#include "host/switch.h"

DEFINE_PER_CPU(struct lodge_switch, lodge_switch);

static const u16 cap[SW_COUNT] = {	/* the processor has it: X86_FEATURE_ */
	[SW_STAR] = X86_FEATURE_LM, [SW_LSTAR] = X86_FEATURE_LM, [SW_CSTAR] = X86_FEATURE_LM,
	[SW_SFMASK] = X86_FEATURE_LM, [SW_TSC_AUX] = X86_FEATURE_RDTSCP, [SW_XSS] = X86_FEATURE_XSAVES,
};

/** lodge_switch_take - virtualization begins on this CPU: what the host has; IRQs off */
void lodge_switch_take(void)
{
	struct lodge_switch *s = this_cpu_ptr(&lodge_switch);
	int i;

	s->held = s->foreign = 0;
	for (i = 0; i < SW_COUNT; i++) {
		s->now[i] = s->host[i] = 0;
		if (!(lodge_ops->switched & BIT(i)) || !boot_cpu_has(cap[i]))
			continue;
		s->held |= BIT(i);
		s->now[i] = s->host[i] = lodge_rdmsr(lodge_switched_msr[i]);
	}
}

/**
 * lodge_wrmsr_outside - write a value that a guest or userspace chose
 * @v: the vCPU whose it is; its VM is stopped where the processor refuses the value
 * @msr: which
 * @val: the value
 *
 * Context: window, or IRQs off.
 * Return: true; false where the register holds 0 now.
 */
bool lodge_wrmsr_outside(struct lodge_vcpu *v, u32 msr, u64 val)
{
	if (likely(lodge_wrmsr_safe(msr, val)))
		return true;
	lodge_switch_refused(v, msr);
	return false;
}

/** lodge_switch_refused - the processor did not take a guest's value: 0 is there instead, and the VM stops */
noinline void lodge_switch_refused(struct lodge_vcpu *v, u32 msr)
{
	lodge_wrmsr_safe(msr, 0);
	lodge_vm_kill(v->vm, "the processor refuses the value of an MSR");
}

/** lodge_switch_restore - lodge_switch_out(), where there is something to put back */
void lodge_switch_restore(void)
{
	struct lodge_switch *s = this_cpu_ptr(&lodge_switch);
	u32 foreign = s->foreign;

	s->foreign = 0;
	for (; foreign; foreign &= foreign - 1) {
		int i = __ffs(foreign);

		if (s->now[i] == s->host[i])
			continue;
		lodge_wrmsr(lodge_switched_msr[i], s->host[i]);
		s->now[i] = s->host[i];
	}
}
