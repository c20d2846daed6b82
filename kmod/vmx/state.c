// SPDX-License-Identifier: GPL-2.0
/*
 * Guest state between the neutral copy (struct lodge_state) and the VMCS's guest-state area.
 *
 * The only file of this back end that knows which VMCS field holds which part of the guest's state.
 * In the window the VMCS is current; outside vmx_get() makes it so. RIP, RSP and RFLAGS are read at
 * every exit, all else on demand.
 *
 * What Intel wants otherwise than the neutral form (SDM 3, 27.3.1): an accessed bit in every usable
 * segment, a busy TSS, "unusable" instead of not present, the IA-32e-mode entry control equal to EFER.LMA, and
 * the PDPTEs of a PAE guest in the VMCS.
 *
 * Called with vcpu->mutex held. No other lock.
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "host/host.h"
#include "host/switch.h"
#include "vmx/vmx.h"

static const struct {
	enum vmcs_field sel, base, limit, ar;
} segs[SEG_COUNT] = {
#define SEG(n) { G_##n##_SEL, G_##n##_BASE, G_##n##_LIMIT, G_##n##_AR }
	[SEG_ES] = SEG(ES), [SEG_CS] = SEG(CS), [SEG_SS] = SEG(SS), [SEG_DS] = SEG(DS),
	[SEG_FS] = SEG(FS), [SEG_GS] = SEG(GS), [SEG_LDTR] = SEG(LDTR), [SEG_TR] = SEG(TR),
#undef SEG
};

static void load_seg(struct kvm_segment *k, int i)
{
	u32 ar = vmread(segs[i].ar);

	*k = (struct kvm_segment) {
		.base = vmread(segs[i].base), .limit = vmread(segs[i].limit),
		.selector = vmread(segs[i].sel),
		.type = ar & 15, .s = ar >> 4 & 1, .dpl = ar >> 5 & 3,
		.present = !(ar & AR_UNUSABLE), .avl = ar >> 12 & 1, .l = ar >> 13 & 1,
		.db = ar >> 14 & 1, .g = ar >> 15 & 1, .unusable = !!(ar & AR_UNUSABLE),
	};
}

static void store_seg(const struct kvm_segment *k, int i)
{
	u32 ar = (k->type & 15) | (k->s & 1) << 4 | (k->dpl & 3) << 5 | 1 << 7 |
		 (k->avl & 1) << 12 | (k->l & 1) << 13 | (k->db & 1) << 14 | (k->g & 1) << 15;

	/* With a bit 11:0 clear G must be 0, with one of 31:20 set it must be 1. */
	if (k->limit >> 20)
		ar |= 1 << 15;
	else if (~k->limit & 0xfff)
		ar &= ~(1u << 15);
	if (i == SEG_TR)
		ar = (ar & ~0x1001fu) | (k->type == 3 || k->type == 1 ? 3 : 11);
	else if (k->unusable || !k->present)
		ar = AR_UNUSABLE;
	else if (i <= SEG_GS)
		ar |= 1;
	vmwrite(segs[i].sel, k->selector);
	vmwrite(segs[i].base, k->base);
	vmwrite(segs[i].limit, k->limit);
	vmwrite(segs[i].ar, ar);
}

static void load_code(struct lodge_state *st)
{
	struct kvm_segment *cs = &st->seg[SEG_CS];
	u32 ar = vmread(G_CS_AR);

	cs->base = vmread(G_CS_BASE);
	cs->l = ar >> 13 & 1;
	cs->db = ar >> 14 & 1;
	st->cpl = vmread(G_SS_AR) >> 5 & 3;	/* as in load_segs() */
}

static void load_segs(struct lodge_state *st)
{
	int i;

	for (i = 0; i < SEG_COUNT; i++)
		load_seg(&st->seg[i], i);
	st->cpl = st->seg[SEG_SS].dpl;	/* also where SS is unusable: 27.3.1.2 */
}

