// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's paravirtual interface: its MSRs, kvmclock, and the TSC; pv_calls.c has the rest.
 *
 * The VM has one pair (lodge_tsc(), nanoseconds). Every vCPU's page is computed from it and the vCPU's own
 * TSC offset, so all of them show the same time, and the flag that says so (PVCLOCK_TSC_STABLE_BIT) lets a guest
 * read the clock without comparing CPUs: as long as their TSCs are one, for it reads the first page with any of them.
 * The pair is taken when the VM is made, with 0, and each time that userspace
 * sets the clock; nothing else changes it. An update of a page (REQ_CLOCK) writes the same pair out again. In between
 * the clock is the host's TSC at the frequency that the VM began with; a host that sleeps adds what its TSC did not
 * count (host/sleep.c). On a host whose TSC is not stable there is no flag, the clock is the host's boot time, and
 * each update takes a pair of its own; a vCPU that moves to another CPU has one.
 *
 * Pages are written through the slots, which may sleep: an MSR write only sets REQ_CLOCK.
 *
 * Locks: vm->clock_lock for the pair and for matching TSC writes.
 */
#include <linux/math64.h>
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <asm/tsc.h>

#include "host/compat.h"
#include "irqchip/irqchip.h"
#include "mem/mem.h"
#include "pv/pv.h"

/** lodge_pv_features - what pv/ has, as 0x40000001.EAX says it */
u32 lodge_pv_features(void)
{
	return BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
	       BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_STEAL_TIME) |
	       BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
	       BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) |
	       (check_tsc_unstable() ? 0 : BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT));
}

/* ns = ((tsc << shift) * mul) >> 32, as pvclock computes it. */
static void time_scale(u32 khz, s8 *shift, u32 *mul)
{
	u64 hz = khz * 1000ull;

	*shift = 0;
	while (hz > 2 * NSEC_PER_SEC) {
		hz >>= 1;
		--*shift;
	}
	while (hz <= NSEC_PER_SEC) {
		hz <<= 1;
		++*shift;
	}
	*mul = div64_u64((u64)NSEC_PER_SEC << 32, hz);
}

static u64 scale(u64 tsc, s8 shift, u32 mul)
{
	tsc = shift < 0 ? tsc >> -shift : tsc << shift;
	return mul_u64_u32_shr(tsc, mul, 32);
}

/* The pair anew, for that TSC of the host. [clock_lock], or nobody sees the VM yet. */
static void set_base(struct lodge_vm *vm, u64 tsc, u64 ns)
{
	vm->clock_base_tsc = tsc;
	vm->clock_base_ns = ns;
	vm->clock_base_boot = ktime_get_boottime_ns();
	vm->clock_base_slept = lodge_slept.ns;
}

/* A pair that is true now: the VM's own, or where the host's TSC is of no use for it one of this CPU. [clock_lock] */
static u64 pair(const struct lodge_vm *vm, u64 *tsc)
{
	if (check_tsc_unstable()) {
		*tsc = lodge_tsc_ordered();
		return vm->clock_base_ns + ktime_get_boottime_ns() - vm->clock_base_boot;
	}
	*tsc = vm->clock_base_tsc;
	return vm->clock_base_ns + lodge_slept.ns - vm->clock_base_slept;
}

static bool stable(const struct lodge_vm *vm)
{
	return !check_tsc_unstable() && !READ_ONCE(vm->tscs_differ);
}

/** lodge_pv_clock_init - a new VM's clock and TSC start at 0 */
void lodge_pv_clock_init(struct lodge_vm *vm)
{
	set_base(vm, lodge_tsc_ordered(), 0);
	vm->tsc_last_offset = -vm->clock_base_tsc;
	time_scale(vm->tsc_khz, &vm->clock_shift, &vm->clock_mul);
}

/** lodge_pv_clock_at - the VM's time at a lodge_tsc(), of now or of shortly before; 0: of now, which is told */
u64 lodge_pv_clock_at(struct lodge_vm *vm, u64 *tsc)
{
	unsigned long flags;
	u64 ns, base;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	ns = pair(vm, &base);
	*tsc = *tsc ?: lodge_tsc_ordered();
	if (*tsc > base)
		ns += scale(*tsc - base, vm->clock_shift, vm->clock_mul);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	return ns;
}

