// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own preparations for entering a guest, and the only file that sees struct kvm_vcpu.
 *
 * Signals, rescheduling, task work and the rest of what has to happen on the way to user mode are handled by
 * xfer_to_guest_mode_handle_work(), which every kernel exports. Up to 6.17 it takes a KVM vCPU, of which it
 * writes run->exit_reason and one counter and reads nothing but the run pointer: one that nobody looks at serves
 * all of ours. Later ones take nothing.
 *
 * Time spent in the guest is accounted once a window, and so is RCU's quiescent state; on CPUs with
 * context tracking (nohz_full) it is told around every single entry (lodge_context_enter() in host/host.h).
 *
 * No locks.
 */
#include <linux/context_tracking.h>
#include <linux/kvm_host.h>

#include "host/host.h"
#include LODGE_XFER_HEADER

static struct kvm_run scratch_run;
static struct kvm_vcpu scratch = { .run = &scratch_run };

/**
 * lodge_xfer_work - do what is due before entering the guest
 *
 * Context: the vCPU's thread, may sleep, vm->srcu not held.
 * Return: 0, or -EINTR when a signal is pending.
 */
int lodge_xfer_work(void)
{
	return lodge_xfer_handle(&scratch);
}

/** lodge_guest_timing_enter - from here on the time is the guest's; IRQs off, once a window */
void lodge_guest_timing_enter(void)
{
	guest_timing_enter_irqoff();
}

/**
 * lodge_rcu_quiet - tell RCU that this task holds nothing; IRQs off, after a host interrupt
 *
 * Ticks that find the CPU in user mode say so by themselves, but those that hit the guest come when the
 * window has ended: a vCPU that never leaves would seem to be in the kernel for ever.
 */
void lodge_rcu_quiet(void)
{
	if (!context_tracking_enabled_this_cpu())
		lodge_rcu_note();
}

/** lodge_guest_timing_exit - the time is the host's again; IRQs off */
void lodge_guest_timing_exit(void)
{
	guest_timing_exit_irqoff();
}

/** lodge_ct_enter - tell context tracking that the guest runs; IRQs off, nohz_full CPUs only */
void lodge_ct_enter(void)
{
	guest_context_enter_irqoff();
}

/** lodge_ct_exit - and that it does not any more */
void lodge_ct_exit(void)
{
	guest_context_exit_irqoff();
}
