// SPDX-License-Identifier: GPL-2.0
/*
 * kvmclock where it meets the TSC, more than one vCPU and a VMM that restores it; timer_test has what it shows
 * to one vCPU that is left alone.
 */
#include "vm.h"

enum {
	TSC = 0x10, TSC_ADJUST = 0x3b, WALL_OLD = 0x11, TIME_OLD = 0x12, WALL = 0x4b564d00, TIME = 0x4b564d01,
	SECOND = 1000000000,
};

/* ---- one time for all vCPUs ---- */

static struct pvclock pages[2] __attribute__((aligned(4096)));

static void pages_guest(void)
{
	u32 id = rdmsr(0x1b) & 1 << 8 ? 0 : 1;	/* the boot processor has the first */

	wrmsr(TIME, (u64)&pages[id] | 1);
	for (;;)
		report(1, pages[id].flags & PVCLOCK_STABLE, 0, 0);
}

static void check_stable(struct vcpu *a, struct vcpu *b, u32 want)
{
	struct kvm_clock_data c = {};

	OK(ioctl(a->vm->fd, KVM_GET_CLOCK, &c));
	EQ(!!(c.flags & KVM_CLOCK_TSC_STABLE), want);
	EQ(REPORT(a, 1).a, want);
	EQ(REPORT(b, 1).a, want);
}

TEST(stable, "the stable flag is there only while the TSCs of all vCPUs are one")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *a = vcpu_long(vm, 0, pages_guest), *b = vcpu_long(vm, 1, pages_guest);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_clock_data c = {};

	OK(ioctl(b->fd, KVM_SET_MP_STATE, &mp));
	REPORT(a, 1);
	REPORT(b, 1);
	OK(ioctl(vm->fd, KVM_GET_CLOCK, &c));
	if (!(c.flags & KVM_CLOCK_TSC_STABLE))
		test_skip("this host's TSC is not stable");
	check_stable(a, b, 1);
	EQ(set_msr(a, TSC, 1ull << 44), 1);
	EQ(set_msr(b, TSC, 1ull << 50), 1);
	REPORT(a, 1);
	REPORT(b, 1);
	check_stable(a, b, 0);
	EQ(set_msr(a, TSC, 1ull << 46), 1);
	EQ(set_msr(b, TSC, 1ull << 46), 1);
	REPORT(a, 1);
	REPORT(b, 1);
	check_stable(a, b, 1);
}

/* ---- the guest moves its TSC ---- */

static void adjust_guest(void)
{
	u64 before;

	wrmsr(TIME, (u64)&clock_page | 1);
	before = clock_read();
	wrmsr(TSC_ADJUST, rdmsr(TSC_ADJUST) + (1ull << 40));
	report(1, clock_read() - before, 0, 0);
	before = clock_read();
	wrmsr(TSC, rdtsc() + (1ull << 41));
	report(2, clock_read() - before, 0, 0);
	done();
}

TEST(adjust, "kvmclock does not jump where the guest writes TSC_ADJUST or its TSC")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, adjust_guest);

	LE(REPORT(v, 1).a, SECOND * (u64)slowness());
	if (!device_is_kvm())			/* where the second one jumps */
		LE(REPORT(v, 2).a, SECOND * (u64)slowness());
	else
		REPORT(v, 2);
	DONE(v);
}

/* ---- the page ---- */

static void version_guest(void)
{
	clock_page.version = 1000;
	wrmsr(TIME, (u64)&clock_page | 1);
	report(1, clock_page.version, 0, 0);
	wrmsr(TIME, 0);
	clock_page.version = 2001;		/* as if an update was cut short */
	wrmsr(TIME, (u64)&clock_page | 1);
	report(2, clock_page.version, 0, 0);
	done();
}

TEST(version, "the page's version goes on from what the guest has there")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, version_guest);
	u64 version = REPORT(v, 1).a;

	GE(version, 1002);
	LE(version, 1100);
	EQ(version & 1, 0);
	version = REPORT(v, 2).a;
	GE(version, 2004);
	LE(version, 2100);
	EQ(version & 1, 0);
	DONE(v);
}

/* ---- what a VMM restores ---- */

TEST(wall_clock_none, "a wall clock at address 0 is none: KVM_SET_MSRS of 0 writes no memory")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_new(vm, 0);

	memset(vm->mem, 0xaa, 16);
	EQ(set_msr(v, WALL, 0), 1);
	EQ(set_msr(v, WALL_OLD, 0), 1);
	for (u32 i = 0; i < 16; i++)
		EQ(vm->mem[i], 0xaa);
	EQ(set_msr(v, WALL, SCRATCH), 1);
	NE(*(u32 *)(vm->mem + SCRATCH + 4), 0);
}

TEST(wall_clock_of_vm, "the wall clock is the VM's, and its two MSRs are one, as those of the system time are")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *a = vcpu_new(vm, 0), *b = vcpu_new(vm, 1);

	EQ(set_msr(a, WALL, SCRATCH), 1);
	EQ(get_msr(b, WALL), SCRATCH);
	EQ(get_msr(b, WALL_OLD), SCRATCH);
	EQ(set_msr(b, WALL_OLD, SCRATCH + 64), 1);
	EQ(get_msr(a, WALL), SCRATCH + 64);
	EQ(set_msr(a, TIME_OLD, SCRATCH | 1), 1);
	EQ(get_msr(a, TIME), SCRATCH | 1);
	EQ(get_msr(b, TIME), 0);
}

TEST(tsc_khz_near, "KVM_SET_TSC_KHZ takes what two measurements of one frequency may differ by, and shows it")
{
	struct vcpu *v = vcpu_new(vm_new_irqchip(), 0);
	u64 khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), near = khz - khz / 5000;

	OK(ioctl(v->fd, KVM_SET_TSC_KHZ, near));
	EQ(OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), near);
	OK(ioctl(v->fd, KVM_SET_TSC_KHZ, 0));
	EQ(OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), khz);
	if (device_is_kvm())
		return;				/* it may scale, or catch up */
	ERR(ioctl(v->fd, KVM_SET_TSC_KHZ, khz - khz / 1000), EINVAL);
	ERR(ioctl(v->fd, KVM_SET_TSC_KHZ, khz * 2), EINVAL);
	EQ(OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0)), khz);
}