static void write_wall_clock(struct lodge_vcpu *v, gpa_t gpa)
{
	struct pvclock_wall_clock w;
	u64 tsc = 0, boot;

	if (!gpa || lodge_read_gpa(v, gpa, &w.version, sizeof(w.version)))
		return;
	w.version = lodge_pv_next_version(w.version);
	boot = ktime_get_real_ns() - lodge_pv_clock_at(v->vm, &tsc);
	w.sec = div_u64_rem(boot, NSEC_PER_SEC, &w.nsec);
	lodge_write_gpa(v, gpa, &w.version, sizeof(w.version));
	lodge_write_gpa(v, gpa, &w, sizeof(w));
	w.version++;
	lodge_write_gpa(v, gpa, &w.version, sizeof(w.version));
}

/**
 * lodge_pv_clock_update - REQ_CLOCK: write the vCPU's time page
 * @v: the vCPU; may sleep
 *
 * Odd version, data, even version: the guest reads again when they differ.
 */
void lodge_pv_clock_update(struct lodge_vcpu *v)
{
	gpa_t gpa = v->pv.clock_msr & ~(u64)KVM_MSR_ENABLED;
	struct lodge_vm *vm = v->vm;
	struct pvclock_vcpu_time_info t = {}, old;
	unsigned long flags;
	u64 tsc;

	if (!(v->pv.clock_msr & KVM_MSR_ENABLED) || lodge_read_gpa(v, gpa, &old, sizeof(old)))
		return;
	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	t.system_time = pair(vm, &tsc);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	t.tsc_timestamp = tsc + v->tsc_offset;
	t.tsc_to_system_mul = vm->clock_mul;
	t.tsc_shift = vm->clock_shift;
	t.flags = (stable(vm) ? PVCLOCK_TSC_STABLE_BIT : 0) |
		  (v->pv.clock_stopped ? PVCLOCK_GUEST_STOPPED : 0) |
		  (old.flags & PVCLOCK_GUEST_STOPPED);	/* the guest takes it out when it has seen it */
	v->pv.clock_stopped = false;
	t.version = lodge_pv_next_version(old.version);
	if (lodge_write_gpa(v, gpa, &t.version, sizeof(t.version)))
		return;
	/* The guest sees an odd version before any of the new values ... */
	smp_wmb();
	lodge_write_gpa(v, gpa, &t, sizeof(t));
	/* ... and all of them before the even one. */
	smp_wmb();
	t.version++;
	lodge_write_gpa(v, gpa, &t.version, sizeof(t.version));
}

/* The feature of CPUID that an MSR belongs to. */
static bool may_use(const struct lodge_vcpu *v, u32 index)
{
	switch (index) {
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_WALL_CLOCK:
		return lodge_pv_has(v, KVM_FEATURE_CLOCKSOURCE);
	case MSR_KVM_SYSTEM_TIME_NEW:
	case MSR_KVM_WALL_CLOCK_NEW:
		return lodge_pv_has(v, KVM_FEATURE_CLOCKSOURCE2);
	case MSR_KVM_STEAL_TIME:
		return lodge_pv_has(v, KVM_FEATURE_STEAL_TIME);
	}
	return lodge_pv_has(v, KVM_FEATURE_PV_EOI);
}

/**
 * lodge_pv_msr_read - an MSR of the interface
 * @v: the vCPU
 * @index: which
 * @val: the result
 *
 * Return: 0, or 1: no such register.
 */
int lodge_pv_msr_read(struct lodge_vcpu *v, u32 index, u64 *val)
{
	if (!may_use(v, index))
		return 1;
	switch (index) {
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*val = v->pv.clock_msr;
		return 0;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*val = READ_ONCE(v->vm->wall_msr);
		return 0;
	case MSR_KVM_STEAL_TIME:
		*val = v->pv.steal_msr;
		return 0;
	case MSR_KVM_PV_EOI_EN:
		*val = v->pv.eoi_msr;
		return 0;
	}
	return 1;
}

/**
 * lodge_pv_msr_write - the same for a write
 * @v: the vCPU; may sleep
 * @index: which
 * @val: the value
 *
 * Return: 0 or 1.
 */
int lodge_pv_msr_write(struct lodge_vcpu *v, u32 index, u64 val)
{
	if (!may_use(v, index))
		return 1;
	switch (index) {
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		v->pv.clock_msr = val;
		lodge_set_request(v, REQ_CLOCK);
		return 0;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		WRITE_ONCE(v->vm->wall_msr, val);
		write_wall_clock(v, val);
		return 0;
	case MSR_KVM_STEAL_TIME:
		if (val & KVM_STEAL_RESERVED_MASK)
			return 1;
		v->pv.steal_msr = val;
		v->pv.steal_last = current->sched_info.run_delay;
		return 0;
	case MSR_KVM_PV_EOI_EN:
		if (val & 2)
			return 1;
		v->pv.eoi_msr = val;
		return 0;
	}
	return 1;
}

