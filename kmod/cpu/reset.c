// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's power-on state, and INIT and SIPI, which bring it there and start it.
 *
 * The LAPIC only reports that they came (lodge_lapic_events()); what they do to the registers happens here,
 * in the vCPU's thread and outside the window.
 *
 * vcpu->mutex held, or the vCPU is not visible yet. No other lock.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>

#include "cpu/cpu.h"
#include "irqchip/irqchip.h"

/* SDM 3, table 10-1; APM 2, 14.1.3. INIT keeps the FPU, the LAPIC's id, and most MSRs; neither EFER nor DR0-3. */
static void reset_state(struct lodge_vcpu *v, bool init)
{
	struct lodge_state *st = &v->st;
	u64 cr0 = init ? v->st.cr0 & (X86_CR0_CD | X86_CR0_NW) : X86_CR0_CD | X86_CR0_NW;
	bool intel = boot_cpu_has(X86_FEATURE_VMX);	/* which wants them accessed, and the TSS one of 32 bits */
	struct lodge_state keep = *st;
	int i;

	memset(st, 0, sizeof(*st));
	memset(v->regs, 0, sizeof(v->regs));
	v->regs[R_DX] = lodge_cpuid_signature(v);
	st->rip = 0xfff0;
	st->rflags = X86_EFLAGS_FIXED;
	st->cr0 = X86_CR0_ET | cr0;
	for (i = SEG_ES; i <= SEG_GS; i++)
		st->seg[i] = (struct kvm_segment) {
			.limit = 0xffff, .type = 2 | intel, .present = 1, .s = 1,
		};
	st->seg[SEG_CS].selector = 0xf000;
	st->seg[SEG_CS].base = 0xffff0000;
	st->seg[SEG_CS].type = 10 | intel;
	st->seg[SEG_LDTR] = (struct kvm_segment) { .limit = 0xffff, .type = 2, .present = 1 };
	st->seg[SEG_TR] = st->seg[SEG_LDTR];
	st->seg[SEG_TR].type = intel ? 11 : 3;
	st->gdt.limit = 0xffff;
	st->idt.limit = 0xffff;
	st->dr6 = DR6_RESERVED;
	st->dr7 = 0x400;
	st->pat = 0x0007040600070406ull;
	if (init) {
		st->star = keep.star;
		st->lstar = keep.lstar;
		st->cstar = keep.cstar;
		st->sfmask = keep.sfmask;
		st->kernel_gs_base = keep.kernel_gs_base;
		st->sysenter_cs = keep.sysenter_cs;
		st->sysenter_esp = keep.sysenter_esp;
		st->sysenter_eip = keep.sysenter_eip;
		st->pat = keep.pat;
	}
}

/**
 * lodge_vcpu_reset - power-on or INIT
 * @v: the vCPU, mutex held or not yet visible
 * @init: an INIT: what it keeps is kept
 */
void lodge_vcpu_reset(struct lodge_vcpu *v, bool init)
{
	if (init)
		lodge_need(v, LG_ALL);
	reset_state(v, init);
	v->avail = v->dirty = LG_ALL;
	v->inject.type = EVENT_NONE;
	v->pending_exc.type = EVENT_NONE;
	v->ext_vector = -1;
	v->nmi_pending = 0;
	atomic_set(&v->nmi_queued, 0);
	v->cr8 = 0;
	/* Whoever starts it anew does not know of the old guest's pages. */
	v->pv.clock_msr = v->pv.steal_msr = v->pv.eoi_msr = 0;
	v->pv.eoi_pending = false;
	if (!init) {
		lodge_fpu_reset(v);
		v->misc_enable = MSR_IA32_MISC_ENABLE_BTS_UNAVAIL | MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL;
	}
	lodge_lapic_reset(v, init);
	lodge_ops->vcpu_reset(v);
	lodge_set_request(v, REQ_TLB);
	lodge_set_request(v, REQ_EVENT);
}

/* SDM 3, 9.4.4.2: the vector is the page that the vCPU starts in. */
static void start_at(struct lodge_vcpu *v, u8 page)
{
	struct kvm_segment *cs = &v->st.seg[SEG_CS];

	lodge_touch(v, LG_SEG | LG_RIP);
	cs->selector = page << 8;
	cs->base = page << 12;
	v->st.rip = 0;
	v->mp_state = KVM_MP_STATE_RUNNABLE;
}

/**
 * lodge_take_apic_events - act on INIT and SIPI
 * @v: the vCPU, in its thread and outside the window
 *
 * INIT drops a SIPI that came before it, and a SIPI means something only after INIT. Both are
 * taken in one operation: what comes after it sets REQ_APIC_EVENTS again and has its own turn.
 */
void lodge_take_apic_events(struct lodge_vcpu *v)
{
	u8 page;
	unsigned long events = lodge_lapic_events(v, &page);

	if (events & LAPIC_INIT) {
		lodge_vcpu_reset(v, true);
		v->mp_state = v->id == v->vm->set.boot_id ? KVM_MP_STATE_RUNNABLE :
			      KVM_MP_STATE_INIT_RECEIVED;
	}
	if (events & LAPIC_SIPI && v->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		start_at(v, page);
}
