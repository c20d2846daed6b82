/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the Intel back end share. */
#ifndef LODGE_VMX_H
#define LODGE_VMX_H

#include "../lodge.h"
#include "vmcs.h"

/* What the processor can do, and the controls Lodge runs with: constant after the probe. */
struct vmx_caps {
	u32 revision;
	u32 pin, proc, proc2, exit, entry;	/* the controls every VMCS begins with */
	u64 ept;				/* IA32_VMX_EPT_VPID_CAP */
	u64 cr0_fixed, cr4_fixed;		/* bits that must be 1 in VMX operation */
	bool vpid, ept_ad, ept_2m, invept_one, tpr_shadow, ple, perf_ctrl, wbinvd_exit;
	bool spec_ctrl, tsc_aux, l1tf;
};
extern struct vmx_caps vmx_caps __ro_after_init;

struct vmx_spec {
	u64 guest, host;
};

/* One of these per CPU; touched on that CPU with IRQs off. */
struct vmx_cpu {
	struct page *vmxon;		/* the VMXON region */
	struct vmx_vcpu *current_vmcs;	/* what VMPTRLD loaded last */
	u64 tsc_aux;
	u64 star, lstar, cstar, sfmask;	/* the host's, constant per CPU */
};
DECLARE_PER_CPU(struct vmx_cpu, vmx_cpu);

struct vmx_vm {
	u64 eptp;
};

struct vmx_vcpu {
	struct lodge_vcpu v;
	struct page *vmcs;
	struct page *vapic;		/* virtual-APIC page: TPR only */
	u8 *msr_bitmap;			/* 4 KiB */
	int loaded_cpu;			/* whose VMCS cache holds it; -1: cleared */
	bool launched;
	u16 vpid;
	u32 proc;			/* PROC_CTLS as written */
	u32 entry;			/* ENTRY_CTLS as written */
	u64 host_rsp;			/* H_RSP as written */
	u64 host_cr3, host_cr4;		/* as written */
	u64 exit_qual;
	u32 idt_info;			/* IDT-vectoring information of the last exit */
	u32 entry_failed;		/* VM-instruction error, 0 when it entered */
	struct vmx_spec spec;
	struct desc_ptr host_gdt, host_idt;
	u64 host_kernel_gs;
	u16 host_fs_sel, host_gs_sel, host_ds_sel, host_es_sel;
	bool syscall_live;		/* this window runs with the guest's STAR .. SFMASK */
	bool kernel_gs_live;
	u8 tpr;				/* in the virtual-APIC page as last synchronised */
};

static inline struct vmx_vcpu *to_vmx(struct lodge_vcpu *v)
{
	return container_of(v, struct vmx_vcpu, v);
}

/* enter.S: 0, or RFLAGS' CF or ZF when VMLAUNCH or VMRESUME failed */
u64 vmx_enter(u64 *regs, bool launched, struct vmx_spec *spec, u64 *host_rsp);

/* vmcs.c */
int vmx_vcpu_init(struct lodge_vcpu *v);
void vmx_vcpu_free(struct lodge_vcpu *v);
void vmx_vcpu_reset(struct lodge_vcpu *v);
void vmx_set_intercepts(struct lodge_vcpu *v);
void vmx_set_windows(struct lodge_vcpu *v, bool irq, bool nmi);
void vmx_set_tpr(struct lodge_vcpu *v, u8 threshold);
void vmx_set_event(struct lodge_vcpu *v);
void vmx_set_tsc_offset(struct lodge_vcpu *v);
bool vmx_nmi_blocked(struct lodge_vcpu *v);
void vmx_set_nmi_blocked(struct lodge_vcpu *v, bool blocked);
int vmx_msr(struct lodge_vcpu *v, u32 index, u64 *val, bool write);

/* state.c */
void vmx_state_load(struct lodge_vcpu *v, u32 groups);
void vmx_state_store(struct lodge_vcpu *v);

/* exit.c */
void vmx_decode(struct vmx_vcpu *vx, u32 reason);

/* vmx.c: make the VMCS current outside the window; IRQs are off in between */
unsigned long vmx_get(struct vmx_vcpu *vx);
void vmx_put(struct vmx_vcpu *vx, unsigned long flags);
#endif
