// SPDX-License-Identifier: GPL-2.0
/*
 * The VT-x back end: probe, VMX on and off on a CPU, the window's beginning and end, and the entry
 * itself.
 *
 * Translations are tagged by VPID (linear and combined) and by EPT pointer (guest-physical). A vCPU that
 * comes to another CPU than the last, or finds that second-level translations were taken away since its last
 * entry, invalidates both for itself: what others left under the same EPT pointer goes with it, and those
 * compare generations themselves before they enter (SDM 3, 29.4.3).
 *
 * STAR, LSTAR, CSTAR and SFMASK are the host's between windows. In a window they are the guest's from the moment
 * when its EFER.SCE is set, each written only where it differs (host/switch.h): no list in the VMCS is walked at every
 * exit. KERNEL_GS_BASE is always switched, because SWAPGS cannot be intercepted.
 *
 * Per-CPU data is touched on its CPU with interrupts off. No locks.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/msr-index.h>

#include "host/host.h"
#include "host/switch.h"
#include "irqchip/irqchip.h"
#include "vmx/ops.h"
#include "vmx/vmx.h"

#define APIC_TPR	0x80	/* in the virtual-APIC page */

static struct lodge_pte_ops vmx_pte_ops __ro_after_init = {
	/* SDM 3, 29.3.2; PAT is ignored: memory is write-back whatever the guest thinks. */
	.present	= EPT_R | EPT_W | EPT_X,
	.table		= EPT_R | EPT_W | EPT_X,
	.leaf		= EPT_R | EPT_X | EPT_WB | EPT_IGNORE_PAT,
	.leaf_uc	= EPT_R | EPT_X | EPT_IGNORE_PAT,
	.write		= EPT_W,
	.large		= EPT_LARGE,
	.accessed	= EPT_A,
	.dirty		= EPT_D,
	.addr		= GENMASK_ULL(51, 12),
	.top_leaf	= 2,
};

static void *vmx_l1d_fill;
#define VMX_L1D_FILL	(PAGE_SIZE << VMX_L1D_ORDER)
#define VMX_L1D_ORDER	4

static void vmx_remove(void)
{
	int cpu;

	free_pages((unsigned long)vmx_l1d_fill, VMX_L1D_ORDER);
	vmx_l1d_fill = NULL;

	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpu, cpu);

		if (c->vmxon)
			__free_page(c->vmxon);
		c->vmxon = NULL;
	}
	vmx_maps_destroy();
}

static int __init vmx_probe(void)
{
	int cpu, ret = vmx_probe_caps();

	if (ret)
		return ret;
	if (!vmx_caps.ept_ad)
		vmx_pte_ops.accessed = vmx_pte_ops.dirty = 0;
	if (vmx_caps.pml)
		vmx_pte_ops.log = EPT_D;
	if (vmx_caps.ept & EPTCAP_1G)
		vmx_pte_ops.top_leaf = 3;
	if (vmx_caps.flush_l1d) {
		vmx_l1d_fill = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, VMX_L1D_ORDER);
		if (!vmx_l1d_fill)
			return -ENOMEM;
	}
	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpu, cpu);

		INIT_LIST_HEAD(&c->loaded);
		c->vmxon = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!c->vmxon)
			return -ENOMEM;		/* the caller runs vmx_remove() */
		*(u32 *)page_address(c->vmxon) = vmx_caps.revision;
	}
	return vmx_maps_create();
}

static bool vmx_cpu_busy(void)
{
	return __read_cr4() & X86_CR4_VMXE;
}

static int vmx_cpu_enable(void)
{
	vmx_on(NULL);
	lodge_switch_take();
	return 0;
}

static void vmx_cpu_disable(void)
{
	vmx_off(NULL);
}

/* INVVPID and INVEPT of one context; the whole of them where the processor has no finer kind. */
static void flush_linear(struct vmx_vcpu *vx)
{
	struct {
		u64 vpid, addr;
	} one = { vx->vpid, 0 };

	if (vx->vpid)
		asm volatile("invvpid %0, %1" : : "m" (one), "r" (1ul) : "cc", "memory");
}

static noinline void flush_guest(struct vmx_vcpu *vx)
{
	struct {
		u64 eptp, none;
	} one = { vmread(EPT_POINTER), 0 };
	unsigned long kind = vmx_caps.ept & EPTCAP_INVEPT_ONE ? 1 : 2;

	vx->v.stat.tlb_flush++;
	asm volatile("invept %0, %1" : : "m" (one), "r" (kind) : "cc", "memory");
	flush_linear(vx);
}

/**
 * vmx_syscall_msrs - STAR .. SFMASK to the guest's, if it can use them
 * @vx: the vCPU; window. At its beginning, and whenever EFER or one of the four is written
 * @efer: the guest's
 */
