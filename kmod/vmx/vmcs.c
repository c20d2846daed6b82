// SPDX-License-Identifier: GPL-2.0
/*
 * The control half of the VMCS: what exits, what is injected, which windows are open.
 *
 * CR0 and CR4: bits that the guest may own are left to it; the others are masked and shadowed,
 * because VMX fixes them, or because changing them needs work (paging, EFER.LMA). CR3, INVLPG and TSC never
 * exit. The MSR bitmap lets through what the VMCS or the window switches.
 *
 * TPR: with a TPR shadow the guest's CR8 lives in the virtual-APIC page and a threshold makes the
 * processor exit when it falls low enough; every processor with EPT has it.
 *
 * Called with vcpu->mutex held; set_windows/set_tpr/set_event inside the window. No other lock.
 */
#include <linux/gfp.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <asm/msr-index.h>
#include <asm/trapnr.h>

#include "host/host.h"
#include "irqchip/irqchip.h"
#include "vmx/vmx.h"

/* CR bits that the guest changes without an exit. */
#define CR0_GUEST (X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP | X86_CR0_AM)
#define CR4_GUEST (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PGE | \
		   X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

/* Kinds of guests by the MSRs that they have to themselves. */
enum { VMX_MAP_SPEC = BIT(0), VMX_MAP_PRED = BIT(1), VMX_MAP_NONE = 4, VMX_MAPS };

static u8 *msr_bitmap[VMX_MAPS];

static void msr_pass(u8 *map, u32 msr, bool read, bool write)
{
	u32 byte = (msr >= 0xc0000000 ? 0x400 : 0) + (msr & 0x1fff) / 8, bit = msr % 8;

	map[byte] &= ~((u32)read << bit);
	map[0x800 + byte] &= ~((u32)write << bit);
}

/**
 * vmx_maps_create - the MSR bitmaps, which all guests share; at load
 *
 * Return: 0, or -ENOMEM: vmx_maps_destroy() follows.
 */
int vmx_maps_create(void)
{
	static const u32 pass[] = {	/* the VMCS or the window switches them */
		MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS,
		MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
	};
	int i, kind;

	for (kind = 0; kind < VMX_MAPS; kind++) {
		u8 *map = msr_bitmap[kind] = (void *)__get_free_page(GFP_KERNEL);

		if (!map)
			return -ENOMEM;
		memset(map, 0xff, PAGE_SIZE);
		if (kind == VMX_MAP_NONE)
			continue;
		for (i = 0; i < ARRAY_SIZE(pass); i++)
			msr_pass(map, pass[i], true, true);
		msr_pass(map, MSR_IA32_SPEC_CTRL, kind & VMX_MAP_SPEC, kind & VMX_MAP_SPEC);
		msr_pass(map, MSR_IA32_PRED_CMD, false, kind & VMX_MAP_PRED);
	}
	return 0;
}

/** vmx_maps_destroy - free them; at unload */
void vmx_maps_destroy(void)
{
	int kind;

	for (kind = 0; kind < VMX_MAPS; kind++)
		free_page((unsigned long)msr_bitmap[kind]);
}

/**
 * vmx_set_intercepts - recompute what depends on the guest's CPUID, on KVM_SET_GUEST_DEBUG and the MSR filter
 * @v: the vCPU
 */
void vmx_set_intercepts(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	u32 exc = BIT(X86_TRAP_DB) | BIT(X86_TRAP_UD) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC);
	unsigned long flags;

	if (v->debug.control & KVM_GUESTDBG_USE_SW_BP)
		exc |= BIT(X86_TRAP_BP);
	if (!vmx_get(vx, &flags))
		return;
	vmwrite(EXCEPTION_BITMAP, exc);
	vmwrite(MSR_BITMAP, __pa(msr_bitmap[rcu_access_pointer(v->vm->msr_filter) ? VMX_MAP_NONE :
					    (v->spec_live ? VMX_MAP_SPEC : 0) |
					    (lodge_guest_has_ibpb(v) ? VMX_MAP_PRED : 0)]));
	vmx_put(vx, flags);
}

