// SPDX-License-Identifier: GPL-2.0
/*
 * Debug build only: is the host's processor after a window as it was before it?
 *
 * Everything that a guest could have left behind is read when a window begins and when it has ended, and compared. It
 * does not know what was switched, or how: the same for both vendors, whatever else the code believes.
 *
 * Per-CPU data: its own CPU, IRQs off from the first reading to the second. No locks.
 */
#include <linux/bug.h>
#include <asm/desc.h>
#include <asm/msr-index.h>

#include "host/host.h"

static const u32 msrs[] = {
	MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_TSC_AUX, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, MSR_IA32_CR_PAT,
	MSR_IA32_DEBUGCTLMSR, MSR_IA32_XSS, MSR_IA32_SPEC_CTRL, MSR_VM_HSAVE_PA, MSR_AMD64_TSC_RATIO,
};

struct reading {
	u64 msr[ARRAY_SIZE(msrs)];
	bool there[ARRAY_SIZE(msrs)];
	u64 xcr0, cr0, cr4;
	unsigned long dr7;
	u32 pkru;
	struct desc_ptr gdt, idt;
	u16 tr, ldt, fs, gs, ds, es;
};

static DEFINE_PER_CPU(struct reading, before);

static void take(struct reading *r)
{
	int i;

	memset(r, 0, sizeof(*r));
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		r->there[i] = lodge_rdmsr_safe(msrs[i], &r->msr[i]);
	if (lodge_fpu_host.xcr0)
		r->xcr0 = lodge_xgetbv();
	if (lodge_fpu_host.pkru)
		r->pkru = rdpkru();
	r->cr0 = read_cr0();
	r->cr4 = __read_cr4();
	get_debugreg(r->dr7, 7);
	native_store_gdt(&r->gdt);
	store_idt(&r->idt);
	store_tr(r->tr);
	store_ldt(r->ldt);
	savesegment(fs, r->fs);
	savesegment(gs, r->gs);
	savesegment(ds, r->ds);
	savesegment(es, r->es);
}

static void same(const char *what, u32 nr, u64 was, u64 is)
{
	WARN(was != is, "lodge: host check: %s %#x was %#llx, is %#llx after a window\n", what, nr, was, is);
}

/** lodge_host_note - a window is about to begin; IRQs off */
void lodge_host_note(void)
{
	take(this_cpu_ptr(&before));
}

/** lodge_host_compare - it has ended */
void lodge_host_compare(void)
{
	const struct reading *b = this_cpu_ptr(&before);
	struct reading now;
	int i;

	take(&now);
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (b->there[i])
			same("MSR", msrs[i], b->msr[i], now.msr[i]);
	same("XCR", 0, b->xcr0, now.xcr0);
	same("CR", 0, b->cr0, now.cr0);
	same("CR", 4, b->cr4, now.cr4);
	same("DR", 7, b->dr7, now.dr7);
	same("PKRU", 0, b->pkru, now.pkru);
	same("GDT limit", 0, b->gdt.size, now.gdt.size);
	same("GDT base", 0, b->gdt.address, now.gdt.address);
	same("IDT limit", 0, b->idt.size, now.idt.size);
	same("IDT base", 0, b->idt.address, now.idt.address);
	same("TR", 0, b->tr, now.tr);
	same("LDTR", 0, b->ldt, now.ldt);
	same("FS", 0, b->fs, now.fs);
	same("GS", 0, b->gs, now.gs);
	same("DS", 0, b->ds, now.ds);
	same("ES", 0, b->es, now.es);
}
