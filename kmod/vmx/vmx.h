/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the Intel back end share. */
#ifndef LODGE_VMX_H
#define LODGE_VMX_H

#include "core/core.h"
#include "mem/mem.h"
#include "vmx/vmcs.h"

/* What the processor can do, and the controls Lodge runs with: constant after the probe. */
struct vmx_caps {
	u32 revision;
	u32 pin, proc, proc2, exit, entry;	/* the controls every VMCS begins with */
	u64 ept;				/* IA32_VMX_EPT_VPID_CAP */
	u64 cr0_fixed, cr4_fixed;		/* bits that must be 1 in VMX operation */
	bool vpid, ept_ad, tpr_shadow, ple, perf_ctrl, pebs, ins_info;
	bool flush_l1d, timer, pml;
	u8 timer_shift;				/* the preemption timer's unit is so many bits of TSC */
};
extern struct vmx_caps vmx_caps __ro_after_init;

/* The preemption timer's longest run: from 2^25 on, some processors expire early (erratum EMR158). */
#define VMX_TIMER_MAX	(BIT(25) - 1)

/* The index that the page-modification log begins with. */
#define VMX_PML_LAST	511

/* One of these per CPU; touched on that CPU with IRQs off. */
struct vmx_cpu {
	struct page *vmxon;		/* the VMXON region */
	bool kept;			/* in VMX operation all the time, by us */
	struct vmx_vcpu *current_vmcs;	/* what VMPTRLD loaded last */
	struct list_head loaded;	/* vCPUs whose VMCS this CPU may hold in its caches */
};
DECLARE_PER_CPU(struct vmx_cpu, vmx_cpu);

/* What a VM exit leaves wrong in the host, as it was when the window began. */
struct vmx_host {
	struct desc_ptr gdt, idt;	/* of this CPU */
	u64 kernel_gs, debugctl, cr4;
	u64 pebs, test_ctrl;		/* 0 where they need not be put back */
	union {
		struct {
			u16 fs, gs, ds, es;
		};
		u64 selectors;		/* 0: all of them are null */
	};
	u16 ldt;
};

struct vmx_vcpu {
	struct lodge_vcpu v;
	struct page *vmcs;
	struct page *vapic;		/* virtual-APIC page: TPR only */
	u64 *pml;			/* 4 KiB, the page-modification log, or NULL */
	struct list_head on_cpu;	/* vmx_cpu.loaded */
	int loaded_cpu;			/* whose caches hold the VMCS; -1: it is in memory */
	bool launched;
	bool borrowed;			/* this CPU is in VMX operation for the moment only */
	bool riding;			/* it is so by KVM, whose VMCS was current */
	u64 theirs;			/* that VMCS's address; all ones: none */
	u16 vpid;			/* 0: none was left */
	u32 proc;			/* PROC_CTLS as written */
	u32 entry;			/* ENTRY_CTLS as written */
	u32 timer;			/* the preemption timer as written */
	u64 host_rsp, host_cr3, host_cr4, host_fs_base;	/* as written */
	u64 idt_info;			/* IDT-vectoring information of the last exit */
	struct vmx_host host;
	u8 tpr;				/* in the virtual-APIC page as last synchronised */
};

static inline struct vmx_vcpu *to_vmx(struct lodge_vcpu *v)
{
	return container_of(v, struct vmx_vcpu, v);
}

/* enter.S: 0, or the RFLAGS of a VMLAUNCH or VMRESUME that failed */
u64 vmx_enter(u64 *regs, bool launched, struct lodge_spec *spec, u64 *host_rsp);
extern const char vmx_exit_label[];

/* vmcs.c */
int vmx_maps_create(void);
void vmx_maps_destroy(void);
int vmx_vcpu_init(struct lodge_vcpu *v);
void vmx_vcpu_free(struct lodge_vcpu *v);
void vmx_vcpu_reset(struct lodge_vcpu *v);
void vmx_set_intercepts(struct lodge_vcpu *v);
void vmx_set_windows(struct lodge_vcpu *v, bool irq, bool nmi);
void vmx_set_tpr(struct lodge_vcpu *v, u8 threshold);
void vmx_set_event(struct lodge_vcpu *v);
void vmx_set_tsc_offset(struct lodge_vcpu *v);
void vmx_set_dr_exits(struct vmx_vcpu *vx, bool on);
bool vmx_nmi_blocked(struct lodge_vcpu *v);
void vmx_set_nmi_blocked(struct lodge_vcpu *v, bool blocked);
void vmx_keep(struct lodge_vcpu *v, struct lodge_vendor_kept *k);
void vmx_bring_back(struct lodge_vcpu *v, const struct lodge_vendor_kept *k);
int vmx_msr(struct lodge_vcpu *v, u32 index, u64 *val, bool write);

/* state.c */
void vmx_state_load(struct lodge_vcpu *v, u32 groups);
void vmx_state_store(struct lodge_vcpu *v);

static inline u8 vmx_shadow(void)
{
	u32 block = vmread(G_INTERRUPTIBILITY);

	if (likely(!(block & (BLOCK_STI | BLOCK_MOV_SS))))
		return 0;
	return block & BLOCK_STI ? KVM_X86_SHADOW_INT_STI : KVM_X86_SHADOW_INT_MOV_SS;
}

/* vmx.c */
void vmx_syscall_msrs(struct vmx_vcpu *vx, u64 efer);
void vmx_hand_in_log(struct vmx_vcpu *vx);

/* exit.c */
void vmx_decode(struct vmx_vcpu *vx, u32 reason);

/* caps.c */
int vmx_probe_caps(void);

/* host.c: VMX operation, and whose VMCS is current */
void vmx_on(void *unused);
void vmx_off(void *unused);
void vmx_emergency(void);
void vmx_forget(struct vmx_vcpu *vx);
int vmx_hold(struct lodge_vcpu *v);
void vmx_release(struct lodge_vcpu *v);
void vmx_prepare(struct lodge_vcpu *v);
bool vmx_get(struct vmx_vcpu *vx, unsigned long *flags);
void vmx_put(struct vmx_vcpu *vx, unsigned long flags);
void vmx_host_save(struct vmx_vcpu *vx);
void vmx_host_restore(struct vmx_vcpu *vx);

/* check.c: the rule of SDM 3, chapter 27, that the current VMCS breaks */
#ifdef CONFIG_LODGE_DEBUG
void vmx_check(struct vmx_vcpu *vx);
#else
static inline void vmx_check(struct vmx_vcpu *vx) { }
#endif
#endif