static DEFINE_IDA(vpids);

/**
 * vmx_vcpu_init - allocate a VMCS and the pages it points to
 * @v: the vCPU, zeroed
 *
 * Return: 0 or -ENOMEM; on failure vmx_vcpu_free() cleans up.
 */
int vmx_vcpu_init(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	int vpid;

	vx->loaded_cpu = -1;
	vx->vmcs = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	vx->vapic = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (vmx_caps.pml)
		vx->pml = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vx->vmcs || !vx->vapic || !vx->pml != !vmx_caps.pml)
		return -ENOMEM;
	*(u32 *)page_address(vx->vmcs) = vmx_caps.revision;
	v->entry_timer = vmx_caps.timer && READ_ONCE(lodge_preemption_timer);
	/* When they have run out this vCPU does without: the processor then flushes at each entry. */
	vpid = vmx_caps.vpid ? ida_alloc_range(&vpids, 1, 0xffff, GFP_KERNEL) : 0;
	vx->vpid = max(vpid, 0);
	return 0;
}

/**
 * vmx_vcpu_free - free what vmx_vcpu_init() allocated
 * @v: the vCPU; it never enters again
 */
void vmx_vcpu_free(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);

	if (vx->vpid)
		ida_free(&vpids, vx->vpid);
	if (vx->vmcs) {			/* without one no CPU has it, nor does loaded_cpu say so yet */
		vmx_forget(vx);
		__free_page(vx->vmcs);
	}
	if (vx->vapic)
		__free_page(vx->vapic);
	free_page((unsigned long)vx->pml);
}

