/* SPDX-License-Identifier: GPL-2.0 */
/* struct lodge_vm; the tags are vcpu.h's. */
#ifndef LODGE_CORE_VM_H
#define LODGE_CORE_VM_H

#include <linux/bitmap.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>

#include "core/parts.h"

/* KVM_X86_QUIRK_*: what is as with KVM, though no processor does it, on hosts of both vendors */
#define LODGE_QUIRKS (KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE | \
	KVM_X86_QUIRK_FIX_HYPERCALL_INSN | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)
#define LODGE_X2APIC_API (KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)

#define LODGE_MAX_VCPUS		255	/* xAPIC ids 0..254; 255 is the broadcast */
#define LODGE_MAX_BUS_NS	BIT(25)	/* of apic_bus_ns: the longest time of the LAPIC's timer fits in 64 bits */

struct lodge_vcpu;
struct lodge_bus;
struct lodge_ioapic;
struct lodge_pic;
struct lodge_pit;
struct lodge_routes;
struct lodge_msr_filter;
struct lodge_frozen;
struct lodge_stream;

/* An impossible condition: every ioctl answers EIO. And the state is read or set as a whole: those of vCPUs EBUSY. */
enum { LODGE_DEAD, LODGE_STOPPED };

/* What was chosen for a VM, and is no state of its guest: a VM made of a template has all of it. */
struct lodge_settings {
	u32 dirty_log_manual;		/* [s] KVM_DIRTY_LOG_*, of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	u32 user_msrs;			/* [a] KVM_MSR_EXIT_REASON_*: accesses that userspace answers */
	u32 boot_id;			/* [s] KVM_SET_BOOT_CPU_ID */
	bool pit_reinject;
	u32 quirks_off;			/* [a] KVM_X86_QUIRK_*, of KVM_CAP_DISABLE_QUIRKS2 */
	u32 x2apic_api;			/* [a] KVM_X2APIC_API_*, of KVM_CAP_X2APIC_API */
	u32 apic_bus_ns;		/* [s] before the first vCPU: KVM_CAP_X86_APIC_BUS_CYCLES_NS */
	u32 max_ids;			/* [s] KVM_CAP_MAX_VCPU_ID; 0: not said */
	u64 halt_poll_ns;		/* [a] KVM_CAP_HALT_POLL; U64_MAX: the module's parameter counts */
	bool exception_payload, triple_fault_event;	/* [a] the capabilities of these names */
	bool exit_on_emulation_failure;	/* [a] */
	bool no_platform_info;		/* [a] KVM_CAP_MSR_PLATFORM_INFO: guests do not see it */
	bool batch_outs;		/* [a] LODGE_CAP_BATCH_OUTS */
};

struct lodge_vm {
	struct kref kref;		/* [a] the VM fd and each vCPU fd hold one */
	struct mm_struct *mm;		/* [c] mmgrab'ed: the creator's; others get EIO */
	struct mutex slots_lock;
	struct srcu_struct srcu;
	struct lodge_memslots __rcu *slots;	/* [r] one of the two */
	struct lodge_memslots slot_sets[2];	/* [s] written: mem/memslot.c */
	struct rb_root slot_ids;	/* [s] the slots by their numbers */
	struct lodge_snap *snap;	/* [s] and no vCPU in KVM_RUN: the top one's pages, or NULL: mem/kept.c */
	struct lodge_npt npt;
	struct mmu_notifier notifier;	/* [c] */
	struct lodge_bus __rcu *bus[2];	/* [r] BUS_PIO, BUS_MMIO */

	struct lodge_vcpu *vcpus[LODGE_MAX_VCPUS];	/* [s] written; published by nvcpus */
	int nvcpus;			/* [s] written with release, read with acquire */
	int boosted;			/* [a] the vCPU that a spinning one gave way to last */

	enum { IRQCHIP_NONE, IRQCHIP_FULL, IRQCHIP_SPLIT } irqchip;	/* [s] before the first vCPU */
	u32 split_pins;			/* [s] IOAPIC pins that userspace emulates */
	struct lodge_pic *pic;		/* [s] */
	struct lodge_ioapic *ioapic;	/* [s] */
	struct lodge_pit *pit;		/* [s] */
	struct lodge_routes __rcu *routes;	/* [r] */
	struct list_head irqfds;	/* [i] irqchip/eventfd.c */
	spinlock_t irqfds_lock;
	atomic_t ending_irqfds;		/* [a] so many have still to be freed */
	struct list_head ioeventfds;	/* [s] */
	/*
	 * [a] Vectors whose EOI somebody beside the LAPIC has to hear of: the IOAPIC, or userspace where it has
	 * that. It is a set for all of the VM, made from the pins' entries and the routes: not the trigger mode
	 * of what a LAPIC has in service (that is its TMR), and an edge may share a vector with a level.
	 */
	DECLARE_BITMAP(told_eois, 256);
	atomic_t resample_irqfds;	/* [a] how many of irqfds want to hear of EOIs */
	atomic_t apic_odd;		/* [a] LAPICs whose xAPIC id is not their vCPU's id */

	struct lodge_msr_filter __rcu *msr_filter;	/* [s] written; read under RCU: cpu/msr_exit.c */
	unsigned long barred;		/* [a] BIT(LODGE_*): what its ioctls answer with an errno for, below */
	raw_spinlock_t clock_lock;
	u32 clock_mul;			/* [c] the TSC's frequency, as pvclock wants it */
	s8 clock_shift;
	bool tsc_set;			/* [clock_lock] userspace has set a TSC */
	/* [clock_lock] one pair for all vCPUs, and the host's boot time and the sleep of it that was counted then */
	u64 clock_base_tsc, clock_base_ns, clock_base_boot, clock_base_slept;
	bool tscs_differ;		/* [clock_lock] the vCPUs' TSCs are not one: no stable bit */
	u64 wall_msr;			/* [a] MSR_KVM_WALL_CLOCK as written last */
	u64 tsc_last_offset;		/* [clock_lock] of the last TSC that was set */
	u32 tsc_khz;			/* [c] */
	struct lodge_settings set;
	struct lodge_vm_stat stat;
	struct page *coalesced_page;	/* [a] lodge_coalesced_page() makes it, once */
	raw_spinlock_t ring_lock;	/* the ring in it */
	u32 seals;			/* [s] written; LODGE_SEAL_* */
	/* What the last LODGE_SET_STATE or GET_STATE needed, for the next: memory that is new is cleared first. */
	struct lodge_frozen *spare_frozen;	/* [s] */
	struct lodge_stream *spare_stream;	/* [a] by xchg(): whoever has it, has it alone */
};

static inline struct lodge_vcpu *lodge_vcpu_get(struct lodge_vm *vm, int i)
{
	return vm->vcpus[array_index_nospec(i, LODGE_MAX_VCPUS)];
}

static inline bool lodge_vm_dead(const struct lodge_vm *vm)
{
	return READ_ONCE(vm->barred) & BIT(LODGE_DEAD);
}

static inline int lodge_nvcpus(struct lodge_vm *vm)
{
	/* Pairs with the store in vcpu.c: a vCPU that counts is complete. */
	return smp_load_acquire(&vm->nvcpus);
}

#define lodge_for_each_vcpu(i, v, vm) \
	for ((i) = 0; (i) < lodge_nvcpus(vm) && ((v) = lodge_vcpu_get(vm, i), 1); (i)++)
#endif
