/* SPDX-License-Identifier: GPL-2.0 */
/* A guest's registers in neutral form, and the groups in which the vendors load and store them. */
#ifndef LODGE_CORE_STATE_H
#define LODGE_CORE_STATE_H

#include <linux/bits.h>
#include <linux/kvm.h>
#include <linux/types.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

/* Index into v->regs[]: the hardware's encoding order. */
enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_9, R_10, R_11, R_12, R_13, R_14, R_15 };

/* Index into lodge_state.seg[]: the hardware's encoding order, then the system segments. */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/*
 * Groups of guest state. A bit in v->avail says that the neutral copy is current, a bit in
 * v->dirty that it is newer than what the hardware structure holds. Read through lodge_need(),
 * write through lodge_touch(). regs[] except RSP is always current.
 */
#define LG_RIP		BIT(0)		/* rip */
#define LG_RSP		BIT(1)		/* regs[R_SP] */
#define LG_RFLAGS	BIT(2)		/* rflags */
#define LG_CR		BIT(3)		/* cr0 cr2 cr3 cr4 efer, cr8 stays with the LAPIC */
#define LG_SEG		BIT(4)		/* seg[], cpl */
#define LG_TABLE	BIT(5)		/* gdt idt */
#define LG_SYSCALL	BIT(6)		/* star .. sysenter_eip */
#define LG_DR		BIT(7)		/* dr6 dr7 (dr[] is switched by host/host.c) */
#define LG_MISC		BIT(8)		/* pat debugctl */
#define LG_CS		BIT(9)		/* cpl, and of seg[SEG_CS] base, l and db: part of LG_SEG, to read alone */
#define LG_SHADOW	BIT(10)		/* int_shadow */
#define LG_ALL		(BIT(11) - 1)

struct lodge_state {
	u64 rip, rflags;
	u64 cr0, cr2, cr3, cr4, efer;
	u64 pdpte[4];			/* of a PAE guest, as last loaded */
	struct kvm_segment seg[SEG_COUNT];
	u8 cpl;
	struct kvm_dtable gdt, idt;
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 dr[4], dr6, dr7;
	u64 pat, debugctl;
	u8 int_shadow;			/* KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS */
};

/* PAE paging, with its four PDPTEs held in the processor. */
static inline bool lodge_pae_by(u64 cr0, u64 cr4, u64 efer)
{
	return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & EFER_LMA);
}

static inline bool lodge_pae(const struct lodge_state *st)
{
	return lodge_pae_by(st->cr0, st->cr4, st->efer);
}
#endif