static void load_cr(struct lodge_state *st)
{
	u64 mask0 = vmread(CR0_MASK), mask4 = vmread(CR4_MASK);

	st->cr0 = (vmread(G_CR0) & ~mask0) | (vmread(CR0_SHADOW) & mask0);
	st->cr4 = (vmread(G_CR4) & ~mask4) | (vmread(CR4_SHADOW) & mask4);
	st->cr3 = vmread(G_CR3);
	st->efer = vmread(G_EFER);
	/* The processor loads them at MOV to CR3, which does not exit. */
	if (lodge_pae(st)) {
		st->pdpte[0] = vmread(G_PDPTE0);
		st->pdpte[1] = vmread(G_PDPTE1);
		st->pdpte[2] = vmread(G_PDPTE2);
		st->pdpte[3] = vmread(G_PDPTE3);
	}
}

static void store_cr(struct vmx_vcpu *vx, const struct lodge_state *st)
{
	u32 entry = vx->entry & ~ENTRY_IA32E;

	if (st->efer & EFER_LMA)
		entry |= ENTRY_IA32E;
	if (entry != vx->entry) {
		vx->entry = entry;
		vmwrite(ENTRY_CTLS, entry);
	}
	vmwrite(G_CR0, (st->cr0 & ~(u64)(X86_CR0_CD | X86_CR0_NW)) | vmx_caps.cr0_fixed);
	vmwrite(CR0_SHADOW, st->cr0);
	vmwrite(G_CR4, st->cr4 | vmx_caps.cr4_fixed);
	vmwrite(CR4_SHADOW, st->cr4);
	vmwrite(G_CR3, st->cr3);
	vmwrite(G_EFER, st->efer);
	if (lodge_pae(st)) {
		vmwrite(G_PDPTE0, st->pdpte[0]);
		vmwrite(G_PDPTE1, st->pdpte[1]);
		vmwrite(G_PDPTE2, st->pdpte[2]);
		vmwrite(G_PDPTE3, st->pdpte[3]);
	}
}

static void store_shadow(const struct lodge_state *st)
{
	u32 block = vmread(G_INTERRUPTIBILITY) & ~(u32)(BLOCK_STI | BLOCK_MOV_SS);

	if (st->int_shadow & KVM_X86_SHADOW_INT_MOV_SS)
		block |= BLOCK_MOV_SS;
	else if (st->int_shadow & KVM_X86_SHADOW_INT_STI)
		block |= BLOCK_STI;
	vmwrite(G_INTERRUPTIBILITY, block);
}

/* VM entry wants blocking by STI to go with IF, and a pending single step with TF (27.3.1.5). */
static void store_pending_debug(struct lodge_vcpu *v)
{
	u64 pending = vmread(G_PENDING_DEBUG) & ~(u64)DR_STEP;
	u32 block = vmread(G_INTERRUPTIBILITY);

	lodge_need(v, LG_RFLAGS);
	if (block & BLOCK_STI && !(v->st.rflags & X86_EFLAGS_IF)) {
		block &= ~(u32)BLOCK_STI;
		vmwrite(G_INTERRUPTIBILITY, block);
	}
	if (block & (BLOCK_STI | BLOCK_MOV_SS) && v->st.rflags & X86_EFLAGS_TF &&
	    !(vmread(G_DEBUGCTL) & DEBUGCTLMSR_BTF))
		pending |= DR_STEP;
	vmwrite(G_PENDING_DEBUG, pending);
}

