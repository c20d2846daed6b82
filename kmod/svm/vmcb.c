// SPDX-License-Identifier: GPL-2.0
/*
 * The control half of the VMCB: what is intercepted, what is injected, which windows are open.
 *
 * Nothing is intercepted that the hardware gets right by itself: most of CR0 and CR3 writes (nested paging
 * keeps them in the save area), INVLPG, task switches, CR8 (V_INTR_MASKING gives the guest its own TPR). CR4
 * writes are: a bit that the guest's CPUID does not promise raises #GP, though the processor knows it.
 *
 * - Interrupt windows: a virtual interrupt of highest priority is requested and its delivery
 *   intercepted (VINTR), which happens exactly when the guest could take an interrupt. The TPR
 *   threshold is an intercept of CR8 writes while TPR holds a vector back.
 * - NMI windows: without virtual NMIs the hardware does not tell when IRET has ended the blocking.
 *   The IRET is intercepted, then stepped over with TF (APM volume 2, 15.20 leaves it to us). What would push that TF
 *   is intercepted meanwhile, and then is not stepped over; of SYSCALL, which leaves it in R11, there is no intercept.
 * - DR0-3 are intercepted until first touched in a window; see lodge_dr_enter() in host/host.h.
 *
 * Called with vcpu->mutex held, set_windows/set_tpr/set_event inside the window. No other lock.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <asm/msr-index.h>
#include <asm/trapnr.h>

#include "svm/svm.h"

#define IOPM_ORDER	2	/* 12 KiB, of ones: every port exits. APM volume 2, 15.10.1 */
#define MSRPM_ORDER	1	/* 8 KiB: APM volume 2, 15.11 */

/* Kinds of guests by the MSRs that they have to themselves. */
enum { SVM_MAP_SPEC = BIT(0), SVM_MAP_PRED = BIT(1), SVM_MAP_NONE = 4, SVM_MAPS };

static void *iopm;
static u32 *msrpm[SVM_MAPS];

/* Bit position of an MSR's read bit in the permission map; its write bit follows. */
static int msrpm_bit(u32 msr)
{
	if (msr < 0x2000)
		return msr * 2;
	if (msr >= 0xc0000000 && msr < 0xc0002000)
		return 0x800 * 8 + (msr - 0xc0000000) * 2;
	if (msr >= 0xc0010000 && msr < 0xc0012000)
		return 0x1000 * 8 + (msr - 0xc0010000) * 2;
	return -1;
}

static void msr_pass(u32 *map, u32 msr, bool read, bool write)
{
	int bit = msrpm_bit(msr);

	map[bit / 32] &= ~((u32)(read | write << 1) << bit % 32);
}

/**
 * svm_maps_create - the permission maps, which all guests share; at load
 *
 * There is one of MSRs for each kind of guest (SVM_MAP_*). Return: 0, or -ENOMEM: svm_maps_destroy() follows.
 */
int svm_maps_create(void)
{
	/* The VMCB or this back end switches these: no guest's access exits. */
	static const u32 pass[] = {
		MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_FS_BASE, MSR_GS_BASE,
		MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP,
		MSR_IA32_SYSENTER_EIP,
	};
	int i, kind;

	iopm = (void *)__get_free_pages(GFP_KERNEL, IOPM_ORDER);
	if (!iopm)
		return -ENOMEM;
	memset(iopm, 0xff, PAGE_SIZE << IOPM_ORDER);
	for (kind = 0; kind < SVM_MAPS; kind++) {
		u32 *map = msrpm[kind] = (void *)__get_free_pages(GFP_KERNEL, MSRPM_ORDER);

		if (!map)
			return -ENOMEM;
		memset(map, 0xff, PAGE_SIZE << MSRPM_ORDER);
		if (kind == SVM_MAP_NONE)
			continue;
		for (i = 0; i < ARRAY_SIZE(pass); i++)
			msr_pass(map, pass[i], true, true);
		msr_pass(map, MSR_IA32_SPEC_CTRL, kind & SVM_MAP_SPEC, kind & SVM_MAP_SPEC);
		msr_pass(map, MSR_IA32_PRED_CMD, false, kind & SVM_MAP_PRED);
	}
	return 0;
}

/** svm_maps_destroy - free them; at unload */
void svm_maps_destroy(void)
{
	int kind;

	free_pages((unsigned long)iopm, IOPM_ORDER);
	for (kind = 0; kind < SVM_MAPS; kind++)
		free_pages((unsigned long)msrpm[kind], MSRPM_ORDER);
}

/**
 * svm_step_exits - exceptions, INT n and PUSHF: all of them while one instruction is stepped over
 * @sv: the vCPU; in or outside the window
 * @on: the step begins; else it is over
 */
