/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the AMD back end share. */
#ifndef LODGE_SVM_H
#define LODGE_SVM_H

#include <linux/irq_work.h>

#include "core/core.h"
#include "mem/mem.h"
#include "svm/vmcb.h"

/* What the processor has beyond what Lodge demands: CPUID 8000000A.EDX. */
struct svm_caps {
	u32 nasids, min_asid;
	bool nrips, clean, flush_asid, decode, pause, pause_thresh, v_spec_ctrl;
};
extern struct svm_caps svm_caps __ro_after_init;

/* One of these per CPU; touched on that CPU with IRQs off. */
struct svm_cpu {
	struct page *hsave;		/* VM_HSAVE_PA */
	struct page *host;		/* VMSAVE of the host's state, once a window */
	u64 asid_gen;			/* bumped when the ASIDs ran out; 0: never enabled */
	u32 asid_next;
	u64 debugctl;			/* the host's, where it is not 0 and the guest runs */
	struct page *flusher;		/* the VMCB of a guest that only flushes: share.c */
	struct {
		u64 efer, hsave, ratio;
		bool reduce;		/* BP_CFG was not as a guest needs it */
	} theirs;			/* beside KVM: what it gets back when the window ends */
};
DECLARE_PER_CPU(struct svm_cpu, svm_cpu);

struct svm_vcpu {
	struct lodge_vcpu v;
	struct svm_vmcb *vmcb;
	u64 vmcb_pa;
	u64 asid_gen;			/* of the CPU when the ASID was taken */
	u64 host_pa;			/* this window: physical address of svm_cpu.host */
	u64 nmi_iret_rip;		/* the IRET that ends NMI blocking is about to run there */
	bool nmi_iret;			/* it has been intercepted; blocked until RIP moves */
	bool nmi_step;			/* single-stepping over it */
	bool step_tf;			/* the guest's own TF meanwhile */
	bool no_step;			/* not the instruction there: it would push TF */
	u64 no_step_rip;
	struct irq_work come_back;	/* an interrupt of the host's, for an exit as soon as the guest is entered */
	u64 cr0_hidden;			/* CD and NW of the guest's CR0, which the hardware does not get */
	u8 vtpr;			/* V_TPR as last synchronised */
};

static inline struct svm_vcpu *to_svm(struct lodge_vcpu *v)
{
	return container_of(v, struct svm_vcpu, v);
}

/* Beside KVM all guests of ours run under one ASID, which is flushed by itself where the processor can. */
static inline void svm_flush_shared(struct svm_vmcb *b)
{
	b->asid = svm_caps.nasids - 1;
	b->tlb_ctl = svm_caps.flush_asid ? SVM_TLB_FLUSH_ASID : SVM_TLB_FLUSH_ALL;
}

void svm_enter(u64 *regs, u64 vmcb_pa, u64 host_vmcb_pa, struct lodge_spec *spec);
void svm_enter_empty(u64 vmcb_pa);

bool svm_tlb_mmatch(void);
bool svm_reduce_speculation(bool on);	/* true: it was not so */

/* share.c */
int svm_share_create(void);
void svm_share_destroy(void);
void svm_ride(struct lodge_vcpu *v);
void svm_unride(void);
void svm_clean(void);

/* vmcb.c */
struct page *svm_page(gfp_t gfp);
int svm_maps_create(void);
void svm_maps_destroy(void);
int svm_vcpu_init(struct lodge_vcpu *v);
void svm_vcpu_free(struct lodge_vcpu *v);
void svm_vcpu_reset(struct lodge_vcpu *v);
void svm_set_intercepts(struct lodge_vcpu *v);
void svm_set_windows(struct lodge_vcpu *v, bool irq, bool nmi);
void svm_set_tpr(struct lodge_vcpu *v, u8 threshold);
void svm_set_event(struct lodge_vcpu *v);
void svm_set_tsc_offset(struct lodge_vcpu *v);
bool svm_nmi_blocked(struct lodge_vcpu *v);
void svm_set_nmi_blocked(struct lodge_vcpu *v, bool blocked);
void svm_step_exits(struct svm_vcpu *sv, bool on);
void svm_set_dr_exits(struct svm_vcpu *sv, bool on);
void svm_keep(struct lodge_vcpu *v, struct lodge_vendor_kept *k);
void svm_bring_back(struct lodge_vcpu *v, const struct lodge_vendor_kept *k);
int svm_msr(struct lodge_vcpu *v, u32 index, u64 *val, bool write);

/* state.c */
void svm_state_load(struct lodge_vcpu *v, u32 groups);
void svm_state_store(struct lodge_vcpu *v);
static inline u8 svm_shadow(const struct svm_vmcb *b)
{
	return b->int_state & INT_SHADOW ? KVM_X86_SHADOW_INT_STI : 0;
}

/* exit.c */
void svm_decode(struct svm_vcpu *sv);
#endif
