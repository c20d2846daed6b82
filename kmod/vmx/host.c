// SPDX-License-Identifier: GPL-2.0
/*
 * VMX operation on a CPU, whose VMCS is current there, and the host state that a VM exit does
 * not bring back.
 *
 * Two ways to be in VMX operation. Where the kernel lets modules change CR4 together with its shadow
 * ("kept"), VMXON happens once and lasts while VMs exist; a VMCS then stays in the caches of the CPU
 * it ran on last, and the CPU that wants it next has it cleared there first, by IPI. Elsewhere,
 * and on a CPU that is on its way out, VMX operation is borrowed: on and off again with interrupts
 * off, CR4 put back before they come on, the VMCS cleared. Outside a window vmx_get() and vmx_put() do
 * the same for the few accesses that need a VMCS, so that nothing else here has to know which way it is.
 *
 * An exit brings back what the VMCS's host area holds and no more (SDM 3, 28.5): limits of the GDT, IDT
 * and TSS are set to fixed values, DS, ES, FS, GS and LDTR are nulled, DEBUGCTL is cleared.
 * All of these are put right once, when the window ends.
 *
 * Two MSRs would go on to work in the guest. PEBS writes records to the host's addresses: where the processor
 * does not keep it to the mode that set it up it has to be off before the entry, for the list of the entry is too
 * late (a record may be under way; KVM found this). Split-lock detection is off where nobody could tell the kernel.
 *
 * Per-CPU data: its own CPU, IRQs off. v->loaded_cpu is written by that CPU; the vCPU's thread, the only
 * one that loads it, reads it. No locks.
 */
#include <linux/io.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/mmu_context.h>	/* load_gs_index(), by whatever name its header has */
#include <asm/msr-index.h>
#include <asm/segment.h>
#include <asm/special_insns.h>

#include "host/host.h"
#include "vmx/vmx.h"

DEFINE_PER_CPU(struct vmx_cpu, vmx_cpu);

static void write_cr4(u64 val)
{
	asm volatile("mov %0, %%cr4" : : "r" (val) : "memory");
}

/* VMXON, VMCLEAR, VMPTRLD; true when the processor refuses, be it by a fault. */
#define VMX_OP(name)						\
static bool op_##name(u64 pa)					\
{								\
	bool failed = true;					\
								\
	asm volatile("1: " #name " %1\n\tsetna %0\n2:\n" _ASM_EXTABLE(1b, 2b)	\
		     : "+q" (failed) : "m" (pa) : "cc", "memory");	\
	return failed;						\
}
VMX_OP(vmxon)
VMX_OP(vmclear)
VMX_OP(vmptrld)

/* The address of the current VMCS; true where the processor is not in VMX operation. */
static bool op_vmptrst(u64 *pa)
{
	bool failed = true;

	asm volatile("1: vmptrst %1\n\tsetna %0\n2:\n" _ASM_EXTABLE(1b, 2b) : "+q" (failed), "=m" (*pa) : : "cc");
	return failed;
}

static void invalidate_all(void)
{
	struct {
		u64 id, addr;
	} none = { 0, 0 };

	asm volatile("invept %0, %1" : : "m" (none), "r" (2ul) : "cc", "memory");
	if (vmx_caps.vpid)
		asm volatile("invvpid %0, %1" : : "m" (none), "r" (2ul) : "cc", "memory");
}

/* The VMCS back to memory. On the CPU that holds it, in VMX operation. */
static void clear_here(void *vcpu)
{
	struct vmx_vcpu *vx = vcpu;
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);

	if (vx->loaded_cpu != smp_processor_id())
		return;		/* the CPU went down meanwhile and took it out */
	op_vmclear(page_to_phys(vx->vmcs));
	if (c->current_vmcs == vx)
		c->current_vmcs = NULL;
	list_del(&vx->on_cpu);
	vx->launched = false;
	smp_store_release(&vx->loaded_cpu, -1);	/* pairs with vmx_prepare() */
}