void svm_step_exits(struct svm_vcpu *sv, bool on)
{
	struct svm_vmcb *b = sv->vmcb;

	b->exc_icpt = BIT(X86_TRAP_DB) | BIT(X86_TRAP_UD) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC);
	if (sv->v.debug.control & KVM_GUESTDBG_USE_SW_BP)
		b->exc_icpt |= BIT(X86_TRAP_BP);
	b->icpt1 &= ~(u32)(ICPT1_PUSHF | ICPT1_SWINT);
	if (on) {
		b->exc_icpt |= ~(u32)BIT(X86_TRAP_NMI);
		b->icpt1 |= ICPT1_PUSHF | ICPT1_SWINT;
	}
	b->clean &= ~CLEAN_ICPT;
}

/**
 * svm_set_intercepts - recompute what depends on the guest's CPUID, on KVM_SET_GUEST_DEBUG and the MSR filter
 * @v: the vCPU
 */
void svm_set_intercepts(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	struct svm_vmcb *b = sv->vmcb;

	svm_step_exits(sv, sv->nmi_step);
	svm_set_dr_exits(sv, !v->dr_live);
	b->msrpm = __pa(msrpm[rcu_access_pointer(v->vm->msr_filter) ? SVM_MAP_NONE :
			      (v->spec_live ? SVM_MAP_SPEC : 0) | (lodge_guest_has_ibpb(v) ? SVM_MAP_PRED : 0)]);
	b->clean &= ~(CLEAN_ICPT | CLEAN_IOPM);
}

/**
 * svm_page - a page of zeros that the processor will write: a VMCB, or one that VM_HSAVE_PA names
 * @gfp: GFP_KERNEL, or _ACCOUNT
 *
 * Where SEV-SNP is on, one that begins a 2M page may be taken for all of the 2M (an erratum of these parts).
 *
 * Return: the page or NULL.
 */
struct page *svm_page(gfp_t gfp)
{
	struct page *p = alloc_page(gfp | __GFP_ZERO), *other;

	if (!p || !IS_ALIGNED(page_to_pfn(p), PTRS_PER_PMD))
		return p;
	other = svm_page(gfp);		/* while this one is taken: of eight in a row one at most is such a page */
	__free_page(p);
	return other;
}

/* The interrupt itself is all that is wanted. */
static void come_back(struct irq_work *work)
{
}

/**
 * svm_vcpu_init - allocate a VMCB
 * @v: the vCPU, zeroed
 *
 * Return: 0 or -ENOMEM; on failure svm_vcpu_free() cleans up.
 */
int svm_vcpu_init(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	struct page *p = svm_page(GFP_KERNEL_ACCOUNT);

	if (!p)
		return -ENOMEM;
	init_irq_work(&sv->come_back, come_back);
	sv->vmcb = page_address(p);
	sv->vmcb_pa = __pa(sv->vmcb);
	return 0;
}

/**
 * svm_vcpu_free - free what svm_vcpu_init() allocated
 * @v: the vCPU; it never enters again
 */
void svm_vcpu_free(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);

	irq_work_sync(&sv->come_back);
	free_page((unsigned long)sv->vmcb);
}

/**
 * svm_vcpu_reset - control fields to their power-on values; the save area follows from v->st
 * @v: the vCPU
 */
void svm_vcpu_reset(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	struct svm_vmcb *b = sv->vmcb;

	b->icpt1 = ICPT1_INTR | ICPT1_NMI | ICPT1_SMI | ICPT1_INIT | ICPT1_CR0_SEL | ICPT1_RDPMC | ICPT1_CPUID |
		   ICPT1_INVD | ICPT1_HLT | ICPT1_INVLPGA | ICPT1_IOIO | ICPT1_MSR | ICPT1_SHUTDOWN;
	b->icpt2 = ICPT2_VMRUN | ICPT2_VMMCALL | ICPT2_VMLOAD | ICPT2_VMSAVE | ICPT2_STGI |
		   ICPT2_CLGI | ICPT2_SKINIT | ICPT2_WBINVD | ICPT2_MONITOR | ICPT2_MWAIT |
		   ICPT2_XSETBV | ICPT2_RDPRU;
	b->icpt3 = ICPT3_INVLPGB | ICPT3_INVLPGB_ILLEGAL | ICPT3_MCOMMIT | ICPT3_TLBSYNC;
	b->cr_icpt = CR4_WRITE;
	if (svm_caps.pause) {
		b->icpt1 |= ICPT1_PAUSE;
		b->pause_count = 3000;
		b->pause_threshold = svm_caps.pause_thresh ? 128 : 0;
	}
	b->iopm = __pa(iopm);
	b->int_ctl = V_INTR_MASKING;
	b->int_state = 0;
	b->np_ctl = NP_ENABLE;
	b->ncr3 = v->vm->npt.root;
	b->event_inj = 0;
	b->clean = 0;
	sv->nmi_iret = sv->nmi_step = sv->no_step = false;
	sv->vtpr = 0;
	sv->cr0_hidden = 0;
	v->cr0_native = false;
	svm_set_nmi_blocked(v, false);
	svm_set_intercepts(v);
	svm_set_tsc_offset(v);
}

