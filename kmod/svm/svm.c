// SPDX-License-Identifier: GPL-2.0
/*
 * The AMD-V back end: what the processor can do, switching SVM on and off on a CPU, the window's
 * beginning and end, and the entry itself.
 *
 * ASIDs tag the guest's translations in the TLB. Each CPU hands them out one by one; a vCPU that
 * moves to another CPU, or whose translations must go (second-level tables shrank, userspace changed
 * its paging state), takes a fresh one, and when they run out the whole TLB is flushed and counting
 * starts over with a new generation. A CPU that SVM was just switched on counts as run out: what
 * is in its TLB may be anybody's (APM volume 2, 15.16).
 *
 * The host's FS, GS, TR, LDTR and system-call MSRs are saved once per window by VMSAVE and loaded
 * after every exit; they do not change while interrupts are off.
 *
 * DEBUGCTL is not switched by the hardware (it is with LBR virtualization, which is not used), so what the host has
 * set there would act on the guest: traps for bus locks, steps by branches.
 *
 * Per-CPU data is touched on its CPU with interrupts off. No locks.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/thread_info.h>
#include <asm/cpufeature.h>
#include <asm/mce.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/trapnr.h>

#include "host/host.h"
#include "host/switch.h"
#include "irqchip/irqchip.h"
#include "svm/ops.h"
#include "svm/svm.h"

#define MSR_BP_CFG		0xc001102e	/* Zen: PPR, BP_CFG */
#define BP_CFG_SPEC_REDUCE	BIT_ULL(4)

struct svm_caps svm_caps __ro_after_init;
DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

static struct lodge_pte_ops svm_pte_ops __ro_after_init = {
	/* APM volume 2, 15.25.5: the format of long-mode page tables; U must be set. */
	.present	= BIT_ULL(0),
	.table		= BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2) | BIT_ULL(5),
	.leaf		= BIT_ULL(0) | BIT_ULL(2),
	.leaf_uc	= BIT_ULL(0) | BIT_ULL(2) | BIT_ULL(3) | BIT_ULL(4),	/* PCD, PWT */
	.write		= BIT_ULL(1),
	.large		= BIT_ULL(7),
	.accessed	= BIT_ULL(5),
	.dirty		= BIT_ULL(6),
	.addr		= GENMASK_ULL(51, 12),
	.top_leaf	= 2,
};

static void read_caps(void)
{
	struct lodge_cpuid_regs c = lodge_host_cpuid(0x8000000a, 0);

	svm_caps.nasids = c.ebx;
	svm_caps.min_asid = 1;
	svm_caps.nrips = c.edx & BIT(3);
	svm_caps.clean = c.edx & BIT(5);
	svm_caps.flush_asid = c.edx & BIT(6);
	svm_caps.decode = c.edx & BIT(7);
	svm_caps.pause = c.edx & BIT(10);
	svm_caps.pause_thresh = c.edx & BIT(12);
	svm_caps.v_spec_ctrl = c.edx & BIT(20);
	/* ASIDs below this one select memory-encryption keys where SEV is on. */
	if (lodge_host_cpuid(0x80000000, 0).eax >= 0x8000001f)
		svm_caps.min_asid = lodge_host_cpuid(0x8000001f, 0).ecx + 1;
}

static int svm_probe(void)
{
	u64 vm_cr;
	int cpu;

	if (!boot_cpu_has(X86_FEATURE_SVM) || lodge_host_cpuid(0x80000000, 0).eax < 0x8000000a)
		return -ENODEV;
	vm_cr = lodge_rdmsr(SVM_MSR_VM_CR);
	if (vm_cr & SVM_VM_CR_SVMDIS) {
		pr_err("lodge: AMD-V is disabled by the firmware%s\n",
		       vm_cr & SVM_VM_CR_LOCK ? " and locked" : "");
		return -EOPNOTSUPP;
	}
	if (!(lodge_host_cpuid(0x8000000a, 0).edx & BIT(0))) {
		pr_err("lodge: this processor has AMD-V but no nested paging (NPT)\n");
		return -EOPNOTSUPP;
	}
	read_caps();
	if (boot_cpu_has(X86_FEATURE_GBPAGES))
		svm_pte_ops.top_leaf = 3;
	if (svm_caps.nasids < svm_caps.min_asid + 2) {
		pr_err("lodge: only %u address space ids, %u of them reserved\n", svm_caps.nasids, svm_caps.min_asid);
		return -EOPNOTSUPP;
	}
	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		sc->hsave = svm_page(GFP_KERNEL);
		sc->host = svm_page(GFP_KERNEL);
		if (!sc->hsave || !sc->host)
			return -ENOMEM;		/* the caller runs svm_remove() */
	}
	return svm_share_create() ?: svm_maps_create();
}

