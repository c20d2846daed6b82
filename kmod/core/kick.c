// SPDX-License-Identifier: GPL-2.0
/*
 * What anybody may ask of a vCPU, of all of a VM's, or of a VM: look at a request, leave the window, stop.
 *
 * Kicks: a vCPU sets v->mode to MODE_WINDOW, then looks at its requests; a requester sets the
 * request, then looks at the mode. One of the two sees the other (smp_mb on both sides). In the
 * window interrupts are off, so a reschedule IPI sent to it stays pending and ends the next VM
 * entry at once: requests need no further look before the entry itself.
 *
 * No locks.
 */
#include <linux/cpumask.h>
#include <linux/sched.h>
#include <linux/smp.h>

#include "core/core.h"
#include "host/compat.h"

/**
 * lodge_kick - make a vCPU look at its requests: out of the window, or awake
 * @v: the vCPU; any context
 */
void lodge_kick(struct lodge_vcpu *v)
{
	int cpu;

	smp_mb();	/* pairs with the one in window(): request before mode */
	if (READ_ONCE(v->mode) == MODE_WINDOW) {
		preempt_disable();
		cpu = READ_ONCE(v->cpu);
		if (cpu != smp_processor_id() && (unsigned int)cpu < nr_cpu_ids)
			smp_send_reschedule(cpu);
		preempt_enable();
	} else if (swq_has_sleeper(&v->wq)) {
		swake_up_one(&v->wq);
	}
}

/**
 * lodge_request - set a request and kick
 * @v: the vCPU; any context
 * @r: what it should do
 */
void lodge_request(struct lodge_vcpu *v, enum lodge_request r)
{
	/* Set already: whoever set it kicks. But one who sleeps may have seen it and found nothing. */
	if (!test_and_set_bit(r, &v->requests) || READ_ONCE(v->mode) != MODE_WINDOW)
		lodge_kick(v);
}

static void nothing(void *unused)
{
}

/**
 * lodge_kick_all_sync - end every window that is open now
 * @vm: the VM
 *
 * When this returns, each vCPU that was in a window has left it or will before it uses anything it
 * looked up earlier: the IPI is answered only with interrupts on.
 *
 * Context: preemptible or not, IRQs on.
 */
void lodge_kick_all_sync(struct lodge_vm *vm)
{
	struct lodge_vcpu *v;
	cpumask_var_t mask;
	bool any = false;
	int i, cpu;

	smp_mb();	/* what the caller changed, before the modes */
	if (!zalloc_cpumask_var(&mask, GFP_NOWAIT | __GFP_NOWARN)) {
		smp_call_function(nothing, NULL, 1);
		return;
	}
	lodge_for_each_vcpu(i, v, vm) {
		if (READ_ONCE(v->mode) != MODE_WINDOW)
			continue;
		cpu = READ_ONCE(v->cpu);
		if ((unsigned int)cpu < nr_cpu_ids) {
			cpumask_set_cpu(cpu, mask);
			any = true;
		}
	}
	if (any) {
		preempt_disable();
		smp_call_function_many(mask, nothing, NULL, true);
		preempt_enable();
	}
	free_cpumask_var(mask);
}

/**
 * lodge_vm_sync - wait until nobody uses what was just unpublished
 * @vm: the VM
 *
 * Context: may sleep; not under vcpu->mutex nor inside vm->srcu.
 */
void lodge_vm_sync(struct lodge_vm *vm)
{
	lodge_kick_all_sync(vm);
	synchronize_srcu_expedited(&vm->srcu);
}

/**
 * lodge_vm_kill - something impossible was found: nothing of this VM runs any more
 * @vm: the VM; any context
 * @why: goes to the log, once a VM
 */
void lodge_vm_kill(struct lodge_vm *vm, const char *why)
{
	struct lodge_vcpu *v;
	int i;

	if (test_and_set_bit(LODGE_DEAD, &vm->barred))
		return;
	pr_err_ratelimited("lodge: VM of pid %d stopped: %s\n", task_tgid_nr(current), why);
	lodge_for_each_vcpu(i, v, vm)
		lodge_request(v, REQ_KICK);
}

/**
 * lodge_vcpu_by_id - the vCPU with a KVM_CREATE_VCPU id
 * @vm: the VM
 * @id: the id
 *
 * Return: the vCPU or NULL.
 */
struct lodge_vcpu *lodge_vcpu_by_id(struct lodge_vm *vm, u32 id)
{
	struct lodge_vcpu *v;
	int i;

	lodge_for_each_vcpu(i, v, vm)
		if (v->id == id)
			return v;
	return NULL;
}