/** lodge_ioc_clock_ctrl - KVM_KVMCLOCK_CTRL: the guest was stopped; -EINVAL where it has no kvmclock */
int lodge_ioc_clock_ctrl(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	if (!(v->pv.clock_msr & KVM_MSR_ENABLED))
		return -EINVAL;
	v->pv.clock_stopped = true;
	lodge_set_request(v, REQ_CLOCK);
	return 0;
}

/** lodge_get_clock - KVM_GET_CLOCK */
int lodge_get_clock(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_clock_data *c = buf;
	u64 tsc = 0;

	memset(c, 0, sizeof(*c));
	c->clock = lodge_pv_clock_at(vm, &tsc);
	c->host_tsc = tsc - lodge_slept.tsc;
	c->realtime = ktime_get_real_ns();
	c->flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC | (stable(vm) ? KVM_CLOCK_TSC_STABLE : 0);
	return 0;
}

/** lodge_pv_clock_set - the VM's time at a lodge_tsc() of now or shortly before */
void lodge_pv_clock_set(struct lodge_vm *vm, u64 tsc, u64 ns)
{
	struct lodge_vcpu *v;
	unsigned long flags;
	int i;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	set_base(vm, tsc, ns);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	lodge_for_each_vcpu(i, v, vm)
		lodge_request(v, REQ_CLOCK);
}

/** lodge_set_clock - KVM_SET_CLOCK; with KVM_CLOCK_REALTIME the time that went by since is added. -EINVAL */
int lodge_set_clock(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct lodge_clock_data *c = buf;
	u64 ns = c->clock, now = ktime_get_real_ns();

	if (c->flags & ~(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	if (c->flags & KVM_CLOCK_REALTIME && now > c->realtime)
		ns += now - c->realtime;
	lodge_pv_clock_set(vm, lodge_tsc_ordered(), ns);
	return 0;
}

/** lodge_pv_clock_now - the host's clocks, into k */
void lodge_pv_clock_now(struct lodge_kept_clock *k)
{
	k->tsc = lodge_tsc_ordered();
	k->now = ktime_get();
	k->boot = ktime_get_boottime_ns();
	k->slept = lodge_slept.ns;
}

/** lodge_pv_clock_keep - the VM's clock, which goes on; into k, which has the host's clocks */
void lodge_pv_clock_keep(struct lodge_vm *vm, struct lodge_kept_clock *k)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	k->base_tsc = vm->clock_base_tsc;
	k->base_ns = vm->clock_base_ns;
	k->base_boot = vm->clock_base_boot;
	k->base_slept = vm->clock_base_slept;
	k->last_offset = vm->tsc_last_offset;
	k->tsc_set = vm->tsc_set;
	k->tscs_differ = vm->tscs_differ;
	k->wall_msr = vm->wall_msr;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
}

/**
 * lodge_pv_clock_bring_back - the clock shows what it showed when it was kept, and goes on from there
 * @vm: the VM, no vCPU runs
 * @k: what was kept
 * @now: lodge_pv_clock_now()
 *
 * All that it reckons with is moved by what the host's clocks have gone on, vCPUs' TSC offsets by the caller. So
 * the guests' time pages are as true as they were, and need not be written.
 */
void lodge_pv_clock_bring_back(struct lodge_vm *vm, const struct lodge_kept_clock *k, const struct lodge_kept_clock *now)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	vm->clock_base_tsc = k->base_tsc + now->tsc - k->tsc;
	vm->clock_base_ns = k->base_ns;
	vm->clock_base_boot = k->base_boot + now->boot - k->boot;
	vm->clock_base_slept = k->base_slept + now->slept - k->slept;
	vm->tsc_last_offset = k->last_offset - (now->tsc - k->tsc);
	vm->tsc_set = k->tsc_set;
	WRITE_ONCE(vm->tscs_differ, k->tscs_differ);
	WRITE_ONCE(vm->wall_msr, k->wall_msr);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
}

/* -- the TSC -- */

static void set_offset(struct lodge_vcpu *v, u64 offset)
{
	struct lodge_vm *vm = v->vm;
	struct lodge_vcpu *o;
	unsigned long flags;
	bool differ, changed;
	int i;

	/* The flag is one for all: who changes it has every page written anew. A vCPU that is being made counts. */
	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	v->tsc_offset = offset;
	differ = lodge_nvcpus(vm) && lodge_vcpu_get(vm, 0)->tsc_offset != offset;
	lodge_for_each_vcpu(i, o, vm)
		differ |= o->tsc_offset != offset;
	changed = differ != vm->tscs_differ;
	WRITE_ONCE(vm->tscs_differ, differ);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);

	lodge_ops->set_tsc_offset(v);
	if (v->lapic)
		lodge_lapic_tsc_changed(v);
	lodge_set_request(v, REQ_CLOCK);
	lodge_for_each_vcpu(i, o, vm)
		if (changed && o != v)
			lodge_request(o, REQ_CLOCK);
}

