/* SPDX-License-Identifier: GPL-2.0 */
/* KVM's paravirtual interface: clock and TSC (pv.c), hypercalls, EOIs and stolen time (pv_calls.c). */
#ifndef LODGE_PV_H
#define LODGE_PV_H

#include "core/core.h"

/* pv.c */
u32 lodge_pv_features(void);		/* 0x40000001.EAX */
int lodge_pv_msr_read(struct lodge_vcpu *v, u32 index, u64 *val);	/* 1: not mine / #GP */
int lodge_pv_msr_write(struct lodge_vcpu *v, u32 index, u64 val);
void lodge_pv_clock_update(struct lodge_vcpu *v);	/* REQ_CLOCK: may sleep */
void lodge_pv_clock_init(struct lodge_vm *vm);
u64 lodge_pv_clock_at(struct lodge_vm *vm, u64 *tsc);
void lodge_pv_clock_set(struct lodge_vm *vm, u64 tsc, u64 ns);

/* The VM's clock, and the host's clocks that it goes by, at the moment when it was kept. */
struct lodge_kept_clock {
	u64 base_tsc, base_ns, base_boot, base_slept, last_offset, wall_msr;
	u64 tsc, boot, slept;
	ktime_t now;
	bool tsc_set, tscs_differ;
};
void lodge_pv_clock_now(struct lodge_kept_clock *k);	/* the host's clocks */
void lodge_pv_clock_keep(struct lodge_vm *vm, struct lodge_kept_clock *k);
void lodge_pv_clock_bring_back(struct lodge_vm *vm, const struct lodge_kept_clock *k, const struct lodge_kept_clock *now);
lodge_vm_ioctl lodge_get_clock, lodge_set_clock;
lodge_vcpu_ioctl lodge_ioc_clock_ctrl, lodge_ioc_set_tsc_khz;
lodge_vcpu_ioctl lodge_ioc_has_attr, lodge_ioc_get_attr, lodge_ioc_set_attr;

/* The guest may use it: where that is enforced, by its CPUID. */
static inline bool lodge_pv_has(const struct lodge_vcpu *v, int feature)
{
	return !v->enforce_pv || v->cpuid.pv_features & BIT(feature);
}

/* The odd version that announces new contents of a page: behind what is there, be it the guest's own junk. */
static inline u32 lodge_pv_next_version(u32 version)
{
	return (version | 1) + (version & 1 ? 2 : 0);
}

void lodge_tsc_give(struct lodge_vcpu *v, u64 offset);
void lodge_tsc_adjust(struct lodge_vcpu *v, u64 val);	/* the guest writes TSC_ADJUST */
void lodge_tsc_write(struct lodge_vcpu *v, u64 tsc, bool host);	/* MSR_IA32_TSC, with KVM's matching of near writes */

/* pv_calls.c */
u64 lodge_pv_hypercall(struct lodge_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3);
void lodge_pv_eoi_offer(struct lodge_vcpu *v, u8 vector);	/* window */
void lodge_pv_eoi_sync(struct lodge_vcpu *v);			/* window */
void lodge_pv_eoi_settle(struct lodge_vcpu *v);
void lodge_pv_steal_update(struct lodge_vcpu *v);
#endif
