/* SPDX-License-Identifier: GPL-2.0 */
/*
 * struct lodge_vcpu. Every field, here and in vm.h and parts.h, is tagged with who may touch it:
 *   [c]  set at creation, constant afterwards
 *   [v]  vcpu->mutex (the thread that runs or ioctls the vCPU)
 *   [s]  vm->slots_lock
 *   [r]  replaced under slots_lock, read under vm->srcu
 *   [n]  npt->lock
 *   [a]  any context, atomically
 *   [i]  the device's own raw lock (irqchip/)
 *
 * Lock order: vm->slots_lock, vcpu->mutex, then the leaves (npt->lock, device locks).
 * SRCU (vm->srcu) is held by a vCPU thread in slow handlers and completions, and by everybody else
 * who reads an [r] field. In the window it is not: interrupts are off there, and whoever replaces a
 * protected table calls lodge_vm_sync(), which waits for SRCU readers and for every window to
 * end. Nothing looked up in one window may be used in the next without checking its generation.
 */
#ifndef LODGE_CORE_VCPU_H
#define LODGE_CORE_VCPU_H

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/kvm.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/signal_types.h>
#include <linux/swait.h>

#include "core/exit.h"
#include "core/parts.h"
#include "core/state.h"
#include "host/tsc.h"

struct lodge_vm;
struct lodge_lapic;
struct lodge_iodev;
struct lodge_memslot;

#define LODGE_CPUID_DIRECT	32	/* leaves of each class that are looked up without a search */

/* Why a completion is due on the next KVM_RUN: io/. */
struct lodge_vcpu;
typedef int (*lodge_complete_fn)(struct lodge_vcpu *v);

struct lodge_vcpu {
	/* hot: the entry and exit path, in the order it is touched */
	u64 regs[16];			/* [v] */
	struct lodge_state st;		/* [v] */
	u32 avail, dirty;		/* [v] LG_* */
	unsigned long requests;		/* [a] BIT(REQ_*) */
	int mode;			/* [v] written, [a] read: MODE_* */
	int cpu;			/* [v] the CPU of the last window, -1 before */
	u64 timer_tsc;			/* [v] host TSC at which the vendor's timer ends the guest; 0: never */
	u64 npt_gen;			/* [v] generation of the tables last entered with */
	struct lodge_exit exit;		/* [v] */
	struct lodge_event inject;	/* [v] being delivered: in the hardware at the next entry */
	struct lodge_event pending_exc;	/* [v] an exception not yet begun */
	u64 pending_payload;		/* [v] CR2 of a pending #PF, DR6 bits of a pending #DB */
	int ext_vector;			/* [v] KVM_INTERRUPT without in-kernel LAPIC (or ExtINT, split); -1 none */
	u8 nmi_pending;			/* [v] 0..2 */
	atomic_t nmi_queued;		/* [a] NMIs that REQ_NMI announces */
	bool user_pic;			/* [c] userspace has the 8259s, or all of the irqchip */
	bool cr0_native;		/* [v] CD and NW of CR0 reach the hardware, as all of it does */
	bool nmi_masked;		/* [v] until IRET, where the vendor does not track it */

	struct lodge_vm *vm;		/* [c] */
	struct kvm_run *run;		/* [c] page 0 of the mmap: shared with userspace, read once */
	struct page *run_page, *pio_page; /* [c] */
	struct page *scratch;		/* [v] what an ioctl copies in and out: lodge_scratch() */
	void *pio_data;			/* [c] pio_page's address */
	struct lodge_lapic *lapic;	/* [c] NULL without an in-kernel LAPIC */
	struct lodge_iodev *local;	/* [c] the device that each vCPU has its own of: the LAPIC's page; or NULL */
	struct lodge_memslot *last_slot;/* [v] cache of the slot lookup */
	u64 last_slots_gen;		/* [v] generation of the table that it is from */
	struct lodge_npt_stock stock;	/* [v] table pages for faults taken in the window */
	struct lodge_code_page code[LODGE_CODE_PAGES];	/* [v] window: mem/gwalk.c */
	struct lodge_decoded decoded[LODGE_DECODED];	/* [v] io/mmio.c */
	struct lodge_fpu fpu;
	struct lodge_cpuid_cache cpuid;
	struct lodge_pv pv;
	struct lodge_vcpu_stat stat;

