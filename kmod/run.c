// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_RUN: the loop, the window, and what comes of HLT: polling, and sleeping.
 *
 * One turn of the loop: serve what others asked for, prepare, go through the window, handle what could
 * not be handled in it. The window is entered with interrupts off and left with them on; in
 * between the guest runs, and each exit that a fast handler can finish goes straight back in. A
 * host interrupt ends the window, so the host's latency is that of one exit.
 *
 * How others make a vCPU look at its requests is in core/kick.c.
 *
 * vcpu->mutex is held throughout, and nothing else: slow handlers may wait for the program, or for a disk. Who looks
 * into a table that others replace holds vm->srcu just for that (mem/, io/bus.c); in the window
 * interrupts are off, and lodge_vm_sync() ends every window before anything is freed.
 */
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/smp.h>
#include <asm/debugreg.h>
#include <asm/kvm_para.h>
#include <asm/trapnr.h>
#include <asm/tsc.h>

#include "core/trace.h"
#include "cpu/cpu.h"
#include "host/host.h"
#include "irqchip/irqchip.h"
#include "mem/mem.h"
#include "pv/pv.h"
#include "run.h"
#include LODGE_XFER_HEADER

#define SLOW_REQUESTS (~(unsigned long)(BIT(REQ_SLOW) - 1))