/**
 * svm_set_tsc_offset - v->tsc_offset into the VMCB
 * @v: the vCPU; in or outside the window
 */
void svm_set_tsc_offset(struct lodge_vcpu *v)
{
	struct svm_vmcb *b = to_svm(v)->vmcb;

	b->tsc_offset = v->tsc_offset + lodge_slept.tsc;
	b->clean &= ~CLEAN_ICPT;
}

static void step_over(struct svm_vcpu *sv)
{
	struct lodge_vcpu *v = &sv->v;

	if (sv->nmi_step || (sv->no_step && lodge_rip(v) == sv->no_step_rip))
		return;
	svm_step_exits(sv, true);
	lodge_touch(v, LG_RFLAGS);
	sv->step_tf = v->st.rflags & X86_EFLAGS_TF;
	v->st.rflags |= X86_EFLAGS_TF;
	sv->nmi_step = true;
}

static void set_virq(struct svm_vmcb *b, u64 bits)
{
	const u64 mask = V_IRQ | V_PRIO | V_IGN_TPR;

	if ((b->int_ctl & mask) == bits)
		return;
	b->int_ctl = (b->int_ctl & ~mask) | bits;
	if (bits)
		b->icpt1 |= ICPT1_VINTR;
	else
		b->icpt1 &= ~ICPT1_VINTR;
	b->clean &= ~(CLEAN_TPR | CLEAN_ICPT);
}

/*
 * Writes of CR8 exit while a vector is held back by TPR; during an interrupt window too, without which QEMU (7.2)
 * has aborted; and always without an in-kernel LAPIC: userspace has to know.
 */
static void set_cr8(struct svm_vmcb *b, bool on)
{
	if (!(b->cr_icpt & CR8_WRITE) == !on)
		return;
	b->cr_icpt ^= CR8_WRITE;
	b->clean &= ~CLEAN_ICPT;
}

/**
 * svm_set_windows - ask for an exit as soon as an interrupt or an NMI could be taken
 * @v: the vCPU; window
 * @irq: EXIT_IRQ_WINDOW wanted
 * @nmi: EXIT_NMI_WINDOW wanted
 */
void svm_set_windows(struct lodge_vcpu *v, bool irq, bool nmi)
{
	bool may_nmi = nmi && (to_svm(v)->nmi_iret || !v->nmi_masked), step = may_nmi;
	struct svm_vcpu *sv = to_svm(v);

	/*
	 * Behind what is delivered now there is no shadow, and no step: what is delivered would push its TF. So an
	 * NMI comes again at once.
	 */
	if (unlikely((irq || nmi) && v->inject.type != EVENT_NONE)) {
		lodge_touch(v, LG_SHADOW);
		v->st.int_shadow = 0;
		step = false;
		if (may_nmi) {
			irq_work_queue(&sv->come_back);
			lodge_set_request(v, REQ_EVENT);
		}
	}
	/*
	 * Blocked by an earlier NMI: its IRET is intercepted already. Blocked by a shadow: an interrupt's V_IRQ waits
	 * for its end, an NMI steps; under another hypervisor interrupts do so too, for QEMU (7.2) forgets the shadow
	 * at VMRUN, and an interrupt that comes between STI and HLT would not end the HLT.
	 */
	if (unlikely(irq) && boot_cpu_has(X86_FEATURE_HYPERVISOR)) {
		lodge_need(v, LG_SHADOW);
		step |= v->st.int_shadow;
	}
	if (unlikely(step))
		step_over(sv);
	set_virq(sv->vmcb, irq && !sv->nmi_step ? V_IRQ | V_PRIO | V_IGN_TPR : 0);
	set_cr8(sv->vmcb, irq || !v->lapic);
}

/**
 * svm_set_tpr - ask for an exit when TPR falls below the class of a held-back vector
 * @v: the vCPU; window, after svm_set_windows()
 * @threshold: the vector's class (vector >> 4); 0: none held back
 */
void svm_set_tpr(struct lodge_vcpu *v, u8 threshold)
{
	if (threshold)
		set_cr8(to_svm(v)->vmcb, true);
}

/**
 * svm_set_event - v->inject into EVENTINJ, APM volume 2, 15.20
 * @v: the vCPU; window. Software interrupts never come here: lodge_reinject() drops them, for on
 *     this vendor RIP still points to the INT, which runs again.
 */