static noinline void make_current(struct vmx_vcpu *vx)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);

	if (vx->loaded_cpu < 0) {
		/* The first VMCLEAR gives the region its form; a later one does no harm. */
		op_vmclear(page_to_phys(vx->vmcs));
		list_add(&vx->on_cpu, &c->loaded);
		vx->loaded_cpu = smp_processor_id();
	}
	if (c->current_vmcs != vx) {
		op_vmptrld(page_to_phys(vx->vmcs));
		c->current_vmcs = vx;
	}
}

/**
 * vmx_on - this CPU into VMX operation for as long as VMs live, where the kernel allows it
 * @unused: for on_each_cpu()
 *
 * Context: IRQs off; CR4.VMXE is clear.
 */
void vmx_on(void *unused)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);

	if (!lodge_cr4_keep_vmxe(true))
		return;
	c->kept = !op_vmxon(page_to_phys(c->vmxon));
	if (c->kept)
		invalidate_all();
	else
		lodge_cr4_keep_vmxe(false);
}

/**
 * vmx_off - undo vmx_on(): every VMCS to memory, VMXOFF
 * @unused: for on_each_cpu()
 *
 * Context: IRQs off.
 */
void vmx_off(void *unused)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *vx, *next;

	if (!c->kept)
		return;
	list_for_each_entry_safe(vx, next, &c->loaded, on_cpu)
		clear_here(vx);
	asm volatile("vmxoff" : : : "cc", "memory");
	c->kept = false;
	lodge_cr4_keep_vmxe(false);
}

/**
 * vmx_emergency - the kernel is crashing: this CPU out of VMX operation
 *
 * The lists and the kernel's copy of CR4 may be in any state, and nobody comes back to them. INIT is
 * blocked in VMX operation, and a CR4 without VMXE faults (SDM 3, 24.8).
 *
 * Context: any, NMI too.
 */
void vmx_emergency(void)
{
	u64 cr4 = __read_cr4();

	if (!(cr4 & X86_CR4_VMXE))
		return;
	/* An NMI between CR4 and VMXON finds that the instruction does not exist. */
	asm volatile("1: vmxoff\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
	write_cr4(cr4 & ~(u64)X86_CR4_VMXE);
}

/*
 * 0; -EBUSY when somebody else has it. Beside KVM a CR4 with VMXE says nothing: KVM may be about to execute VMXON, or
 * have executed VMXOFF. So ours is the question, and where it fails and a VMCS pointer can be read KVM is in.
 */
static noinline int borrow(struct vmx_vcpu *vx)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	u64 cr4 = __read_cr4();

	if (cr4 & X86_CR4_VMXE && !lodge_host_shared())
		return -EBUSY;
	vx->host.cr4 = cr4;
	write_cr4(cr4 | X86_CR4_VMXE);
	vx->borrowed = !op_vmxon(page_to_phys(c->vmxon));
	if (vx->borrowed)
		return 0;
	vx->riding = cr4 & X86_CR4_VMXE && !op_vmptrst(&vx->theirs);
	if (vx->riding)
		return 0;
	write_cr4(cr4);
	return -EBUSY;
}

static void give_back(struct vmx_vcpu *vx)
{
	clear_here(vx);
	if (vx->riding) {
		if (vx->theirs != ~0ull)
			op_vmptrld(vx->theirs);
	} else {
		asm volatile("vmxoff" : : : "cc", "memory");
		write_cr4(vx->host.cr4);
	}
	vx->borrowed = vx->riding = false;
}

/**
 * vmx_prepare - where the VMCS is in another CPU's caches, have it cleared there
 * @v: the vCPU, in its thread
 *
 * Context: IRQs on. Only this thread loads the VMCS, so it stays cleared until vmx_hold() or
 * vmx_get(), wherever the thread goes meanwhile.
 */
void vmx_prepare(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);
	int cpu = smp_load_acquire(&vx->loaded_cpu);	/* pairs with clear_here() */

	if (cpu >= 0 && cpu != raw_smp_processor_id())
		smp_call_function_single(cpu, clear_here, vx, 1);
}