static void load_groups(struct lodge_vcpu *v, u32 groups)
{
	struct lodge_state *st = &v->st;

	if (groups & LG_RIP)
		st->rip = vmread(G_RIP);
	if (groups & LG_RSP)
		v->regs[R_SP] = vmread(G_RSP);
	if (groups & LG_RFLAGS)
		st->rflags = vmread(G_RFLAGS);
	if (groups & LG_CR)
		load_cr(st);
	if (groups & LG_SEG) {
		load_segs(st);
		groups |= LG_CS;
	} else if (groups & LG_CS) {
		load_code(st);
	}
	if (groups & LG_TABLE) {
		st->gdt.base = vmread(G_GDTR_BASE);
		st->gdt.limit = vmread(G_GDTR_LIMIT);
		st->idt.base = vmread(G_IDTR_BASE);
		st->idt.limit = vmread(G_IDTR_LIMIT);
	}
	if (groups & LG_SYSCALL) {	/* STAR to SFMASK exit when they are written */
		if (v->mode == MODE_WINDOW)
			st->kernel_gs_base = lodge_rdmsr(MSR_KERNEL_GS_BASE);
		st->sysenter_cs = vmread(G_SYSENTER_CS);
		st->sysenter_esp = vmread(G_SYSENTER_ESP);
		st->sysenter_eip = vmread(G_SYSENTER_EIP);
	}
	if (groups & LG_DR) {
		st->dr7 = vmread(G_DR7);
		if (v->dr_live) {
			unsigned long dr6;

			get_debugreg(dr6, 6);
			st->dr6 = dr6;
		}
	}
	if (groups & LG_MISC) {
		st->pat = vmread(G_PAT);
		st->debugctl = vmread(G_DEBUGCTL);
	}
	if (groups & LG_SHADOW)
		st->int_shadow = vmx_shadow();
	v->avail |= groups;
}

static noinline void store_rest(struct lodge_vcpu *v, u32 d)
{
	const struct lodge_state *st = &v->st;
	int i;

	if (d & LG_RFLAGS)
		vmwrite(G_RFLAGS, st->rflags);
	if (d & LG_CR)
		store_cr(to_vmx(v), st);
	if (d & LG_SEG)
		for (i = 0; i < SEG_COUNT; i++)
			store_seg(&st->seg[i], i);
	if (d & LG_TABLE) {
		vmwrite(G_GDTR_BASE, st->gdt.base);
		vmwrite(G_GDTR_LIMIT, st->gdt.limit);
		vmwrite(G_IDTR_BASE, st->idt.base);
		vmwrite(G_IDTR_LIMIT, st->idt.limit);
	}
	if (d & LG_SYSCALL) {
		lodge_wrmsr_outside(v, MSR_KERNEL_GS_BASE, st->kernel_gs_base);
		vmwrite(G_SYSENTER_CS, st->sysenter_cs);
		vmwrite(G_SYSENTER_ESP, st->sysenter_esp);
		vmwrite(G_SYSENTER_EIP, st->sysenter_eip);
	}
	if (d & (LG_SYSCALL | LG_CR))
		vmx_syscall_msrs(to_vmx(v), d & LG_CR ? st->efer : vmread(G_EFER));
	if (d & LG_DR) {
		vmwrite(G_DR7, st->dr7);
		if (v->dr_live)
			set_debugreg((unsigned long)st->dr6, 6);
	}
	if (d & LG_MISC) {
		vmwrite(G_PAT, st->pat);
		vmwrite(G_DEBUGCTL, st->debugctl);
	}
	if (d & LG_SHADOW)
		store_shadow(st);
	if (d & (LG_SHADOW | LG_MISC | LG_RFLAGS))
		store_pending_debug(v);
}

/**
 * vmx_state_load - bring groups of guest state into the neutral copy
 * @v: the vCPU; its thread, in or outside the window
 * @groups: LG_* that are not available yet
 */
void vmx_state_load(struct lodge_vcpu *v, u32 groups)
{
	unsigned long flags;

	if (v->mode == MODE_WINDOW) {
		load_groups(v, groups);
		return;
	}
	if (!vmx_get(to_vmx(v), &flags)) {
		v->avail |= groups;
		return;
	}
	load_groups(v, groups);
	vmx_put(to_vmx(v), flags);
}

/**
 * vmx_state_store - write the dirty groups back before entry
 * @v: the vCPU; window
 */
void vmx_state_store(struct lodge_vcpu *v)
{
	u32 d = v->dirty;

	v->dirty = 0;
	if (d & LG_RIP)
		vmwrite(G_RIP, v->st.rip);
	if (d & LG_RSP)
		vmwrite(G_RSP, v->regs[R_SP]);
	if (unlikely(d & ~(u32)(LG_RIP | LG_RSP)))
		store_rest(v, d);
}
