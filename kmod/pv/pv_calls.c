// SPDX-License-Identifier: GPL-2.0
/*
 * The rest of KVM's paravirtual interface: hypercalls, EOIs without an exit, stolen time.
 *
 * PV EOI: when a vector is injected whose EOI has no other effect, a bit in a word of guest memory
 * says so; the guest clears the bit instead of writing EOI. Every exit takes the offer back: a bit that
 * is gone is an EOI, one that is still there is withdrawn, for what happens next may need to be told. So
 * outside the window no offer is ever open. The word is reached through the second-level tables, as
 * the guest itself reaches it: where it is not mapped writable there is no offer, and one whose page was
 * taken away meanwhile is settled outside the window, where faults can be taken.
 *
 * PV unhalt: v->pv.unhalt stays set until a HLT consumes it, so that a kick that comes before the HLT
 * it is meant for is not lost.
 *
 * vcpu->mutex held. No locks.
 */
#include <linux/sched/signal.h>
#include <uapi/linux/kvm_para.h>

#include "irqchip/irqchip.h"
#include "mem/mem.h"
#include "pv/pv.h"

#define LODGE_ENOSYS	1000	/* KVM_ENOSYS, KVM_EPERM, KVM_EINVAL: of the guest's interface */
#define LODGE_EPERM	1
#define EOI_OFFERED	1

/* Bit n of the map is the LAPIC with id min + n; how many took it. Its words are as wide as the guest's. */
static u64 send_ipi(struct lodge_vcpu *v, u64 low, u64 high, u64 min, u64 icr)
{
	bool wide = lodge_code_bits(v) == 64;
	DECLARE_BITMAP(map, 128) = { wide ? low : (u32)low | high << 32, wide ? high : 0 };
	struct lodge_msg m = {
		.vector = icr & 0xff, .mode = icr >> 8 & 7, .x2apic_dest = true, .assert = true,
	};
	unsigned int bit;
	u64 taken = 0;

	if (!v->lapic || (m.mode != MSG_FIXED && m.mode != MSG_NMI) || icr & ~0x7ffull)
		return -EINVAL;
	for_each_set_bit(bit, map, 128) {
		if (min + bit >= LODGE_MAX_VCPUS)
			break;
		m.dest = min + bit;
		taken += lodge_lapic_deliver(v->vm, v, &m);
	}
	return taken;
}

static u64 kick(struct lodge_vcpu *v, u64 id)
{
	struct lodge_vcpu *target = id < LODGE_MAX_VCPUS ? lodge_vcpu_by_id(v->vm, id) : NULL;

	if (target) {
		WRITE_ONCE(target->pv.unhalt, true);
		lodge_kick(target);
	}
	return 0;
}

/**
 * lodge_pv_hypercall - VMCALL or VMMCALL
 * @v: the vCPU; in or outside the window
 * @nr: KVM_HC_*
 * @a0: argument
 * @a1: argument
 * @a2: argument
 * @a3: argument
 *
 * Return: RAX: a result, -KVM_EPERM outside ring 0, -KVM_ENOSYS for what there is not.
 */
u64 lodge_pv_hypercall(struct lodge_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	lodge_need(v, LG_CS);
	if (v->st.cpl)
		return -LODGE_EPERM;
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ:	/* it has exited: that is all */
		return 0;
	case KVM_HC_KICK_CPU:
		if (!lodge_pv_has(v, KVM_FEATURE_PV_UNHALT))
			break;
		return kick(v, a1);
	case KVM_HC_SEND_IPI:
		if (!lodge_pv_has(v, KVM_FEATURE_PV_SEND_IPI))
			break;
		return send_ipi(v, a0, a1, a2, a3);
	}
	return -LODGE_ENOSYS;
}

/**
 * lodge_pv_eoi_offer - the vector just injected may be ended without an exit
 * @v: the vCPU; window
 * @vector: it
 */
void lodge_pv_eoi_offer(struct lodge_vcpu *v, u8 vector)
{
	u8 *p;

	if (!lodge_lapic_eoi_is_silent(v, vector))
		return;
	p = lodge_npt_poke(v, v->pv.eoi_msr & ~3ull);
	if (!p)
		return;
	WRITE_ONCE(*p, *p | EOI_OFFERED);
	v->pv.eoi_pending = true;
}

/**
 * lodge_pv_eoi_sync - take the offer back, after every exit
 * @v: the vCPU; window
 */
void lodge_pv_eoi_sync(struct lodge_vcpu *v)
{
	u8 *p = lodge_npt_poke(v, v->pv.eoi_msr & ~3ull);
	u8 val;

	if (!p) {
		lodge_set_request(v, REQ_PV_EOI);
		return;
	}
	val = READ_ONCE(*p);
	v->pv.eoi_pending = false;
	if (val & EOI_OFFERED)
		WRITE_ONCE(*p, val & ~EOI_OFFERED);
	else
		lodge_lapic_eoi(v);
}

/**
 * lodge_pv_eoi_settle - REQ_PV_EOI: the same outside the window
 * @v: the vCPU; may sleep
 */
void lodge_pv_eoi_settle(struct lodge_vcpu *v)
{
	gpa_t gpa = v->pv.eoi_msr & ~3ull;
	u8 val;

	if (!v->pv.eoi_pending)
		return;
	v->pv.eoi_pending = false;
	/* A page that is nowhere any more holds no answer: the guest has lost more than an EOI. */
	if (lodge_read_gpa(v, gpa, &val, sizeof(val)))
		return;
	if (!(val & EOI_OFFERED)) {
		lodge_lapic_eoi(v);
		return;
	}
	val &= ~EOI_OFFERED;
	lodge_write_gpa(v, gpa, &val, sizeof(val));
}

/**
 * lodge_pv_steal_update - tell the guest for how long this thread waited for a CPU
 * @v: the vCPU, in its thread; may sleep
 *
 * Odd version, data, even version, as kvmclock.
 */
void lodge_pv_steal_update(struct lodge_vcpu *v)
{
	gpa_t gpa = v->pv.steal_msr & ~(u64)KVM_STEAL_RESERVED_MASK & ~(u64)KVM_MSR_ENABLED;
	u64 delay = current->sched_info.run_delay;
	struct kvm_steal_time s;

	if (lodge_read_gpa(v, gpa, &s, offsetof(struct kvm_steal_time, u8_pad)))
		return;
	s.version = lodge_pv_next_version(s.version);
	lodge_write_gpa(v, gpa + offsetof(struct kvm_steal_time, version), &s.version, sizeof(s.version));
	/* The guest sees an odd version before the new value ... */
	smp_wmb();
	/* A thread that has taken over from another begins to count anew. */
	if (delay > v->pv.steal_last)
		s.steal += delay - v->pv.steal_last;
	v->pv.steal_last = delay;
	lodge_write_gpa(v, gpa, &s.steal, sizeof(s.steal));
	/* ... and that before the even one. */
	smp_wmb();
	s.version++;
	lodge_write_gpa(v, gpa + offsetof(struct kvm_steal_time, version), &s.version, sizeof(s.version));
}