/**
 * vmx_forget - the VMCS out of every CPU's caches: its page is to be freed
 * @vx: the vCPU; nobody runs it any more
 *
 * Context: IRQs on.
 */
void vmx_forget(struct vmx_vcpu *vx)
{
	int cpu = smp_load_acquire(&vx->loaded_cpu);	/* pairs with clear_here() */

	if (cpu >= 0)
		smp_call_function_single(cpu, clear_here, vx, 1);
}

static noinline int hold(struct vmx_vcpu *vx)
{
	int ret;

	if (unlikely(vx->loaded_cpu >= 0 && vx->loaded_cpu != smp_processor_id()))
		return -EAGAIN;
	if (!this_cpu_read(vmx_cpu.kept)) {
		ret = borrow(vx);
		if (ret)
			return ret;
	}
	make_current(vx);
	return 0;
}

/**
 * vmx_hold - VMX operation for a window, the VMCS current
 * @v: the vCPU
 *
 * Context: IRQs off.
 * Return: 0; -EAGAIN when vmx_prepare() has to be called; -EBUSY when another hypervisor has the CPU.
 */
int vmx_hold(struct lodge_vcpu *v)
{
	struct vmx_vcpu *vx = to_vmx(v);

	/* Only in VMX operation that is kept does anything stay current. */
	return likely(this_cpu_read(vmx_cpu.current_vmcs) == vx) ? 0 : hold(vx);
}

/**
 * vmx_release - end what vmx_hold() began
 * @v: the vCPU
 *
 * Context: IRQs off.
 */
void vmx_release(struct lodge_vcpu *v)
{
	if (to_vmx(v)->borrowed || to_vmx(v)->riding)
		give_back(to_vmx(v));
}

/**
 * vmx_get - make a vCPU's VMCS current, in or outside the window
 * @vx: the vCPU, in its thread or before anyone runs it
 * @flags: for vmx_put()
 *
 * Return: false where another hypervisor has taken VMX meanwhile, which only a kernel that keeps
 * CR4 from modules lets happen: the VM cannot go on.
 */
bool vmx_get(struct vmx_vcpu *vx, unsigned long *flags)
{
	int ret;

	*flags = 0;
	if (vx->v.mode == MODE_WINDOW)
		return true;
	do {
		vmx_prepare(&vx->v);
		local_irq_save(*flags);
		ret = vmx_hold(&vx->v);
		if (ret)
			local_irq_restore(*flags);
	} while (ret == -EAGAIN);
	if (ret)
		lodge_vm_kill(vx->v.vm, "another hypervisor has taken VMX");
	return !ret;
}

/**
 * vmx_put - end what vmx_get() began
 * @vx: the vCPU
 * @flags: from vmx_get()
 */
void vmx_put(struct vmx_vcpu *vx, unsigned long flags)
{
	if (vx->v.mode == MODE_WINDOW)
		return;
	vmx_release(&vx->v);
	local_irq_restore(flags);
}

/* -- what an exit does not bring back -- */

static u64 tss_base(const struct desc_ptr *gdt)
{
	const struct desc_struct *d = (void *)(gdt->address + GDT_ENTRY_TSS * 8);

	return d->base0 | (u64)d->base1 << 16 | (u64)d->base2 << 24 | (u64)*(u32 *)(d + 1) << 32;
}

/* The host fields that depend on the CPU. */
static noinline void write_cpu_fields(struct vmx_vcpu *vx)
{
	store_idt(&vx->host.idt);
	native_store_gdt(&vx->host.gdt);
	vmwrite(H_GDTR_BASE, vx->host.gdt.address);
	vmwrite(H_IDTR_BASE, vx->host.idt.address);
	vmwrite(H_TR_BASE, tss_base(&vx->host.gdt));
	vmwrite(H_GS_BASE, lodge_rdmsr(MSR_GS_BASE));
	vmwrite(H_SYSENTER_CS, (u32)lodge_rdmsr(MSR_IA32_SYSENTER_CS));
	vmwrite(H_SYSENTER_ESP, lodge_rdmsr(MSR_IA32_SYSENTER_ESP));
	vmwrite(H_SYSENTER_EIP, lodge_rdmsr(MSR_IA32_SYSENTER_EIP));
}