static void svm_remove(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		if (sc->hsave)
			__free_page(sc->hsave);
		if (sc->host)
			__free_page(sc->host);
		sc->hsave = sc->host = NULL;
	}
	svm_share_destroy();
	svm_maps_destroy();
}

static bool svm_cpu_busy(void)
{
	return lodge_rdmsr(MSR_EFER) & EFER_SVME;
}

/**
 * svm_reduce_speculation - BP_CFG[4], while VMs live, where the kernel chose that against SRSO (SRSO_BP_SPEC_REDUCE)
 * @on: set or clear; IRQs off
 *
 * Return: it was not so.
 */
bool svm_reduce_speculation(bool on)
{
	u64 val;

	if (!lodge_kernel_has(LODGE_FEATURE_BP_SPEC_REDUCE) || !lodge_rdmsr_safe(MSR_BP_CFG, &val) ||
	    !(val & BP_CFG_SPEC_REDUCE) == !on)
		return false;
	return lodge_wrmsr_safe(MSR_BP_CFG, val ^ BP_CFG_SPEC_REDUCE);
}

/*
 * Erratum 383 of family 10h: without this bit a guest whose translations change size can raise a machine check
 * for a TLB entry that is there twice (revision guide 41322).
 */
static void check_tlb_matches(void)
{
	u64 val;

	if (boot_cpu_has_bug(X86_BUG_AMD_TLB_MMATCH) && lodge_rdmsr_safe(MSR_AMD64_DC_CFG, &val))
		lodge_wrmsr_safe(MSR_AMD64_DC_CFG, val | BIT_ULL(47));
}

/**
 * svm_tlb_mmatch - is a machine check that erratum's, and so the guest's own doing?
 *
 * Then it is cleared, and the host need not die of it: the vCPU's VM does.
 *
 * Context: window, after an exit for #MC.
 */
bool svm_tlb_mmatch(void)
{
	u64 status, cr4 = __read_cr4();
	int i;

	if (!boot_cpu_has_bug(X86_BUG_AMD_TLB_MMATCH) || !lodge_rdmsr_safe(MSR_IA32_MC0_STATUS, &status) ||
	    (status & ~MCI_STATUS_OVER) != 0xb600000000010015ull)
		return false;
	for (i = 0; i < 6; i++)
		lodge_wrmsr_safe(MSR_IA32_MCx_STATUS(i), 0);
	if (lodge_rdmsr_safe(MSR_IA32_MCG_STATUS, &status))
		lodge_wrmsr_safe(MSR_IA32_MCG_STATUS, status & ~(u64)MCG_STATUS_MCIP);
	/* Both entries go: the host's by CR4.PGE, all guests' with the next entry. */
	asm volatile("mov %0, %%cr4\n\tmov %1, %%cr4" : : "r" (cr4 ^ X86_CR4_PGE), "r" (cr4) : "memory");
	this_cpu_ptr(&svm_cpu)->asid_next = svm_caps.nasids;
	return true;
}

static int svm_cpu_enable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);

	check_tlb_matches();
	svm_reduce_speculation(true);
	lodge_wrmsr(MSR_EFER, lodge_rdmsr(MSR_EFER) | EFER_SVME);
	lodge_wrmsr(SVM_MSR_HSAVE_PA, page_to_phys(sc->hsave));
	sc->asid_gen++;
	sc->asid_next = svm_caps.nasids;	/* run out: the first entry flushes everything */
	lodge_switch_take();
	return 0;
}

static void svm_cpu_disable(void)
{
	lodge_wrmsr(SVM_MSR_HSAVE_PA, 0);
	lodge_wrmsr(MSR_EFER, lodge_rdmsr(MSR_EFER) & ~(u64)EFER_SVME);
	svm_reduce_speculation(false);
}

