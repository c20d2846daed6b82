// SPDX-License-Identifier: GPL-2.0
/*
 * SVM beside a live KVM: EFER.SVME and VM_HSAVE_PA in a window, and the TLB behind it.
 *
 * KVM believes in what it has written to VM_HSAVE_PA, EFER.SVME and TSC_RATIO: they are as they were found when a window
 * ends. It may be half-way through switching SVM on or off, with one of them set: so each is looked at by itself.
 *
 * ASIDs: KVM hands out the same numbers, and neither flushes what the other has left under one. All of our guests
 * run under one number here, the last there is. A window after which KVM may have run on the CPU begins with a
 * flush of it (svm.c: a vCPU that was "away" has no ASID), and before KVM can run there again it is flushed by a VMRUN
 * that does nothing else: its guest has no memory, and its first fetch is an exit (APM volume 2, 15.25.6), so nothing of it
 * is in the TLB either. Where SVME is clear by then there is nothing to do: whoever sets it begins with a flush of all
 * ASIDs.
 *
 * Per-CPU data: its own CPU, IRQs off. No locks.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>

#include "host/host.h"
#include "svm/svm.h"

#define TSC_RATIO_ONE		BIT_ULL(32)

static struct page *no_memory;		/* the second-level root of the guest that only flushes */

/** svm_share_create - what one CPU needs to flush; at load. 0 or -ENOMEM: svm_share_destroy() does the rest */
int svm_share_create(void)
{
	struct svm_vmcb *b;
	int cpu;

	no_memory = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!no_memory)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		struct page *p = svm_page(GFP_KERNEL);

		per_cpu(svm_cpu, cpu).flusher = p;
		if (!p)
			return -ENOMEM;
		b = page_address(p);
		b->icpt1 = ICPT1_INTR | ICPT1_NMI | ICPT1_SMI | ICPT1_INIT | ICPT1_SHUTDOWN;
		b->icpt2 = ICPT2_VMRUN;
		b->exc_icpt = ~0u;
		svm_flush_shared(b);
		b->int_ctl = V_INTR_MASKING;
		b->np_ctl = NP_ENABLE;
		b->ncr3 = page_to_phys(no_memory);
		b->cs = (struct svm_seg) { .attrib = 0x9b, .limit = 0xffff };
		b->es = b->ss = b->ds = b->fs = b->gs = (struct svm_seg) { .attrib = 0x93, .limit = 0xffff };
		b->tr = (struct svm_seg) { .attrib = 0x8b, .limit = 0xffff };
		b->ldtr = (struct svm_seg) { .attrib = 0x82, .limit = 0xffff };
		b->gdtr.limit = b->idtr.limit = 0xffff;
		b->efer = EFER_SVME;
		b->cr0 = X86_CR0_ET;
		b->rflags = X86_EFLAGS_FIXED;
		b->dr7 = 0x400;
		b->pat = 0x0007040600070406ull;
	}
	return 0;
}

/** svm_share_destroy - undo svm_share_create(), as far as it went */
void svm_share_destroy(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		if (per_cpu(svm_cpu, cpu).flusher)
			__free_page(per_cpu(svm_cpu, cpu).flusher);
		per_cpu(svm_cpu, cpu).flusher = NULL;
	}
	if (no_memory)
		__free_page(no_memory);
	no_memory = NULL;
}

/**
 * svm_ride - a window begins: SVM on, with a host save area of ours
 * @v: the vCPU; IRQs off
 */
void svm_ride(struct lodge_vcpu *v)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);

	sc->theirs.efer = lodge_rdmsr(MSR_EFER);
	sc->theirs.hsave = lodge_rdmsr(SVM_MSR_HSAVE_PA);
	sc->theirs.ratio = TSC_RATIO_ONE;
	if (!(sc->theirs.efer & EFER_SVME))
		lodge_wrmsr(MSR_EFER, sc->theirs.efer | EFER_SVME);
	lodge_wrmsr(SVM_MSR_HSAVE_PA, page_to_phys(sc->hsave));
	if (boot_cpu_has(X86_FEATURE_TSCRATEMSR)) {
		sc->theirs.ratio = lodge_rdmsr(MSR_AMD64_TSC_RATIO);
		if (sc->theirs.ratio != TSC_RATIO_ONE)
			lodge_wrmsr(MSR_AMD64_TSC_RATIO, TSC_RATIO_ONE);
	}
	sc->theirs.reduce = svm_reduce_speculation(true);
	if (v->away)
		to_svm(v)->asid_gen = 0;
	if (!sc->asid_gen)
		sc->asid_gen = 1;
}

/** svm_unride - it ends: all as it was; IRQs off */
void svm_unride(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);

	if (sc->theirs.reduce)
		svm_reduce_speculation(false);
	if (sc->theirs.ratio != TSC_RATIO_ONE)
		lodge_wrmsr(MSR_AMD64_TSC_RATIO, sc->theirs.ratio);
	lodge_wrmsr(SVM_MSR_HSAVE_PA, sc->theirs.hsave);
	if (!(sc->theirs.efer & EFER_SVME))
		lodge_wrmsr(MSR_EFER, sc->theirs.efer);
}

/** svm_clean - the translations of our guests go from this CPU's TLB, before KVM runs one of its own here; IRQs off */
void svm_clean(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_vmcb *b = page_address(sc->flusher);
	unsigned long dr6;
	u64 hsave;

	if (!(lodge_rdmsr(MSR_EFER) & EFER_SVME)) {
		lodge_share_cleaned();
		return;
	}
	get_debugreg(dr6, 6);
	b->dr6 = dr6;
	b->clean = 0;
	hsave = lodge_rdmsr(SVM_MSR_HSAVE_PA);
	lodge_wrmsr(SVM_MSR_HSAVE_PA, page_to_phys(sc->hsave));
	svm_enter_empty(page_to_phys(sc->flusher));
	lodge_wrmsr(SVM_MSR_HSAVE_PA, hsave);
	lodge_dr7_host();
	if (!WARN_ONCE((u32)b->exit_code == X_INVALID, "lodge: the flush of an ASID was refused\n"))
		lodge_share_cleaned();
}