static u64 turn_off(u32 msr, u64 bits)
{
	u64 val = lodge_rdmsr(msr);

	if (val & bits)
		lodge_wrmsr(msr, val & ~bits);
	return val & bits ? val : 0;
}

/**
 * vmx_host_save - take down what vmx_host_restore() puts back, fill in the VMCS's host area
 * @vx: the vCPU; window, VMCS current
 */
void vmx_host_save(struct vmx_vcpu *vx)
{
	struct vmx_host *h = &vx->host;
	u64 cr3 = __read_cr3(), cr4 = __read_cr4(), fs_base;

	if (unlikely(vx->v.moved))
		write_cpu_fields(vx);
	asm volatile("mov %%fs, %0" : "=m" (h->fs));
	asm volatile("mov %%gs, %0" : "=m" (h->gs));
	asm volatile("mov %%ds, %0" : "=m" (h->ds));
	asm volatile("mov %%es, %0" : "=m" (h->es));
	store_ldt(h->ldt);
	fs_base = x86_fsbase_read_cpu();
	if (fs_base != vx->host_fs_base) {
		vx->host_fs_base = fs_base;
		vmwrite(H_FS_BASE, fs_base);
	}
	h->kernel_gs = lodge_rdmsr(MSR_KERNEL_GS_BASE);
	h->debugctl = lodge_rdmsr(MSR_IA32_DEBUGCTLMSR);
	if (unlikely(vmx_caps.pebs))
		h->pebs = turn_off(MSR_IA32_PEBS_ENABLE, ~0ull);
	if (lodge_split_lock_off())
		h->test_ctrl = turn_off(MSR_TEST_CTRL, MSR_TEST_CTRL_SPLIT_LOCK_DETECT);
	if (vmx_caps.perf_ctrl)
		vmwrite(H_PERF_GLOBAL_CTRL, lodge_rdmsr(MSR_CORE_PERF_GLOBAL_CTRL));
	if (cr3 != vx->host_cr3) {
		vx->host_cr3 = cr3;
		vmwrite(H_CR3, cr3);
	}
	if (cr4 != vx->host_cr4) {
		vx->host_cr4 = cr4;
		vmwrite(H_CR4, cr4);
	}
}

/* Programs of 64 bits seldom use any. */
static noinline void restore_selectors(const struct vmx_host *h)
{
	if (h->ldt)
		asm volatile("lldt %0" : : "m" (h->ldt));
	if (h->ds | h->es) {
		loadsegment(ds, h->ds);
		loadsegment(es, h->es);
	}
	if (h->fs) {
		u64 base = lodge_rdmsr(MSR_FS_BASE);

		loadsegment(fs, h->fs);
		lodge_wrmsr(MSR_FS_BASE, base);
	}
	if (h->gs)
		load_gs_index(h->gs);
}

/**
 * vmx_host_restore - the host's tables, segments and MSRs as they were when the window began
 * @vx: the vCPU; window
 */
void vmx_host_restore(struct vmx_vcpu *vx)
{
	struct vmx_host *h = &vx->host;

	native_load_gdt(&h->gdt);
	native_load_idt(&h->idt);
	invalidate_tss_limit();
	if (unlikely(h->selectors | h->ldt))
		restore_selectors(h);
	lodge_wrmsr(MSR_KERNEL_GS_BASE, h->kernel_gs);
	if (unlikely(h->debugctl))
		lodge_wrmsr(MSR_IA32_DEBUGCTLMSR, h->debugctl);
	if (unlikely(h->pebs))
		lodge_wrmsr(MSR_IA32_PEBS_ENABLE, h->pebs);
	if (unlikely(h->test_ctrl))
		lodge_wrmsr(MSR_TEST_CTRL, h->test_ctrl);
}