/* A crash may come between CLGI and STGI, and without SVM there is no STGI: NMIs would stay off (APM 2, 15.17). */
static void svm_emergency(void)
{
	u64 efer = lodge_rdmsr(MSR_EFER);

	if (!(efer & EFER_SVME))
		return;
	asm volatile("1: stgi\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "memory");
	lodge_wrmsr(MSR_EFER, efer & ~(u64)EFER_SVME);
}

/* A fresh ASID; when there is none left, the whole TLB goes. Beside KVM there is but one: share.c. */
static noinline void new_asid(struct svm_vcpu *sv, struct svm_cpu *sc)
{
	struct svm_vmcb *b = sv->vmcb;

	if (lodge_cpu_shared()) {
		svm_flush_shared(b);
		b->clean &= ~CLEAN_ASID;
		sv->asid_gen = sc->asid_gen;
		return;
	}
	if (sc->asid_next >= svm_caps.nasids) {
		sc->asid_gen++;
		sc->asid_next = svm_caps.min_asid;
		b->tlb_ctl = SVM_TLB_FLUSH_ALL;
	}
	sv->asid_gen = sc->asid_gen;
	b->asid = sc->asid_next++;
	b->clean &= ~CLEAN_ASID;
}

static noinline void flush_guest(struct svm_vcpu *sv, struct svm_cpu *sc)
{
	sv->v.stat.tlb_flush++;
	if (svm_caps.flush_asid && sv->asid_gen == sc->asid_gen)
		sv->vmcb->tlb_ctl = SVM_TLB_FLUSH_ASID;
	else
		new_asid(sv, sc);
}

static void svm_window_begin(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_vmcb *b = sv->vmcb;
	u64 gen = READ_ONCE(v->vm->npt.gen);

	if (v->moved) {
		sv->host_pa = page_to_phys(sc->host);
		b->clean = 0;
		sv->asid_gen = 0;
	}
	asm volatile("vmsave %%rax" : : "a" (sv->host_pa) : "memory");
	if (sv->asid_gen != sc->asid_gen) {
		new_asid(sv, sc);
		lodge_tlb_flushed(v);
		v->npt_gen = gen;
		lodge_take_request(v, REQ_TLB);
	} else if (v->npt_gen != gen) {
		flush_guest(sv, sc);
		lodge_tlb_flushed(v);
		v->npt_gen = gen;
		lodge_take_request(v, REQ_TLB);
	}
	if (!svm_caps.clean)
		b->clean = 0;
	if (unlikely(lodge_dr_enter(v, v->dirty & LG_DR ? v->st.dr7 : b->dr7)))
		svm_set_dr_exits(sv, false);
	lodge_switch_put(v, SW_TSC_AUX, v->tsc_aux);
	lodge_switch_put(v, SW_XSS, 0);	/* XSAVES cannot be intercepted: the guest's XSS is 0 */
	if (unlikely(lodge_kernel_has(X86_FEATURE_BUS_LOCK_DETECT) || test_thread_flag(TIF_BLOCKSTEP))) {
		sc->debugctl = lodge_rdmsr(MSR_IA32_DEBUGCTLMSR);
		if (sc->debugctl)
			lodge_wrmsr(MSR_IA32_DEBUGCTLMSR, 0);
	}
	if (!svm_caps.v_spec_ctrl)
		lodge_spec_begin(v);
}

static void svm_window_end(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);

	lodge_switch_out();
	if (unlikely(this_cpu_read(svm_cpu.debugctl))) {
		lodge_wrmsr(MSR_IA32_DEBUGCTLMSR, this_cpu_read(svm_cpu.debugctl));
		this_cpu_write(svm_cpu.debugctl, 0);
	}
	if (unlikely(v->dr_live))
		svm_set_dr_exits(sv, true);
	lodge_dr_leave(v, sv->vmcb->dr6);
}

/* V_TPR is the guest's CR8; the LAPIC's TPR is the truth between entries. */
static void tpr_in(struct svm_vcpu *sv)
{
	u8 tpr = sv->v.lapic ? lodge_lapic_get_tpr(&sv->v) : sv->v.cr8;

	if (tpr != sv->vtpr) {
		sv->vmcb->int_ctl = (sv->vmcb->int_ctl & ~V_TPR) | tpr;
		sv->vmcb->clean &= ~CLEAN_TPR;
		sv->vtpr = tpr;
	}
}

static void tpr_out(struct svm_vcpu *sv)
{
	u8 tpr = sv->vmcb->int_ctl & V_TPR;

	if (tpr == sv->vtpr)
		return;
	sv->vtpr = tpr;
	if (sv->v.lapic)
		lodge_lapic_set_tpr(&sv->v, tpr);
	else
		sv->v.cr8 = tpr;
}

/*
 * VMRUN refused the state (APM volume 2, 15.5.1). What is in the VMCB after that is not promised, and with
 * QEMU (7.2) is not the guest's. So nothing is read back, and V_INTR_MASKING above all is written again.
 * What userspace gave is in v->st (lodge_set_sregs() brings all of it there) and is written again.
 */
