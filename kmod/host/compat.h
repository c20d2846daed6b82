/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that depends on which kernel it is, and nothing else in the tree does. Written for the newest
 * one: the others are back-filled here, by what their headers define, or by what probe.mk has found
 * (LODGE_HAVE_...). No version says anything: features are taken back to older kernels.
 */
#ifndef LODGE_COMPAT_H
#define LODGE_COMPAT_H

#include <linux/kvm.h>
#include <linux/nospec.h>
#include <linux/types.h>
#include <asm/asm.h>
#include <asm/cpufeature.h>

#include "host/msr.h"

/* -- core -- */

/*
 * CR4.VMXE for good, the kernel's copy of CR4 included; IRQs off. false where modules cannot reach that
 * copy: whoever sets the bit has to clear it before interrupts come on.
 */
#ifdef LODGE_HAVE_CR4
#include <asm/tlbflush.h>
static inline bool lodge_cr4_keep_vmxe(bool on)
{
	if (on)
		cr4_set_bits_irqsoff(X86_CR4_VMXE);
	else
		cr4_clear_bits_irqsoff(X86_CR4_VMXE);
	return true;
}
#else
static inline bool lodge_cr4_keep_vmxe(bool on)
{
	return false;
}
#endif

/* All modules, as sysfs has them; NULL where this one is built in, and so here before the first. */
#ifdef MODULE
#include <linux/module.h>
#define lodge_module_set() (THIS_MODULE->mkobj.kobj.kset)
#else
#define lodge_module_set() NULL
#endif

/* Kernels without the slot look for themselves when they crash. */
#ifdef LODGE_HAVE_EMERGENCY
#include <asm/reboot.h>
#define lodge_emergency_register(fn) cpu_emergency_register_virt_callback(fn)
#define lodge_emergency_unregister(fn) cpu_emergency_unregister_virt_callback(fn)
#else
#define lodge_emergency_register(fn) ((void)(fn))
#define lodge_emergency_unregister(fn) ((void)(fn))
#endif

/* A guest's split locks: the kernel's policy where modules may ask for it; else they are not looked for. */
#ifdef LODGE_HAVE_SPLIT_LOCK
#include <asm/cpu.h>
#define lodge_split_lock(rip) handle_guest_split_lock(rip)
#define lodge_split_lock_off() false
#else
#define lodge_split_lock(rip) ((void)(rip), false)
#define lodge_split_lock_off() boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT)
#endif

/* A syscore's callbacks got an argument when it got a data pointer. */
#ifdef LODGE_HAVE_SYSCORE_DATA
#define LODGE_SYSCORE(name, suspend_fn, resume_fn)				\
	static int name##_suspend(void *data) { return suspend_fn(); }		\
	static void name##_resume(void *data) { resume_fn(); }			\
	static const struct syscore_ops name##_ops = {				\
		.suspend = name##_suspend, .resume = name##_resume,		\
	};									\
	static struct syscore name = { .ops = &name##_ops }
#define lodge_syscore_register(s) register_syscore(s)
#define lodge_syscore_unregister(s) unregister_syscore(s)
#else
#define LODGE_SYSCORE(name, suspend_fn, resume_fn)				\
	static struct syscore_ops name = { .suspend = suspend_fn, .resume = resume_fn }
#define lodge_syscore_register(s) register_syscore_ops(s)
#define lodge_syscore_unregister(s) unregister_syscore_ops(s)
#endif

/* Kernels without it leave CR4.MCE clear: no #MC is ever raised there. */
#ifdef CONFIG_X86_MCE
#include <asm/mce.h>
#define lodge_machine_check(regs) do_machine_check(regs)
#else
#define lodge_machine_check(regs) ((void)(regs))
#endif

/* VMSCAPE: userspace must not run on what the guest taught the branch predictors. */
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
#define lodge_vmscape_exit() do {						\
	if (boot_cpu_has(X86_FEATURE_IBPB_EXIT_TO_USER))			\
		this_cpu_write(x86_ibpb_exit_to_user, true);			\
} while (0)
#else
#define lodge_vmscape_exit() do { } while (0)
#endif

