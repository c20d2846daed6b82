// SPDX-License-Identifier: GPL-2.0
/*
 * The host sleeps (suspend to RAM, hibernation) and wakes up: what becomes of the guests' time.
 *
 * A TSC may begin anew then. A guest's TSC goes on where it stood; where the host's has gone on, so does the
 * guest's. Timers stand still while the host sleeps, as its own do. kvmclock shows the host's boot time,
 * which counts sleep: what the TSC did not count is added, and the guest is told that it was stopped.
 *
 * Each vCPU notices by itself, the next time it wants into the guest: no list of VMs is needed.
 * Sleep takes virtualization off every CPU, so the first window of each vCPU after it
 * goes the way of "another vCPU than the last one" (lodge_host_enter), which looks.
 *
 * Locks: none. Virtualization is off and programs are frozen while lodge_slept changes.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/timekeeping.h>
#include <asm/kvm_para.h>

#include "core/ops.h"
#include "host/tsc.h"

struct lodge_slept lodge_slept __read_mostly;

static struct {
	u64 tsc;	/* the processor's */
	u64 boot_ns;
} began;

/** lodge_sleep_begins - the host is about to sleep; the last CPU, IRQs off */
void lodge_sleep_begins(void)
{
	began.tsc = rdtsc_ordered();
	began.boot_ns = ktime_get_boottime_ns();
}

/** lodge_sleep_ends - it is awake, its clocks go again; the same CPU, IRQs off */
void lodge_sleep_ends(void)
{
	u64 tsc = rdtsc_ordered(), counted = 0, passed = ktime_get_boottime_ns() - began.boot_ns;

	if (tsc < began.tsc)
		lodge_slept.tsc += began.tsc - tsc;
	else
		counted = mul_u64_u32_div(tsc - began.tsc, USEC_PER_SEC, tsc_khz);
	/* The host's clock may have counted by a coarser one: a guest's does not go back for that. */
	if ((s64)(passed - counted) > 0)
		lodge_slept.ns += passed - counted;
	lodge_slept.times++;
}

/**
 * lodge_sleep_noticed - the host has slept since this vCPU ran last
 * @v: the vCPU; its state can be written
 *
 * Context: IRQs off.
 */
void lodge_sleep_noticed(struct lodge_vcpu *v)
{
	v->sleeps = lodge_slept.times;
	lodge_ops->set_tsc_offset(v);
	if (v->pv.clock_msr & KVM_MSR_ENABLED)
		v->pv.clock_stopped = true;
	lodge_set_request(v, REQ_CLOCK);
}