/* There is a reason not to sleep. */
static bool runnable(struct lodge_vcpu *v)
{
	u8 threshold;

	if (v->mp_state == KVM_MP_STATE_RUNNABLE || test_bit(REQ_APIC_EVENTS, &v->requests) || lodge_vm_dead(v->vm))
		return true;
	if (v->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return false;
	if (READ_ONCE(v->pv.unhalt) || v->pending_exc.type)
		return true;
	if ((v->nmi_pending || test_bit(REQ_NMI, &v->requests)) && !lodge_ops->nmi_blocked(v))
		return true;
	if (!lodge_irq_allowed(v))
		return false;
	if (!v->lapic)
		return v->ext_vector >= 0;
	return lodge_lapic_pending(v, &threshold) >= 0 || v->ext_vector >= 0 ||
	       (v->vm->pic && lodge_pic_pending(v->vm) && lodge_lapic_accepts_extint(v));
}

/* Something to do, or somebody who wants the thread. */
static bool wanted(struct lodge_vcpu *v)
{
	return runnable(v) || signal_pending(current) || lodge_immediate_exit(v->run) ||
	       test_bit(REQ_KICK, &v->requests) || test_bit(REQ_CLOCK, &v->requests);
}

/* Sleep until then. */
static noinline void block(struct lodge_vcpu *v)
{
	DECLARE_SWAITQUEUE(wait);
	u64 start = 0;

	for (;;) {
		prepare_to_swait_exclusive(&v->wq, &wait, TASK_INTERRUPTIBLE);
		if (wanted(v))
			break;
		start = start ?: ktime_get_ns();
		schedule();
	}
	finish_swait(&v->wq, &wait);
	v->stat.halt_wait_ns += start ? ktime_get_ns() - start : 0;
	v->stat.halt_wakeup += start && runnable(v);
}

struct lodge_halt_poll lodge_halt_poll = { .ns = 200000, .grow = 2, .grow_start = 10000, .shrink = 2 };

/* Look for the wakeup without sleeping, while nobody else wants this CPU; true: it came. */
static bool poll_halt(struct lodge_vcpu *v, u64 start)
{
	u64 took = 0;
	bool came;

	v->stat.halt_attempted_poll++;
	while (!(came = wanted(v)) && took < v->poll_ns && single_task_running() && !need_resched()) {
		cpu_relax();
		took = ktime_get_ns() - start;
	}
	v->stat.halt_successful_poll += came;
	*(came ? &v->stat.halt_poll_success_ns : &v->stat.halt_poll_fail_ns) += took;
	return came;
}

/* A wakeup that came soon after the polling, or within the limit: poll for longer. One beyond it is not worth it. */
static void poll_adapt(struct lodge_vcpu *v, u64 halted, u32 limit)
{
	u32 grow = READ_ONCE(lodge_halt_poll.grow), least = READ_ONCE(lodge_halt_poll.grow_start);
	u32 shrink = READ_ONCE(lodge_halt_poll.shrink), ns = v->poll_ns;

	if (halted <= ns)
		return;
	if (ns && halted > limit) {
		ns = shrink ? ns / shrink : 0;
		v->poll_ns = ns < least ? 0 : ns;
	} else if (ns < limit && halted < limit && grow) {
		v->poll_ns = min_t(u64, max_t(u64, (u64)ns * grow, least), limit);
	}
}

/* HLT: poll, then sleep. Only the latter where the guest polls itself (MSR_KVM_POLL_CONTROL), or waits for INIT or SIPI. */
static noinline void halt_vcpu(struct lodge_vcpu *v)
{
	u64 start = ktime_get_ns(), limit = READ_ONCE(v->vm->set.halt_poll_ns);

	if (limit > U32_MAX)
		limit = READ_ONCE(lodge_halt_poll.ns);
	if (v->mp_state != KVM_MP_STATE_HALTED || !(v->poll_control & 1))
		limit = 0;
	v->poll_ns = min_t(u64, v->poll_ns, limit);
	lodge_lapic_timer_sleep(v);
	if (!v->poll_ns || !poll_halt(v, start))
		block(v);
	if (limit)
		poll_adapt(v, ktime_get_ns() - start, limit);
}

/* Requests that need a sleeping context, most of them rare. */
static noinline int serve_slow(struct lodge_vcpu *v)
{
	lodge_take_request(v, REQ_KICK);
	if (test_bit(REQ_NMI, &v->requests))
		lodge_take_nmis(v);
	if (lodge_take_request(v, REQ_APIC_EVENTS) && v->lapic)
		lodge_take_apic_events(v);
	if (lodge_take_request(v, REQ_CLOCK))
		lodge_pv_clock_update(v);
	if (lodge_take_request(v, REQ_INTERCEPTS))
		lodge_ops->set_intercepts(v);
	if (lodge_take_request(v, REQ_PV_EOI))
		lodge_pv_eoi_settle(v);
	if (lodge_take_request(v, REQ_TRIPLE_FAULT)) {
		v->run->exit_reason = KVM_EXIT_SHUTDOWN;
		return NEXT_USER;
	}
	if (lodge_take_request(v, REQ_STEPPED))
		return lodge_debug_exit(v, X86_TRAP_DB, DR_STEP);
	if (lodge_take_request(v, REQ_IOAPIC_EOI)) {
		v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		v->run->eoi.vector = lodge_lapic_user_eoi(v);
		return NEXT_USER;
	}
	return NEXT_ENTER;
}

/* Everything that must be settled before the window opens; may sleep. */
static int service(struct lodge_vcpu *v)
{
	int next;

	if (unlikely(lodge_vm_dead(v->vm)))
		return -EIO;
	if (unlikely(READ_ONCE(v->requests) & SLOW_REQUESTS)) {
		next = serve_slow(v);
		if (next != NEXT_ENTER)
			return next;
	}
	if (unlikely(v->mp_state != KVM_MP_STATE_RUNNABLE)) {
		if (runnable(v) && v->mp_state == KVM_MP_STATE_HALTED) {
			v->mp_state = KVM_MP_STATE_RUNNABLE;
			WRITE_ONCE(v->pv.unhalt, false);
			lodge_set_request(v, REQ_EVENT);
			return NEXT_ENTER;
		}
		if (signal_pending(current) || lodge_immediate_exit(v->run))
			return -EINTR;
		/*
		 * It cannot take what has come for it: userspace may have an opinion, as with KVM. A halted one can,
		 * also what comes between the two looks: halt_vcpu() finds it.
		 */
		if (v->mp_state != KVM_MP_STATE_HALTED && runnable(v) && !test_bit(REQ_APIC_EVENTS, &v->requests))
			return -EAGAIN;
		halt_vcpu(v);
		return NEXT_AGAIN;
	}
	if (unlikely(v->pv.steal_msr & KVM_MSR_ENABLED) && current->sched_info.run_delay != v->pv.steal_last)
		lodge_pv_steal_update(v);
	if (v->stock.n < LODGE_STOCK_LOW)
		return lodge_npt_stock_fill(v);
	return NEXT_ENTER;
}

/* Where userspace has the 8259s: it could inject an interrupt now. */
static __always_inline bool user_may_inject(struct lodge_vcpu *v)
{
	return v->ext_vector < 0 && v->inject.type == EVENT_NONE && lodge_irq_allowed(v) &&
	       (!v->lapic || lodge_lapic_accepts_extint(v));
}

static void window_close(struct lodge_vcpu *v)
{
	static_call(lodge_window_end)(v);
	lodge_fpu_window_end(v);
	lodge_host_leave(v);
}

/* The way in and out with interrupts off; exits that need not sleep are finished in here. */
static int window(struct lodge_vcpu *v)
{
	int next = NEXT_ENTER, cpu, ret;

	lodge_fpu_enter(v);
	local_irq_disable();
	cpu = smp_processor_id();
	if (v->cpu != cpu) {
		v->moved = true;	/* until a window begins: this one may not */
		if (unlikely(check_tsc_unstable()))
			lodge_set_request(v, REQ_CLOCK);
		WRITE_ONCE(v->cpu, cpu);
	}
	smp_store_mb(v->mode, MODE_WINDOW);	/* pairs with lodge_kick() */
	if (unlikely(READ_ONCE(v->requests) & SLOW_REQUESTS))
		goto out;
	if (unlikely(lodge_immediate_exit(v->run))) {
		next = -EINTR;
		goto out;
	}
	if (unlikely(xfer_to_guest_mode_work_pending())) {
		next = NEXT_WORK;
		goto out;
	}
	lodge_host_note();
	ret = lodge_host_enter(v);
	if (unlikely(ret)) {
		next = ret == -EAGAIN ? NEXT_PREPARE : ret;
		goto out;
	}
	lodge_guest_timing_enter();
	lodge_fpu_window_begin(v);
	static_call(lodge_window_begin)(v);
	v->moved = false;
	do {
		if (READ_ONCE(v->requests) & BIT(REQ_EVENT))
			lodge_evaluate_events(v);
		if (v->dirty)
			static_call(lodge_state_store)(v);
		lodge_tlb_enter(v);
		trace_kvm_entry(v);
		static_call(lodge_run)(v);
		if (unlikely(v->pv.eoi_pending))
			lodge_pv_eoi_sync(v);
		v->stat.exits++;
		trace_kvm_exit(v);
		next = lodge_exit_fast[v->exit.kind](v);
	} while (next == NEXT_ENTER && !(READ_ONCE(v->requests) & SLOW_REQUESTS));
	window_close(v);
	lodge_host_compare();
	WRITE_ONCE(v->mode, MODE_OUTSIDE);
	if (v->exit.kind == EXIT_EXTINT) {
		local_irq_enable();	/* it is taken here, on guest time */
		local_irq_disable();
		lodge_rcu_quiet();
	}
	lodge_guest_timing_exit();
out:
	WRITE_ONCE(v->mode, MODE_OUTSIDE);
	local_irq_enable();
	lodge_fpu_exit(v);
	return next;
}

static int run_loop(struct lodge_vcpu *v)
{
	int next;

	for (;;) {
		next = service(v);
		if (next == NEXT_AGAIN)
			continue;
		if (next == NEXT_ENTER && unlikely(v->run->request_interrupt_window) &&
		    !lodge_immediate_exit(v->run) && v->user_pic && user_may_inject(v)) {
			v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			next = NEXT_USER;
		}
		if (next == NEXT_ENTER)
			next = window(v);
		if (next == NEXT_HANDLE)
			next = lodge_exit_slow[v->exit.kind](v);
		if (next == NEXT_USER)
			return 0;
		if (next == NEXT_WORK && lodge_xfer_work())
			next = -EINTR;
		if (next == NEXT_PREPARE) {
			lodge_share_watch(v);
			if (lodge_ops->prepare)
				lodge_ops->prepare(v);
		}
		if (next == -EINTR) {
			v->run->exit_reason = KVM_EXIT_INTR;
			v->stat.signal_exits++;
		}
		if (next < 0)
			return next;
	}
}

/* What userspace reads beside the exit itself. */
static void publish(struct lodge_vcpu *v)
{
	struct kvm_run *run = v->run;

	lodge_need(v, LG_RFLAGS);
	run->if_flag = !!(v->st.rflags & X86_EFLAGS_IF);
	run->cr8 = v->lapic ? lodge_lapic_get_tpr(v) : v->cr8;
	run->apic_base = v->apic_base;
	run->flags = 0;
	run->ready_for_interrupt_injection = !v->user_pic || user_may_inject(v);
	if (unlikely(run->kvm_valid_regs))
		lodge_sync_regs_out(v);
}

/* Values that userspace may hand in with KVM_RUN. The page is shared: each is read once. */
static int take_in(struct lodge_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 dirty = READ_ONCE(run->kvm_dirty_regs);

	if (unlikely((READ_ONCE(run->kvm_valid_regs) | dirty) & ~(u64)LODGE_SYNC_REGS))
		return -EINVAL;
	if (unlikely(dirty)) {
		int ret = READ_ONCE(v->vm->seals) & LODGE_SEAL_STATE ? -EPERM : lodge_sync_regs_in(v, dirty);

		if (ret)
			return ret;
	}
	if (unlikely(READ_ONCE(run->request_interrupt_window)))
		lodge_set_request(v, REQ_EVENT);
	if (!v->lapic)
		v->cr8 = READ_ONCE(run->cr8) & 15;
	return 0;
}

/**
 * lodge_vcpu_run - KVM_RUN
 * @v: the vCPU, mutex held
 *
 * Return: 0 with v->run filled in; -EINTR on a signal or immediate_exit; -EAGAIN when the vCPU
 * waits for INIT or SIPI and was woken for nothing; -EFAULT for memory that the VMM does not have
 * mapped; -EIO once the VM is dead; -EBUSY where virtualization is off on this CPU.
 */
int lodge_vcpu_run(struct lodge_vcpu *v)
{
	lodge_complete_fn complete = v->complete;
	int ret;

	if (v->sigset_active)
		sigprocmask(SIG_SETMASK, &v->sigset, &current->real_blocked);
	ret = take_in(v);
	if (ret)
		goto out;
	v->ran = true;
	if (unlikely(v->debug.control))
		lodge_debug_begin(v);
	if (likely(v->complete_regs)) {
		v->complete_regs(v);
		v->complete_regs = NULL;
	} else if (complete) {
		v->complete = NULL;
		ret = complete(v);
		if (ret == NEXT_USER || ret < 0) {
			ret = ret == NEXT_USER ? 0 : ret;
			goto published;
		}
	}
	/* What was on its way is completed, nothing else happens: the exit that it had stands. */
	if (unlikely(lodge_immediate_exit(v->run))) {
		ret = -EINTR;
		goto published;
	}
	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	if (unlikely(lodge_host_shared()))
		lodge_share_watch(v);
	WRITE_ONCE(v->task, current);
	ret = run_loop(v);
	WRITE_ONCE(v->task, NULL);
	if (unlikely(v->watched))
		lodge_share_unwatch(v);
published:
	if (unlikely(v->debug.control))
		lodge_debug_end(v);
	publish(v);
out:
	if (v->sigset_active) {
		sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
		sigemptyset(&current->real_blocked);
	}
	return ret;
}

/**
 * lodge_settle_access - an access that userspace has answered, and that registers alone complete, is completed
 * @v: the vCPU, which does not run
 *
 * Return: 0; -EBUSY where more is to be done: KVM_RUN with immediate_exit does that.
 */
int lodge_settle_access(struct lodge_vcpu *v)
{
	if (v->complete)
		return -EBUSY;
	if (!v->complete_regs)
		return 0;
	if (v->debug.control)
		lodge_debug_begin(v);
	v->complete_regs(v);
	v->complete_regs = NULL;
	if (v->debug.control)
		lodge_debug_end(v);
	return 0;
}
