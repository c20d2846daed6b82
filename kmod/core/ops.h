/* SPDX-License-Identifier: GPL-2.0 */
/* What a vendor back end does for the rest, and how it is reached; the module's parameters that others read. */
#ifndef LODGE_CORE_OPS_H
#define LODGE_CORE_OPS_H

#include <linux/static_call.h>
#include <linux/types.h>

#include "core/vcpu.h"

/* How one format of second-level entry is written: EPT (vmx/) or NPT (svm/). */
struct lodge_pte_ops {
	u64 present;		/* any of these set: the entry is present */
	u64 table;		/* all bits of an entry that points to a table */
	u64 leaf;		/* all bits of a readable, executable, write-back leaf */
	u64 leaf_uc;		/* the same, uncached */
	u64 write;
	u64 large;		/* the leaf is a 2M or 1G one */
	u64 accessed, dirty;	/* 0 where the hardware keeps none */
	u64 log;		/* dirty, where the hardware lists what it sets it for; or 0 */
	u64 addr;		/* mask of the physical address */
	int top_leaf;		/* the highest level of a leaf: 2 or, with 1G, 3 */
};

/* What a vendor alone knows of a vCPU beside its registers: frozen with them. */
struct lodge_vendor_kept {
	u64 words[3];
	u32 flags;
};

/**
 * struct lodge_ops - what a vendor back end does for the core
 *
 * "window" hooks are called with interrupts off between lodge_host_enter() and _leave().
 * All others run in the vCPU's thread with vcpu->mutex held, unless they say otherwise.
 */
struct lodge_ops {
	const char *name;			/* "svm", "vmx" */
	const char *extension;			/* "SVM", "VMX": as messages name it */
	const char *rival;			/* KVM's module that uses it */
	u16 nested_format;			/* KVM_STATE_NESTED_FORMAT_* */
	u32 switched;				/* BIT(SW_*): MSRs switched by hand, host/switch.h */
	size_t vcpu_size;

	int (*probe)(void);			/* load: 0, -ENODEV, -EOPNOTSUPP; logs the reason */
	void (*remove)(void);
	bool (*cpu_busy)(void);			/* this CPU, IRQs off: somebody else holds it */
	int (*cpu_enable)(void);		/* this CPU, IRQs off */
	void (*cpu_disable)(void);		/* this CPU, IRQs off */
	void (*cpu_emergency)(void);		/* the same in a crash: any context, NMI too */

	/* Beside KVM; IRQs off. NULL where hold() and release() do it all. */
	void (*ride)(struct lodge_vcpu *v);	/* a window begins: take what KVM holds, or has not switched on */
	void (*unride)(void);			/* it ends: as it was */
	void (*clean)(void);			/* KVM may run here next: nothing of our guests is left in the TLB */

	int (*vcpu_init)(struct lodge_vcpu *v);
	void (*vcpu_free)(struct lodge_vcpu *v);
	void (*vcpu_reset)(struct lodge_vcpu *v);	/* control fields to their reset state */

	void (*window_begin)(struct lodge_vcpu *v);	/* window */
	void (*window_end)(struct lodge_vcpu *v);	/* window */
	void (*run)(struct lodge_vcpu *v);		/* window: enter, leave, decode into v->exit */
	void (*set_event)(struct lodge_vcpu *v);	/* window: v->inject into the hardware */
	void (*set_windows)(struct lodge_vcpu *v, bool irq, bool nmi);	/* window */
	void (*set_tpr)(struct lodge_vcpu *v, u8 cr8);	/* window: CR8 threshold */

	void (*state_load)(struct lodge_vcpu *v, u32 groups);	/* hardware -> v->st, sets avail */
	void (*state_store)(struct lodge_vcpu *v);		/* v->dirty -> hardware; may be in the window */
	void (*set_intercepts)(struct lodge_vcpu *v);	/* after KVM_SET_GUEST_DEBUG, CPUID or the MSR filter changed */
	void (*set_tsc_offset)(struct lodge_vcpu *v);	/* from v->tsc_offset; may be in the window */
	int (*msr)(struct lodge_vcpu *v, u32 index, u64 *val, bool write);	/* what cpu/msr.c has checked; 1: not kept here */
	bool (*nmi_blocked)(struct lodge_vcpu *v);
	void (*set_nmi_blocked)(struct lodge_vcpu *v, bool blocked);
	void (*keep)(struct lodge_vcpu *v, struct lodge_vendor_kept *k);
	void (*bring_back)(struct lodge_vcpu *v, const struct lodge_vendor_kept *k);
	const struct lodge_pte_ops *pte_ops;
	bool lost_at_shutdown;		/* the state of a guest that has shut down is undefined */
	u32 quirks;			/* KVM_X86_QUIRK_* that are there, and can be switched off */
	bool pdptes;			/* the processor holds a PAE guest's PDPTEs: v->st.pdpte */
	int (*npt_levels)(void);	/* of the second-level tables: 4 or 5 */
	/* Where more than "switched on" is needed for a window; NULL otherwise. */
	void (*prepare)(struct lodge_vcpu *v);	/* before it, IRQs on */
	int (*hold)(struct lodge_vcpu *v);	/* IRQs off: 0; -EAGAIN: prepare() again; -EBUSY */
	void (*release)(struct lodge_vcpu *v);	/* IRQs off */
};

extern const struct lodge_ops *lodge_ops;	/* chosen once at load */
void lodge_ops_choose(const struct lodge_ops *ops);

/* The hooks of the exit path are called directly: static_call(lodge_run)(v). */
#define LODGE_OP(op) (*((const struct lodge_ops *)NULL)->op)
DECLARE_STATIC_CALL(lodge_window_begin, LODGE_OP(window_begin));
DECLARE_STATIC_CALL(lodge_window_end, LODGE_OP(window_end));
DECLARE_STATIC_CALL(lodge_run, LODGE_OP(run));
DECLARE_STATIC_CALL(lodge_set_event, LODGE_OP(set_event));
DECLARE_STATIC_CALL(lodge_set_windows, LODGE_OP(set_windows));
DECLARE_STATIC_CALL(lodge_set_tpr, LODGE_OP(set_tpr));
DECLARE_STATIC_CALL(lodge_state_load, LODGE_OP(state_load));
DECLARE_STATIC_CALL(lodge_state_store, LODGE_OP(state_store));

/* Module parameters: main.c gives them their names. */
extern bool lodge_npt_huge;
extern bool lodge_preemption_timer;	/* for vCPUs made from now on */

/* -- guest state: lodge_need() before reading a group, lodge_touch() before writing it -- */
static inline void lodge_need(struct lodge_vcpu *v, u32 groups)
{
	if (unlikely(groups & ~v->avail))
		static_call(lodge_state_load)(v, groups & ~v->avail);
}

static inline void lodge_touch(struct lodge_vcpu *v, u32 groups)
{
	lodge_need(v, groups);
	v->dirty |= groups;
}

static inline u64 lodge_rip(struct lodge_vcpu *v)
{
	lodge_need(v, LG_RIP);
	return v->st.rip;
}

/* IF and no shadow: the guest could take a maskable interrupt now. */
static inline bool lodge_irq_allowed(struct lodge_vcpu *v)
{
	lodge_need(v, LG_RFLAGS | LG_SHADOW);
	return v->st.rflags & X86_EFLAGS_IF && !v->st.int_shadow;
}
#endif