void svm_set_event(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	const struct lodge_event *e = &v->inject;
	u64 inj = EVT_VALID | e->vector;

	switch (e->type) {
	case EVENT_NMI:
		inj |= EVT_NMI << 8;
		svm_set_nmi_blocked(v, true);
		break;
	case EVENT_SOFT_EXC:	/* RIP is pushed as it is: it has to be behind the instruction */
		lodge_touch(v, LG_RIP);
		v->st.rip += e->len;
		fallthrough;
	case EVENT_EXCEPTION:
		inj |= EVT_EXCEPTION << 8;
		if (e->has_error)
			inj |= EVT_HAS_ERROR | (u64)e->error << 32;
		break;
	default:
		break;
	}
	sv->vmcb->event_inj = inj;
}

/**
 * svm_nmi_blocked - an NMI would have to wait
 * @v: the vCPU
 */
bool svm_nmi_blocked(struct lodge_vcpu *v)
{
	return v->nmi_masked || to_svm(v)->nmi_step;
}

/**
 * svm_set_nmi_blocked - begin or end NMI blocking
 * @v: the vCPU; in or outside the window
 * @blocked: until the next IRET
 */
void svm_set_nmi_blocked(struct lodge_vcpu *v, bool blocked)
{
	struct svm_vcpu *sv = to_svm(v);

	v->nmi_masked = blocked;
	sv->nmi_iret = false;
	if (blocked)
		sv->vmcb->icpt1 |= ICPT1_IRET;
	else
		sv->vmcb->icpt1 &= ~ICPT1_IRET;
	sv->vmcb->clean &= ~CLEAN_ICPT;
}

enum { KEPT_MASKED = 1, KEPT_IRET = 2, KEPT_STEP = 4, KEPT_TF = 8, KEPT_NO_STEP = 16 };

/** svm_keep - how far an NMI's IRET and the step over it have come, and SPEC_CTRL where the VMCB has it */
void svm_keep(struct lodge_vcpu *v, struct lodge_vendor_kept *k)
{
	const struct svm_vcpu *sv = to_svm(v);

	k->words[0] = sv->nmi_iret_rip;
	k->words[1] = sv->no_step_rip;
	k->words[2] = sv->vmcb->spec_ctrl;
	k->flags = (v->nmi_masked ? KEPT_MASKED : 0) | (sv->nmi_iret ? KEPT_IRET : 0) | (sv->nmi_step ? KEPT_STEP : 0) |
		   (sv->step_tf ? KEPT_TF : 0) | (sv->no_step ? KEPT_NO_STEP : 0);
}

/** svm_bring_back - the vCPU is again where svm_keep() found it; its intercepts follow */
void svm_bring_back(struct lodge_vcpu *v, const struct lodge_vendor_kept *k)
{
	struct svm_vcpu *sv = to_svm(v);
	bool step = k->flags & KEPT_STEP;

	sv->vmcb->spec_ctrl = k->words[2];
	svm_set_nmi_blocked(v, (k->flags & (KEPT_MASKED | KEPT_IRET)) == KEPT_MASKED);
	v->nmi_masked = k->flags & KEPT_MASKED;
	sv->nmi_iret = k->flags & KEPT_IRET;
	sv->nmi_iret_rip = k->words[0];
	sv->no_step_rip = k->words[1];
	sv->no_step = k->flags & KEPT_NO_STEP;
	sv->step_tf = k->flags & KEPT_TF;
	if (sv->nmi_step != step)
		svm_step_exits(sv, step);
	sv->nmi_step = step;
}

/**
 * svm_set_dr_exits - whether the guest's accesses to DR0-3 exit, and writes of DR7, which could arm them
 * @sv: the vCPU
 * @on: DR0-3 hold the host's values
 */
void svm_set_dr_exits(struct svm_vcpu *sv, bool on)
{
	sv->vmcb->dr_icpt = on ? 0x008f000f : 0;
	if (unlikely(sv->v.debug.control & KVM_GUESTDBG_USE_HW_BP))	/* all: they are userspace's */
		sv->vmcb->dr_icpt = ~0u;
	sv->vmcb->clean &= ~CLEAN_ICPT;
}

/**
 * svm_msr - MSRs that only the VMCB knows: SPEC_CTRL, where the processor switches it
 * @v: the vCPU; in or outside the window
 * @index: which
 * @val: in, checked; or out
 * @write: direction
 *
 * Return: 0, or 1 where the core has to answer.
 */
int svm_msr(struct lodge_vcpu *v, u32 index, u64 *val, bool write)
{
	struct svm_vmcb *b = to_svm(v)->vmcb;

	if (index != MSR_IA32_SPEC_CTRL || !svm_caps.v_spec_ctrl)
		return 1;
	if (write)
		b->spec_ctrl = *val;
	else
		*val = b->spec_ctrl;
	return 0;
}
