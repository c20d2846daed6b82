// SPDX-License-Identifier: GPL-2.0
/*
 * Beside a live KVM: a window takes what KVM holds, and leaves it as it was found.
 *
 * While KVM's module is there, whether it has VMs or not, nothing is kept from one window to the next: KVM may
 * switch SVM or VMX on and off at any time between two. Every window looks what the CPU has now, whose it is does not
 * matter, and puts that back (svm/share.c, vmx/host.c). That includes the MSRs that KVM leaves its guest's
 * values in until userspace runs: they are read in each window, for what was there when virtualization was switched on
 * says nothing.
 *
 * KVM enters a guest only behind a context switch to its thread, or when our ioctl has returned in the same thread.
 * So what it must not find, predictors that our guests have trained and translations under numbers that it hands out
 * as well, goes when our thread is scheduled out and when KVM_RUN ends ("leave"); and what we must not find goes at the
 * first window after either ("away"). Preempt notifiers tell of the first.
 *
 * Per-CPU data: its own CPU, IRQs off. v->away: the vCPU's thread, or the CPU that it has just run on. No locks.
 */
#include <linux/cpumask.h>
#include <linux/preempt.h>
#include <linux/smp.h>
#include <asm/msr-index.h>

#include "host/host.h"
#include "host/switch.h"

/* KVM may enter a guest on this CPU next. */
static void leave(struct lodge_vcpu *v)
{
	struct lodge_host_cpu *h;
	unsigned long flags;

	v->away = true;
	local_irq_save(flags);
	h = this_cpu_ptr(&lodge_host_cpu);
	if (h->used) {
		h->used = false;
		if (boot_cpu_has(LODGE_FEATURE_IBPB))
			lodge_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
		if (lodge_ops->clean)
			lodge_ops->clean();
	}
	local_irq_restore(flags);
}

static void sched_in(struct preempt_notifier *n, int cpu)
{
}

static void sched_out(struct preempt_notifier *n, struct task_struct *next)
{
	leave(container_of(n, struct lodge_vcpu, notifier));
}

static struct preempt_ops preempt_ops = { .sched_in = sched_in, .sched_out = sched_out };

/**
 * lodge_share_watch - from here on until lodge_share_unwatch() the vCPU's thread may share a CPU with KVM
 * @v: the vCPU, in its thread; once more does no harm
 */
void lodge_share_watch(struct lodge_vcpu *v)
{
	if (v->watched || !lodge_host_watching())
		return;
	v->watched = v->away = true;
	preempt_notifier_init(&v->notifier, &preempt_ops);
	preempt_notifier_register(&v->notifier);
}

/** lodge_share_unwatch - KVM_RUN ends: KVM_RUN of KVM's may be next, in this thread */
void lodge_share_unwatch(struct lodge_vcpu *v)
{
	preempt_disable();
	leave(v);
	preempt_notifier_unregister(&v->notifier);
	preempt_enable();
	v->watched = false;
}

/**
 * lodge_share_enter - a window begins on a CPU that is not our own
 * @v: the vCPU; IRQs off
 *
 * Return: 0; -EBUSY: virtualization is off here; -EAGAIN: lodge_share_watch() has to be called first, or the CPU is about to
 * go offline, and the thread to be moved to another.
 */
int lodge_share_enter(struct lodge_vcpu *v)
{
	struct lodge_host_cpu *h = this_cpu_ptr(&lodge_host_cpu);

	if (h->holder == HOST_OFF)
		return cpu_active(smp_processor_id()) ? -EBUSY : -EAGAIN;
	if (!v->watched)
		return -EAGAIN;
	if (v->away)
		h->last_uid = U64_MAX;	/* whoever it was: the predictor is not ours */
	lodge_switch_take();
	if (lodge_ops->ride)
		lodge_ops->ride(v);
	v->away = false;
	h->used = true;
	return 0;
}