#ifdef X86_FEATURE_USE_IBPB
#define LODGE_FEATURE_IBPB X86_FEATURE_USE_IBPB
#else
#define LODGE_FEATURE_IBPB X86_FEATURE_IBPB
#endif

/* Features that this kernel has no number for: it does not know whether they are there. */
#define LODGE_NO_FEATURE 0xffff
#define lodge_kernel_has(feature) ((feature) != LODGE_NO_FEATURE && boot_cpu_has(feature))
#ifdef X86_FEATURE_SRSO_BP_SPEC_REDUCE
#define LODGE_FEATURE_BP_SPEC_REDUCE X86_FEATURE_SRSO_BP_SPEC_REDUCE
#else
#define LODGE_FEATURE_BP_SPEC_REDUCE LODGE_NO_FEATURE
#endif
#ifndef X86_FEATURE_BUS_LOCK_DETECT
#define X86_FEATURE_BUS_LOCK_DETECT LODGE_NO_FEATURE
#endif
#ifndef X86_FEATURE_VERW_CLEAR
#define X86_FEATURE_VERW_CLEAR LODGE_NO_FEATURE
#define X86_FEATURE_TSA_SQ_NO LODGE_NO_FEATURE
#define X86_FEATURE_TSA_L1_NO LODGE_NO_FEATURE
#endif

#include <asm/msr-index.h>
#ifndef MSR_AMD64_SYSCFG
#define MSR_AMD64_SYSCFG MSR_K8_SYSCFG
#endif

/* cpu/msr.c: bugs that this kernel cannot tell are taken to be there. */
#ifndef X86_BUG_GDS
#define X86_BUG_GDS X86_FEATURE_ALWAYS
#endif
#ifndef X86_BUG_RFDS
#define X86_BUG_RFDS X86_FEATURE_ALWAYS
#endif
#ifndef X86_BUG_ITS
#define X86_BUG_ITS X86_FEATURE_ALWAYS
#endif

/* mem/fault.c: a signal ends a fault that waits for the program; older kernels wait until it is killed. */
#ifndef LODGE_HAVE_FOLL_INTERRUPTIBLE
#define FOLL_INTERRUPTIBLE 0
#endif

/* vcpu.c */
#ifdef LODGE_HAVE_VM_FLAGS_SET
#define lodge_vm_flags_set(vma, flags) vm_flags_set(vma, flags)
#else
#define lodge_vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))
#endif

/* irqchip/eventfd.c: an entry that is woken first. Where there is none the last one to come is. */
#ifndef WQ_FLAG_PRIORITY
#define WQ_FLAG_PRIORITY 0
#endif

/* xfer.c: what the kernel does on the way into a guest. */
#ifdef LODGE_HAVE_ENTRY_VIRT
#define LODGE_XFER_HEADER "linux/entry-virt.h"
#else
#define LODGE_XFER_HEADER "linux/entry-kvm.h"
#endif
#ifdef LODGE_HAVE_XFER_VOID
#define lodge_xfer_handle(x) ((void)(x), xfer_to_guest_mode_handle_work())
#else
#define lodge_xfer_handle(x) xfer_to_guest_mode_handle_work(x)
#endif

/* Where smp_send_reschedule() traces it wants the event declared. */
#ifdef LODGE_HAVE_IPI_TRACE
#include <trace/events/ipi.h>
#endif
#ifdef LODGE_HAVE_RCU_NOTE_VOID
#define lodge_rcu_note() rcu_virt_note_context_switch()
#else
#define lodge_rcu_note() rcu_virt_note_context_switch(smp_processor_id())
#endif