/**
 * lodge_tsc_adjust - the guest writes IA32_TSC_ADJUST: its TSC moves by the difference (SDM 3, 18.17.3)
 * @v: the vCPU
 * @val: the new value
 */
void lodge_tsc_adjust(struct lodge_vcpu *v, u64 val)
{
	set_offset(v, v->tsc_offset + val - v->tsc_adjust);
	v->tsc_adjust = val;
}

/**
 * lodge_ioc_set_tsc_khz - KVM_SET_TSC_KHZ
 *
 * Without TSC scaling there is one frequency. What differs by as little as two measurements of it is taken (250 ppm,
 * as KVM does), and changes nothing but what KVM_GET_TSC_KHZ says; 0 is the host's.
 *
 * Return: 0 or -EINVAL.
 */
int lodge_ioc_set_tsc_khz(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	u32 khz = arg, real = v->vm->tsc_khz, far = khz > real ? khz - real : real - khz;

	if (khz && far > div_u64(real * 250ull, 1000000))
		return -EINVAL;
	v->tsc_khz = khz ?: real;
	return 0;
}

/*
 * Userspace sets the TSCs of one VM one after the other and means them to be equal: a value
 * within a second of what the last one set would be by now gets the same offset. 0, with which a vCPU
 * begins, always does; the first other value never does, for a VM may be restored that is young.
 */
static u64 matched_offset(struct lodge_vm *vm, u64 tsc)
{
	u64 now, expected, offset, diff;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	now = lodge_tsc_ordered();
	offset = tsc - now;
	expected = now + vm->tsc_last_offset;
	diff = tsc > expected ? tsc - expected : expected - tsc;
	if (!tsc || (vm->tsc_set && diff < vm->tsc_khz * 1000ull))
		offset = vm->tsc_last_offset;
	vm->tsc_set |= !!tsc;
	vm->tsc_last_offset = offset;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	return offset;
}

/**
 * lodge_tsc_write - MSR_IA32_TSC
 * @v: the vCPU
 * @tsc: the new value
 * @host: userspace writes: equal values on several vCPUs are meant to be equal clocks; a guest's
 *        write moves TSC_ADJUST along (SDM 3, 18.17.3)
 */
void lodge_tsc_write(struct lodge_vcpu *v, u64 tsc, bool host)
{
	u64 diff;

	if (host) {
		set_offset(v, matched_offset(v->vm, tsc));
		return;
	}
	diff = tsc - lodge_guest_tsc(v);
	v->tsc_adjust += diff;
	set_offset(v, v->tsc_offset + diff);
}

/** lodge_tsc_give - userspace says what a vCPU's TSC is to lodge_tsc() */
void lodge_tsc_give(struct lodge_vcpu *v, u64 offset)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&v->vm->clock_lock, flags);
	v->vm->tsc_set = true;
	v->vm->tsc_last_offset = offset;
	raw_spin_unlock_irqrestore(&v->vm->clock_lock, flags);
	set_offset(v, offset);
}

/* -- the vCPU's attributes: its TSC's offset to the host's -- */

static bool is_offset(const struct kvm_device_attr *a)
{
	return a->group == KVM_VCPU_TSC_CTRL && a->attr == KVM_VCPU_TSC_OFFSET;
}

/** lodge_ioc_has_attr - KVM_HAS_DEVICE_ATTR; -ENXIO for all but the offset */
int lodge_ioc_has_attr(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	return is_offset(buf) ? 0 : -ENXIO;
}

/** lodge_ioc_get_attr - KVM_GET_DEVICE_ATTR; -ENXIO, -EFAULT */
int lodge_ioc_get_attr(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_device_attr *a = buf;

	if (!is_offset(a))
		return -ENXIO;
	return put_user(v->tsc_offset + lodge_slept.tsc, (u64 __user *)a->addr);
}

/** lodge_ioc_set_attr - KVM_SET_DEVICE_ATTR; -ENXIO, -EFAULT */
int lodge_ioc_set_attr(struct lodge_vcpu *v, void *buf, unsigned long arg)
{
	const struct kvm_device_attr *a = buf;
	u64 offset;

	if (!is_offset(a))
		return -ENXIO;
	if (get_user(offset, (u64 __user *)a->addr))
		return -EFAULT;
	/* What userspace knows of is the processor's counter: without what that lost while the host slept. */
	lodge_tsc_give(v, offset - lodge_slept.tsc);
	return 0;
}