void vmx_syscall_msrs(struct vmx_vcpu *vx, u64 efer)
{
	const struct lodge_state *st = &vx->v.st;

	if (!(efer & EFER_SCE))		/* SYSCALL is #UD */
		return;
	lodge_switch_put(&vx->v, SW_STAR, st->star);
	lodge_switch_put(&vx->v, SW_LSTAR, st->lstar);
	lodge_switch_put(&vx->v, SW_CSTAR, st->cstar);
	lodge_switch_put(&vx->v, SW_SFMASK, st->sfmask);
}

static void syscall_in(struct vmx_vcpu *vx)
{
	const struct lodge_state *st = &vx->v.st;

	if (st->kernel_gs_base != vx->host.kernel_gs)
		lodge_wrmsr_outside(&vx->v, MSR_KERNEL_GS_BASE, st->kernel_gs_base);
	vmx_syscall_msrs(vx, vx->v.dirty & LG_CR ? st->efer : vmread(G_EFER));
}

/*
 * What the host touched since the guest last ran must not be found in the L1 cache (L1TF). Without the command of
 * newer microcode the cache is filled with what is no secret: twice its size, each page once before, so that no
 * walk of the page tables comes in between.
 */
static noinline void flush_l1d(void)
{
	const u8 *fill = vmx_l1d_fill;
	unsigned int i;

	if (boot_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		lodge_wrmsr(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	for (i = 0; i < VMX_L1D_FILL; i += PAGE_SIZE)
		READ_ONCE(fill[i]);
	rmb();			/* the translations before the lines */
	for (i = 0; i < VMX_L1D_FILL; i += 64)
		READ_ONCE(fill[i]);
	rmb();			/* the lines before the entry */
}

static void vmx_window_begin(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	u64 gen = READ_ONCE(v->vm->npt.gen);

	vmx_host_save(vx);
	if (v->moved || v->npt_gen != gen) {
		lodge_take_request(v, REQ_TLB);
		v->npt_gen = gen;
		lodge_tlb_flushed(v);
		flush_guest(vx);
	}
	if (unlikely(lodge_dr_enter(v, v->dirty & LG_DR ? v->st.dr7 : vmread(G_DR7)))) {
		set_debugreg((unsigned long)v->st.dr6, 6);
		vmx_set_dr_exits(vx, false);
	}
	syscall_in(vx);
	lodge_switch_put(v, SW_TSC_AUX, v->tsc_aux);
	lodge_spec_begin(v);
	if (unlikely(vmx_caps.flush_l1d))
		flush_l1d();
}

/**
 * vmx_hand_in_log - the pages that the processor has made dirty, into the slots' logs
 * @vx: the vCPU; window
 *
 * The index counts down, and is that of the entry to be written next (SDM 3, 29.3.6).
 */
void vmx_hand_in_log(struct vmx_vcpu *vx)
{
	u16 i = vmread(PML_INDEX);

	if (likely(i == VMX_PML_LAST))
		return;
	for (i++; i <= VMX_PML_LAST; i++)
		lodge_log_written(&vx->v, vx->pml[i] >> PAGE_SHIFT);
	vmwrite(PML_INDEX, VMX_PML_LAST);
}

static void vmx_window_end(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	unsigned long dr6 = DR6_RESERVED;

	if (vx->pml)
		vmx_hand_in_log(vx);
	lodge_switch_out();
	if (!(v->dirty & LG_SYSCALL))	/* SWAPGS does not exit */
		v->st.kernel_gs_base = lodge_rdmsr(MSR_KERNEL_GS_BASE);
	if (unlikely(v->dr_live)) {
		get_debugreg(dr6, 6);
		if (!(v->dirty & LG_DR))
			v->st.dr6 = dr6;
		vmx_set_dr_exits(vx, true);
	}
	lodge_dr_leave(v, dr6);
	vmx_host_restore(vx);
}

/* CR8 lives in the virtual-APIC page; the LAPIC's TPR is the truth between entries. */
static void tpr_in(struct vmx_vcpu *vx)
{
	u8 tpr = lodge_lapic_get_tpr(&vx->v);

	if (tpr != vx->tpr) {
		*((u8 *)page_address(vx->vapic) + APIC_TPR) = tpr << 4;
		vx->tpr = tpr;
	}
}

static void tpr_out(struct vmx_vcpu *vx)
{
	u8 tpr = *((u8 *)page_address(vx->vapic) + APIC_TPR) >> 4;

	if (tpr == vx->tpr)
		return;
	vx->tpr = tpr;
	lodge_lapic_set_tpr(&vx->v, tpr);
}

/*
 * The preemption timer counts changes of one bit of the TSC down to 0 (26.5.1). In units of that bit
 * the deadline is rounded up and the time is not, so that it does not come early. Without a
 * deadline, or with a far one, it ends the guest for nothing now and then.
 */
static void timer_in(struct vmx_vcpu *vx)
{
	u64 at = vx->v.timer_tsc, left = VMX_TIMER_MAX, now;

	if (at) {
		now = rdtsc() >> vmx_caps.timer_shift;	/* the processor's own */
		at = ((at - lodge_slept.tsc - 1) >> vmx_caps.timer_shift) + 1;
		left = at > now ? min(at - now, left) : 0;
	}
	if (left != vx->timer) {
		vx->timer = left;
		vmwrite(TIMER, left);
	}
}

/* The entry did not happen. VM-instruction error 7 or 8 (SDM 3, 31.4): a field that is wrong. */
static noinline void failed_entry(struct vmx_vcpu *vx, u64 rflags)
{
	struct lodge_exit *x = &vx->v.exit;

	x->kind = EXIT_FAIL_ENTRY;
	x->reason = rflags & X86_EFLAGS_ZF ? vmread(INSN_ERROR) : ~0u;
	x->info1 = x->info2 = 0;
	vmx_check(vx);
}

static void vmx_run(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	bool tpr = vx->proc & PROC_TPR_SHADOW;
	u64 failed;

	if (tpr)
		tpr_in(vx);
	timer_in(vx);
	if (unlikely(lodge_take_request(v, REQ_TLB)))
		flush_linear(vx);
	/* CR2 is nobody's: the host's own is read at its page faults only. */
	if (unlikely(v->st.cr2 != read_cr2()))
		asm volatile("mov %0, %%cr2" : : "r" (v->st.cr2) : "memory");
	lodge_context_enter();
	failed = vmx_enter(v->regs, vx->launched, lodge_spec(v), &vx->host_rsp);
	lodge_context_exit();
	v->st.cr2 = read_cr2();
	/* What nearly every exit asks for. */
	v->st.rip = vmread(G_RIP);
	v->st.rflags = vmread(G_RFLAGS);
	v->regs[R_SP] = vmread(G_RSP);
	v->st.int_shadow = vmx_shadow();
	v->avail = LG_RIP | LG_RSP | LG_RFLAGS | LG_SHADOW;
	if (unlikely(failed)) {
		failed_entry(vx, failed);
		return;
	}
	if (tpr)
		tpr_out(vx);
	vmx_decode(vx, vmread(EXIT_REASON));
	/* An entry that failed for the guest's state has not launched the VMCS (27.8). */
	vx->launched |= v->exit.kind != EXIT_FAIL_ENTRY;
}

/* Four levels reach 48 bits; five are of use where the processor has wider addresses. */
static int vmx_npt_levels(void)
{
	return vmx_caps.ept & EPTCAP_WALK5 && boot_cpu_data.x86_phys_bits > 48 ? 5 : 4;
}

const struct lodge_ops lodge_vmx_ops = {
	.name = "vmx",
	.extension = "VMX",
	.rival = "kvm_intel",
	.nested_format = KVM_STATE_NESTED_FORMAT_VMX,
	.switched = BIT(SW_STAR) | BIT(SW_LSTAR) | BIT(SW_CSTAR) | BIT(SW_SFMASK) | BIT(SW_TSC_AUX),
	.vcpu_size = sizeof(struct vmx_vcpu),
	.probe = vmx_probe,
	.remove = vmx_remove,
	.cpu_busy = vmx_cpu_busy,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.cpu_emergency = vmx_emergency,
	.vcpu_init = vmx_vcpu_init,
	.vcpu_free = vmx_vcpu_free,
	.vcpu_reset = vmx_vcpu_reset,
	.prepare = vmx_prepare,
	.hold = vmx_hold,
	.release = vmx_release,
	.window_begin = vmx_window_begin,
	.window_end = vmx_window_end,
	.run = vmx_run,
	.set_event = vmx_set_event,
	.set_windows = vmx_set_windows,
	.set_tpr = vmx_set_tpr,
	.state_load = vmx_state_load,
	.state_store = vmx_state_store,
	.quirks = LODGE_QUIRKS,
	.set_intercepts = vmx_set_intercepts,
	.set_tsc_offset = vmx_set_tsc_offset,
	.msr = vmx_msr,
	.nmi_blocked = vmx_nmi_blocked,
	.set_nmi_blocked = vmx_set_nmi_blocked,
	.keep = vmx_keep,
	.bring_back = vmx_bring_back,
	.pte_ops = &vmx_pte_ops,
	.pdptes = true,
	.npt_levels = vmx_npt_levels,
};