#ifndef LODGE_HAVE_GUEST_TIMING
#define guest_timing_enter_irqoff() do {					\
	if (vtime_accounting_enabled_this_cpu())				\
		vtime_guest_enter(current);					\
	else									\
		current->flags |= PF_VCPU;					\
} while (0)
#define guest_timing_exit_irqoff() do {						\
	if (vtime_accounting_enabled_this_cpu())				\
		vtime_guest_exit(current);					\
	else									\
		current->flags &= ~PF_VCPU;					\
} while (0)
#ifdef CONFIG_CONTEXT_TRACKING
#define guest_context_enter_irqoff() __context_tracking_enter(CONTEXT_GUEST)
#define guest_context_exit_irqoff() __context_tracking_exit(CONTEXT_GUEST)
#else
#define guest_context_enter_irqoff() do { } while (0)
#define guest_context_exit_irqoff() do { } while (0)
#endif
#endif
/* kvm_run.immediate_exit: newer headers rename what the kernel must not read twice. */
#ifdef HINT_UNSAFE_IN_KVM
#define lodge_immediate_exit(run) READ_ONCE((run)->HINT_UNSAFE_IN_KVM(immediate_exit))
#else
#define lodge_immediate_exit(run) READ_ONCE((run)->immediate_exit)
#endif

#include "host/compat-kvm.h"

/* -- memory -- */

#include <linux/mm.h>

/* Second-level tables as the host counts them: SecPageTables in /proc/meminfo; 5.10 has no such line. */
static inline void lodge_count_tables(struct page *p, int n)
{
#ifdef LODGE_HAVE_SECONDARY_PAGETABLE
	mod_node_page_state(page_pgdat(p), NR_SECONDARY_PAGETABLE, n);
#endif
}

/* The mmu notifier's *_young() answers. */
#ifdef LODGE_HAVE_YOUNG_BOOL
#define lodge_young_t bool
#else
#define lodge_young_t int
#endif

/* The host frame of an address in a VM_PFNMAP mapping; mmap_lock held. 0, or an errno. */
#ifdef LODGE_HAVE_PFNMAP
static inline int lodge_follow_pfn(struct vm_area_struct *vma, unsigned long addr, u64 *pfn, bool *writable)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };
	int ret = follow_pfnmap_start(&args);

	if (ret)
		return ret;
	*pfn = args.pfn;
	*writable = args.writable;
	follow_pfnmap_end(&args);
	return 0;
}
#else
#ifdef LODGE_HAVE_FOLLOW_PTE_VMA
#define LODGE_FOLLOW_IN(vma) (vma)
#else
#define LODGE_FOLLOW_IN(vma) ((vma)->vm_mm)
#endif
static inline int lodge_follow_pfn(struct vm_area_struct *vma, unsigned long addr, u64 *pfn, bool *writable)
{
	spinlock_t *ptl;
	pte_t *pte;
	int ret = follow_pte(LODGE_FOLLOW_IN(vma), addr, &pte, &ptl);

	if (ret)
		return ret;
	__acquire(ptl);		/* for sparse: follow_pte() does not say so */
	*pfn = pte_pfn(*pte);
	*writable = pte_write(*pte);
	pte_unmap_unlock(pte, ptl);
	return 0;
}
#endif

/* A buffer that is written before it is read: CONFIG_INIT_STACK_ALL_ZERO need not clear it first. */
#if __has_attribute(uninitialized)
#define lodge_not_cleared __attribute__((uninitialized))
#else
#define lodge_not_cleared
#endif

/* -- irqchip -- */
#ifdef LODGE_HAVE_HRTIMER_SETUP
#define lodge_hrtimer_setup(t, fn, clock, mode) hrtimer_setup(t, fn, clock, mode)
#else
#define lodge_hrtimer_setup(t, fn, clock, mode) do {				\
	hrtimer_init(t, clock, mode);						\
	(t)->function = fn;							\
} while (0)
#endif

#ifdef LODGE_HAVE_EVENTFD_SIGNAL_ONE
#define lodge_eventfd_signal(ctx) eventfd_signal(ctx)
#else
#define lodge_eventfd_signal(ctx) eventfd_signal(ctx, 1)
#endif

#endif