/* What the guest's state does not change and no CPU owns. */
static void write_controls(struct vmx_vcpu *vx)
{
	struct lodge_vcpu *v = &vx->v;
	const struct lodge_npt *npt = &v->vm->npt;

	vx->proc = vmx_caps.proc;
	/* Without an in-kernel LAPIC userspace has to know of every write of CR8. */
	if (!v->lapic || !vmx_caps.tpr_shadow)
		vx->proc = (vx->proc & ~(u32)PROC_TPR_SHADOW) | PROC_CR8_LOAD | PROC_CR8_STORE;
	vx->entry = vmx_caps.entry;
	vmwrite(PIN_CTLS, vmx_caps.pin | (v->entry_timer ? PIN_TIMER : 0));
	vmwrite(PROC_CTLS, vx->proc);
	vmwrite(PROC_CTLS2, vmx_caps.proc2 & ~(u32)(vx->vpid ? 0 : PROC2_VPID));
	vmwrite(EXIT_CTLS, vmx_caps.exit);
	vmwrite(ENTRY_CTLS, vx->entry);
	vmwrite(PF_ERROR_MASK, 0);
	vmwrite(PF_ERROR_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(EXIT_MSR_STORE_COUNT, 0);
	vmwrite(EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_INTR_INFO, 0);
	vmwrite(LINK_POINTER, ~0ull);
	/* write-back, the depth of the walk, accessed and dirty bits: 25.6.11 */
	vmwrite(EPT_POINTER, npt->root | (npt->levels - 1) << 3 | 6 | (vmx_caps.ept_ad ? EPTP_AD : 0));
	vmwrite(CR0_MASK, ~(u64)CR0_GUEST);
	vmwrite(CR4_MASK, ~(u64)CR4_GUEST);
	vmwrite(G_ACTIVITY, 0);
	vmwrite(G_INTERRUPTIBILITY, 0);
	vmwrite(G_PENDING_DEBUG, 0);
	if (vx->vpid)
		vmwrite(VPID, vx->vpid);
	if (vx->proc & PROC_TPR_SHADOW) {
		vmwrite(VAPIC_PAGE, page_to_phys(vx->vapic));
		vmwrite(TPR_THRESHOLD, 0);
	}
	if (vx->pml) {
		vmwrite(PML_ADDRESS, __pa(vx->pml));
		vmwrite(PML_INDEX, VMX_PML_LAST);
	}
	if (vmx_caps.ple) {
		vmwrite(PLE_GAP, 128);
		vmwrite(PLE_WINDOW, 4096);
	}
	vx->timer = VMX_TIMER_MAX;
	if (v->entry_timer)
		vmwrite(TIMER, vx->timer);
	if (vmx_caps.perf_ctrl)
		vmwrite(G_PERF_GLOBAL_CTRL, 0);
}

/* Host state that is the same on every CPU and in every task. */
static void write_host(void)
{
	vmwrite(H_CS_SEL, __KERNEL_CS);
	vmwrite(H_SS_SEL, __KERNEL_DS);
	vmwrite(H_DS_SEL, 0);		/* the user's come back at the end of the window */
	vmwrite(H_ES_SEL, 0);
	vmwrite(H_FS_SEL, 0);
	vmwrite(H_GS_SEL, 0);
	vmwrite(H_TR_SEL, GDT_ENTRY_TSS * 8);
	vmwrite(H_RIP, (unsigned long)vmx_exit_label);
	vmwrite(H_EFER, lodge_rdmsr(MSR_EFER));
	vmwrite(H_PAT, lodge_rdmsr(MSR_IA32_CR_PAT));
	vmwrite(H_CR0, read_cr0());
}

/**
 * vmx_vcpu_reset - control fields to their power-on values; the guest-state area follows from v->st
 * @v: the vCPU
 */
void vmx_vcpu_reset(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	unsigned long flags;

	if (!vmx_get(vx, &flags))
		return;
	write_controls(vx);
	write_host();
	vx->host_rsp = vx->host_cr3 = vx->host_cr4 = vx->host_fs_base = ~0ull;
	v->nmi_masked = false;
	vx->tpr = 0;
	vmx_put(vx, flags);
	vmx_set_intercepts(v);
	vmx_set_tsc_offset(v);
}

/**
 * vmx_set_tsc_offset - v->tsc_offset into the VMCS
 * @v: the vCPU; in or outside the window
 */
void vmx_set_tsc_offset(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	unsigned long flags;

	if (!vmx_get(vx, &flags))
		return;
	vmwrite(TSC_OFFSET, v->tsc_offset + lodge_slept.tsc);
	vmx_put(vx, flags);
}

/**
 * vmx_set_windows - ask for an exit as soon as an interrupt or an NMI could be taken
 * @v: the vCPU; window
 * @irq: EXIT_IRQ_WINDOW wanted
 * @nmi: EXIT_NMI_WINDOW wanted
 */
void vmx_set_windows(struct lodge_vcpu *v, bool irq, bool nmi)
{
	struct vmx_vcpu *vx = to_vmx(v);
	u32 proc = vx->proc & ~(u32)(PROC_INTR_WINDOW | PROC_NMI_WINDOW);

	if (irq)
		proc |= PROC_INTR_WINDOW;
	if (nmi)
		proc |= PROC_NMI_WINDOW;
	if (proc != vx->proc) {
		vx->proc = proc;
		vmwrite(PROC_CTLS, proc);
	}
}

/**
 * vmx_set_tpr - ask for an exit when TPR falls below the class of a held-back vector
 * @v: the vCPU; window
 * @threshold: the vector's class (vector >> 4); 0: none held back
 */
void vmx_set_tpr(struct lodge_vcpu *v, u8 threshold)
{
	struct vmx_vcpu *vx = to_vmx(v);

	/* An entry with a threshold above TPR's class fails (27.2.1.1): above what TPR will be then, by the LAPIC. */
	if (vx->proc & PROC_TPR_SHADOW)
		vmwrite(TPR_THRESHOLD, min_t(u8, threshold, lodge_lapic_get_tpr(v)));
}

/**
 * vmx_set_dr_exits - whether accesses of debug registers exit
 * @vx: the vCPU; window
 * @on: they do
 */
void vmx_set_dr_exits(struct vmx_vcpu *vx, bool on)
{
	u32 proc = vx->proc & ~(u32)PROC_MOV_DR;

	if (on || unlikely(vx->v.debug.control & KVM_GUESTDBG_USE_HW_BP))	/* they are userspace's */
		proc |= PROC_MOV_DR;

	if (proc != vx->proc) {
		vx->proc = proc;
		vmwrite(PROC_CTLS, proc);
	}
}

/**
 * vmx_set_event - v->inject into the VM-entry interruption information, SDM 3, 25.8.3
 * @v: the vCPU; window
 */
void vmx_set_event(struct lodge_vcpu *v)
{
	static const u8 type[] = {
		[EVENT_INTR] = INTR_EXT, [EVENT_NMI] = INTR_NMI, [EVENT_EXCEPTION] = INTR_HW_EXC,
		[EVENT_SOFT_INT] = INTR_SOFT, [EVENT_SOFT_EXC] = INTR_SOFT_EXC,
	};
	const struct lodge_event *e = &v->inject;
	u32 info = INTR_VALID | e->vector | type[e->type] << 8;

	if (e->has_error) {
		info |= INTR_ERROR;
		vmwrite(ENTRY_ERROR_CODE, e->error);
	}
	if (e->type == EVENT_SOFT_INT || e->type == EVENT_SOFT_EXC)
		vmwrite(ENTRY_INSN_LEN, e->len);
	vmwrite(ENTRY_INTR_INFO, info);
}

/**
 * vmx_nmi_blocked - an NMI would have to wait
 * @v: the vCPU; in or outside the window
 */
bool vmx_nmi_blocked(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	unsigned long flags;
	bool blocked;

	if (!vmx_get(vx, &flags))
		return true;
	blocked = vmread(G_INTERRUPTIBILITY) & BLOCK_NMI;
	vmx_put(vx, flags);
	return blocked;
}

/**
 * vmx_set_nmi_blocked - begin or end NMI blocking
 * @v: the vCPU; in or outside the window
 * @blocked: until the next IRET
 */
void vmx_set_nmi_blocked(struct lodge_vcpu *v, bool blocked)
{
	struct vmx_vcpu *vx = to_vmx(v);
	unsigned long flags;
	u32 block;

	if (!vmx_get(vx, &flags))
		return;
	block = vmread(G_INTERRUPTIBILITY);
	vmwrite(G_INTERRUPTIBILITY, blocked ? block | BLOCK_NMI : block & ~(u32)BLOCK_NMI);
	vmx_put(vx, flags);
}

/** vmx_keep - NMI blocking, and debug exceptions that are pending */
void vmx_keep(struct lodge_vcpu *v, struct lodge_vendor_kept *k)
{
	unsigned long flags;

	if (!vmx_get(to_vmx(v), &flags))
		return;
	k->flags = vmread(G_INTERRUPTIBILITY) & BLOCK_NMI;
	k->words[0] = vmread(G_PENDING_DEBUG);
	vmx_put(to_vmx(v), flags);
}

/** vmx_bring_back - the same again; shadows follow from v->st */
void vmx_bring_back(struct lodge_vcpu *v, const struct lodge_vendor_kept *k)
{
	unsigned long flags;

	if (!vmx_get(to_vmx(v), &flags))
		return;
	vmwrite(G_INTERRUPTIBILITY, (vmread(G_INTERRUPTIBILITY) & ~(u32)BLOCK_NMI) | k->flags);
	vmwrite(G_PENDING_DEBUG, k->words[0]);
	vmx_put(to_vmx(v), flags);
}

/**
 * vmx_msr - MSRs that only the VMCS knows: none that the core does not keep
 * @v: the vCPU
 * @index: which
 * @val: in or out
 * @write: direction
 *
 * Return: 1: the core has to answer.
 */
int vmx_msr(struct lodge_vcpu *v, u32 index, u64 *val, bool write)
{
	return 1;
}