static noinline void failed_entry(struct svm_vcpu *sv)
{
	struct lodge_vcpu *v = &sv->v;
	struct svm_vmcb *b = sv->vmcb;

	v->exit.kind = EXIT_FAIL_ENTRY;
	v->exit.reason = b->exit_code;
	v->dirty = v->avail;
	svm_state_store(v);
	b->int_ctl = V_INTR_MASKING | sv->vtpr;
	b->icpt1 &= ~ICPT1_VINTR;
	b->event_inj = 0;		/* v->inject has it still */
	b->clean = 0;
	/* Nor has the TLB been flushed, perhaps. */
	this_cpu_ptr(&svm_cpu)->asid_next = svm_caps.nasids;
	sv->asid_gen = 0;
	lodge_set_request(v, REQ_EVENT);
}

static void svm_run(struct lodge_vcpu *v)
{
	struct svm_vcpu *sv = to_svm(v);
	struct svm_vmcb *b = sv->vmcb;
	u64 rip = b->rip, shadow = b->int_state & INT_SHADOW;

	tpr_in(sv);
	b->rax = v->regs[R_AX];
	if (unlikely(lodge_take_request(v, REQ_TLB)))
		flush_guest(sv, this_cpu_ptr(&svm_cpu));
	lodge_share_ran(b->tlb_ctl != SVM_TLB_KEEP);
	lodge_context_enter();
	svm_enter(v->regs, sv->vmcb_pa, sv->host_pa, lodge_spec(v));
	lodge_context_exit();
	if (unlikely((u32)b->exit_code == X_INVALID)) {
		failed_entry(sv);
		return;
	}
	/*
	 * Nothing was executed, so a shadow still holds, whatever was intercepted; QEMU (7.2) forgets it. A step and
	 * an open window are behind it.
	 */
	if (unlikely(shadow) && b->rip == rip && b->exit_code != X_EXC0 + X86_TRAP_DB && b->exit_code != X_VINTR)
		b->int_state |= INT_SHADOW;
	v->regs[R_AX] = b->rax;
	v->regs[R_SP] = b->rsp;
	v->st.rip = b->rip;
	v->st.rflags = b->rflags;
	v->st.int_shadow = svm_shadow(b);	/* nearly every exit asks for it */
	v->avail = LG_RIP | LG_RSP | LG_RFLAGS | LG_SHADOW;
	b->tlb_ctl = SVM_TLB_KEEP;
	b->event_inj = 0;
	b->clean = CLEAN_ALL;
	tpr_out(sv);
	svm_decode(sv);
}

/* Nested tables have the depth of the host's own paging (APM volume 2, 15.25.3). */
static int svm_npt_levels(void)
{
	return __read_cr4() & X86_CR4_LA57 ? 5 : 4;
}

const struct lodge_ops lodge_svm_ops = {
	.name = "svm",
	.extension = "SVM",
	.rival = "kvm_amd",
	.nested_format = KVM_STATE_NESTED_FORMAT_SVM,
	.switched = BIT(SW_TSC_AUX) | BIT(SW_XSS),
	.vcpu_size = sizeof(struct svm_vcpu),
	.probe = svm_probe,
	.remove = svm_remove,
	.cpu_busy = svm_cpu_busy,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.cpu_emergency = svm_emergency,
	.ride = svm_ride,
	.unride = svm_unride,
	.clean = svm_clean,
	.vcpu_init = svm_vcpu_init,
	.vcpu_free = svm_vcpu_free,
	.vcpu_reset = svm_vcpu_reset,
	.window_begin = svm_window_begin,
	.window_end = svm_window_end,
	.run = svm_run,
	.set_event = svm_set_event,
	.set_windows = svm_set_windows,
	.set_tpr = svm_set_tpr,
	.state_load = svm_state_load,
	.state_store = svm_state_store,
	.quirks = LODGE_QUIRKS | KVM_X86_QUIRK_CD_NW_CLEARED,
	.set_intercepts = svm_set_intercepts,
	.set_tsc_offset = svm_set_tsc_offset,
	.msr = svm_msr,
	.nmi_blocked = svm_nmi_blocked,
	.set_nmi_blocked = svm_set_nmi_blocked,
	.keep = svm_keep,
	.bring_back = svm_bring_back,
	.pte_ops = &svm_pte_ops,
	.lost_at_shutdown = true,
	.npt_levels = svm_npt_levels,
};
