// SPDX-License-Identifier: GPL-2.0
/*
 * What the next entry delivers: the choice among exceptions, NMIs and interrupts.
 *
 * Three stages. Pending: v->pending_exc, v->nmi_pending, a bit in the LAPIC's IRR, the PIC's
 * line, v->ext_vector. Chosen: v->inject, which the vendor puts into the hardware for the next
 * entry. Delivered: the next exit says nothing of it. If that exit says that delivery was
 * interrupted (a second-level fault on the guest's stack, say), the vendor hands the event back to
 * lodge_reinject() and it is chosen again before anything else (SDM 3, 27.2.4; APM 2, 15.7.2).
 *
 * Whatever may change the choice sets REQ_EVENT; lodge_evaluate_events() looks once per request and
 * opens interrupt or NMI windows for what has to wait.
 *
 * What is raised is queued by core/exception.c. vcpu->mutex held, inside the window. No locks.
 */
#include <asm/trapnr.h>
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/kvm_para.h>

#include "core/trace.h"
#include "cpu/cpu.h"
#include "irqchip/irqchip.h"
#include "pv/pv.h"

/* Not a trap, nor an abort: SDM 3, table 6-1. A #DB is a trap, but for the breakpoints that arm themselves. */
static bool is_fault(u8 vector)
{
	return vector != X86_TRAP_DB && vector != X86_TRAP_BP && vector != X86_TRAP_OF && vector != X86_TRAP_DF &&
	       vector != X86_TRAP_MC;
}

/* The side effects of an exception happen when its delivery begins, not when it is queued. */
static void begin_exception(struct lodge_vcpu *v)
{
	v->inject = v->pending_exc;
	v->pending_exc.type = EVENT_NONE;
	if (v->inject.vector == X86_TRAP_PF) {
		lodge_touch(v, LG_CR);
		v->st.cr2 = v->pending_payload;
	} else if (v->inject.vector == X86_TRAP_DB) {
		lodge_touch(v, LG_DR);
		v->st.dr6 |= v->pending_payload;
		v->st.dr7 &= ~(u64)BIT(13);	/* GD */
	}
	v->pending_payload = 0;
	/* The processor would push RF for a fault that it raises itself; for one that is injected it does not. */
	if (v->inject.type == EVENT_EXCEPTION && is_fault(v->inject.vector)) {
		lodge_touch(v, LG_RFLAGS);
		v->st.rflags |= X86_EFLAGS_RF;
	}
}

/*
 * The one place where the hardware is given an event. Real mode pushes no error code, whoever says that there is
 * one: an exception that is raised here, a delivery that was interrupted, or userspace; VT-x refuses it (SDM 3, 27.2.1.3).
 */
static void set_event(struct lodge_vcpu *v)
{
	if (v->inject.has_error) {
		lodge_need(v, LG_CR);
		v->inject.has_error = v->st.cr0 & X86_CR0_PE;
	}
	static_call(lodge_set_event)(v);
}

/* The vector that the interrupt controllers offer now, or -1. */
static int irq_offered(struct lodge_vcpu *v, u8 *threshold)
{
	*threshold = 0;
	if (v->ext_vector >= 0)
		return v->ext_vector;
	if (!v->lapic)
		return -1;
	if (v->vm->pic && lodge_pic_pending(v->vm) && lodge_lapic_accepts_extint(v))
		return 0;	/* the PIC tells which at acknowledge */
	return lodge_lapic_pending(v, threshold);
}

static int irq_ack(struct lodge_vcpu *v, int vector)
{
	if (v->ext_vector >= 0) {
		v->ext_vector = -1;
		return vector;
	}
	if (v->vm->pic && lodge_pic_pending(v->vm) && lodge_lapic_accepts_extint(v)) {
		vector = lodge_pic_ack(v->vm);
		if (vector >= 0)
			return vector;
		vector = lodge_lapic_pending(v, &(u8){ 0 });
		if (vector < 0)
			return -1;
	}
	lodge_lapic_ack(v, vector);
	return vector;
}

static void choose_irq(struct lodge_vcpu *v, int vector)
{
	vector = irq_ack(v, vector);
	if (vector < 0)
		return;
	v->inject = (struct lodge_event) { .type = EVENT_INTR, .vector = vector };
	v->stat.irq_injections++;
	if (unlikely(v->pv.eoi_msr & KVM_MSR_ENABLED) && v->lapic)
		lodge_pv_eoi_offer(v, vector);
	trace_kvm_inj_virq(vector);
}

/**
 * lodge_evaluate_events - choose what the next entry delivers, open windows for the rest
 * @v: the vCPU; window, REQ_EVENT set
 *
 * Priorities as SDM 3, table 6-2: an interrupted delivery first, then exceptions, NMIs, interrupts.
 */
void lodge_evaluate_events(struct lodge_vcpu *v)
{
	bool nmi_window = false, irq_window = false;
	u8 threshold = 0;
	int vector;

	clear_bit(REQ_EVENT, &v->requests);
	smp_mb__after_atomic();		/* what is raised from here on asks for another look */

	if (v->inject.type == EVENT_NONE && v->pending_exc.type)
		begin_exception(v);
	if (v->nmi_pending) {
		lodge_need(v, LG_SHADOW);
		if (v->inject.type == EVENT_NONE && !lodge_ops->nmi_blocked(v) && !v->st.int_shadow) {
			v->nmi_pending--;
			v->inject = (struct lodge_event) { .type = EVENT_NMI, .vector = X86_TRAP_NMI };
			v->stat.nmi_injections++;
		}
		nmi_window = v->nmi_pending;
	}
	vector = irq_offered(v, &threshold);
	if (unlikely(v->debug.control & KVM_GUESTDBG_BLOCKIRQ))
		vector = -1;
	if (vector >= 0) {
		if (v->inject.type == EVENT_NONE && lodge_irq_allowed(v)) {
			choose_irq(v, vector);
			vector = irq_offered(v, &threshold);
		}
		irq_window = vector >= 0;
	}
	if (v->user_pic && v->run->request_interrupt_window)
		irq_window = true;
	if (v->inject.type != EVENT_NONE)
		set_event(v);
	static_call(lodge_set_windows)(v, irq_window, nmi_window);
	if (v->lapic)
		static_call(lodge_set_tpr)(v, irq_window ? 0 : threshold);
}