	u32 id;				/* [c] KVM_CREATE_VCPU's argument: initial APIC id */
	u32 idx;			/* [c] position in vm->vcpus[] */
	u64 tsc_offset;			/* [v] guest TSC = lodge_tsc() + this */
	u32 tsc_khz;			/* [v] what userspace believes it to be: close to vm->tsc_khz */
	u32 mp_state;			/* [v] KVM_MP_STATE_*; written by others only through requests */
	u8 cr8;				/* [v] without an in-kernel LAPIC */
	u64 tsc_deadline;		/* [v] */
	u64 tsc_adjust, tsc_aux, misc_enable, apic_base;	/* [v] apic_base: irqchip/lapic.c's when there is one */
	u64 ucode_rev, arch_cap, de_cfg, hwcr, osvw[2];	/* [v] */
	u64 platform_info, misc_features, power_ctl, smi_count, vm_cr, hsave_pa, poll_control;	/* [v] */
	struct lodge_mtrr mtrr;
	struct lodge_mce mce;
	struct kvm_cpuid_entry2 *cpuid_ent;	/* [v] lodge_cpuid_put() */
	u32 cpuid_nent;			/* [v] */
	u8 cpuid_first[4][LODGE_CPUID_DIRECT];	/* [v] of each leaf in cpuid_ent[] */
	bool enforce_pv;		/* [v] KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
	bool ran;			/* [v] KVM_RUN entered the guest once */
	struct lodge_debug debug;

	lodge_complete_fn complete;	/* [v] finishes I/O that went to userspace */
	void (*complete_regs)(struct lodge_vcpu *v);	/* [v] the same, by registers alone */
	struct lodge_pio pio;
	struct lodge_mmio mmio;
	struct lodge_msr_exit msr_exit;

	struct mutex mutex;		/* [c] taken killable by every vCPU ioctl */
	struct swait_queue_head wq;	/* [a] HLT sleeps here */
	struct pid *pid;		/* [v] thread of the last KVM_RUN */
	struct task_struct *task;	/* [v] written, read under RCU: the thread in KVM_RUN, or NULL */
	bool spinning;			/* [v] written, [a] read: it gives way to another vCPU */
	u32 poll_ns;			/* [v] so long the next HLT polls before it sleeps */
	sigset_t sigset;		/* [v] KVM_SET_SIGNAL_MASK */
	bool sigset_active;		/* [v] */
	u64 uid;			/* [c] never used again: who ran last on a CPU */
	struct preempt_notifier notifier; /* [v] registered while watched: host/share.c */
	bool watched;			/* [v] KVM may run on this CPU when this thread does not */
	bool away;			/* [v] it may have, since the last window */
	u32 sleeps;			/* [v] of the host, that it knows of: lodge_slept.times */
	bool moved;			/* [v] no window has begun yet on this CPU since it came here */
	bool entry_timer;		/* [c] the vendor's entry heeds timer_tsc */
	struct lodge_spec spec;		/* [v] */
	bool spec_live;			/* [v] the guest uses SPEC_CTRL: no exit for it */
	bool spec_switch;		/* [v] the entry code switches it in this window */
	bool dr_live;			/* [v] DR0-3 hold the guest's values in this window */
	u64 __percpu *tlb_seen;		/* mem/tlb_check.c */
};

static inline void lodge_set_request(struct lodge_vcpu *v, enum lodge_request r)
{
	set_bit(r, &v->requests);
}

static inline bool lodge_take_request(struct lodge_vcpu *v, enum lodge_request r)
{
	if (!test_bit(r, &v->requests))
		return false;
	clear_bit(r, &v->requests);
	/* What is asked for is read after the request is taken: a later one is not lost. */
	smp_mb__after_atomic();
	return true;
}

static inline bool lodge_guest_has(const struct lodge_vcpu *v, enum lodge_feature f)
{
	return test_bit(f, v->cpuid.has);
}

/* It may ask for an indirect branch prediction barrier: PRED_CMD. */
static inline bool lodge_guest_has_ibpb(const struct lodge_vcpu *v)
{
	return lodge_guest_has(v, LF_SPEC_CTRL) || lodge_guest_has(v, LF_IBPB);
}

/* The guest's TSC now. */
static inline u64 lodge_guest_tsc(const struct lodge_vcpu *v)
{
	return lodge_tsc_ordered() + v->tsc_offset;
}
#endif
