// SPDX-License-Identifier: GPL-2.0
/*
 * Timers and clocks: the local APIC's timer in its three modes, the PIT through the PIC and the
 * IOAPIC and its speaker gate, kvmclock's page.
 *
 * What is checked is never that something happens soon, only that it happens at all, not too
 * early, and as often as it should.
 */
#include <pthread.h>
#include <time.h>

#include "vm.h"

enum { TIMER = 0x71 };

static void just_eoi(struct frame *f)
{
	(void)f;
	eoi();
}

static void pic_eoi(struct frame *f)
{
	(void)f;
	outb(0x20, 0x20);
}

static struct vcpu *timer_vcpu(void (*fn)(void))
{
	return vcpu_long(vm_new_irqchip(), 0, fn);
}

static struct vcpu *pit_vcpu(void (*fn)(void))
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	return vcpu_long(vm, 0, fn);
}

/* ---- the local APIC's timer ---- */

static void oneshot_guest(void)
{
	u32 a, b;

	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_TDCR, 0xb);		/* by 1 */
	apic_write(APIC_LVTT, TIMER);
	apic_write(APIC_TMICT, 20000000);	/* 20 ms: the bus runs at 1 GHz */
	a = apic_read(APIC_TMCCT);
	b = apic_read(APIC_TMCCT);
	GUEST_TRUE(a <= 20000000 && a > 0);
	GUEST_TRUE(b <= a);
	sti_hlt();
	GUEST_IS(vector_count[TIMER], 1);
	GUEST_IS(apic_read(APIC_TMCCT), 0);
	report(1, 0, 0, 0);
	done();
}

TEST(apic_oneshot, "APIC timer, one-shot: counts down, fires once, not early, stays at 0")
{
	struct vcpu *v = timer_vcpu(oneshot_guest);
	u64 start = now_us();

	REPORT(v, 1);
	GE(now_us() - start, 20000);
	DONE(v);
}

static void masked_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, TIMER);
	apic_write(APIC_TMICT, 20000000);
	apic_write(APIC_TMICT, 0);		/* stops it */
	GUEST_IS(apic_read(APIC_TMCCT), 0);
	sti();
	report(1, 0, 0, 0);			/* 50 ms pass */
	sti_nop();
	GUEST_IS(vector_count[TIMER], 0);
	apic_write(APIC_LVTT, 0x10000 | TIMER);
	apic_write(APIC_TMICT, 100000);
	while (apic_read(APIC_TMCCT))
		cpu_pause();
	report(2, 0, 0, 0);
	sti_nop();
	GUEST_IS(vector_count[TIMER], 0);
	done();
}

TEST(apic_masked, "APIC timer: initial count 0 stops it, a masked one does not interrupt")
{
	struct vcpu *v = timer_vcpu(masked_guest);

	REPORT(v, 1);
	usleep(50000);
	REPORT(v, 2);
	usleep(20000);
	DONE(v);
}

static void periodic_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_TDCR, 0x3);		/* by 16 */
	apic_write(APIC_LVTT, 0x20000 | TIMER);
	apic_write(APIC_TMICT, 5000000 / 16);	/* 5 ms */
	for (u32 i = 0; i < 10; i++)
		sti_hlt();
	cli();
	report(1, vector_count[TIMER], 0, 0);
	apic_write(APIC_TMICT, 0);
	done();
}

TEST(apic_periodic, "APIC timer, periodic: ten times, with the divider, not early")
{
	struct vcpu *v = timer_vcpu(periodic_guest);
	u64 start = now_us(), took;
	u64 count = REPORT(v, 1).a;

	took = now_us() - start;
	GE(count, 10);
	GE(took, count * 5000 - 5000);
	DONE(v);
}

static void slow_bus_guest(void)
{
	u32 first;

	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_TDCR, 0xb);		/* by 1 */
	apic_write(APIC_LVTT, TIMER);
	apic_write(APIC_TMICT, 500000);		/* 20 ms at 25 MHz */
	first = apic_read(APIC_TMCCT);
	GUEST_TRUE(first <= 500000 && first > 0);
	sti_hlt();
	GUEST_IS(vector_count[TIMER], 1);
	report(1, 0, 0, 0);
	done();
}

static void slowest_bus_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_TDCR, 0xa);		/* by 128 */
	apic_write(APIC_LVTT, 0x20000 | TIMER);
	apic_write(APIC_TMICT, ~0u);		/* centuries */
	report(1, 0, 0, 0);			/* 20 ms pass */
	sti_nop();
	GUEST_IS(vector_count[TIMER], 0);
	GUEST_TRUE(apic_read(APIC_TMCCT) > 0);
	done();
}

TEST(apic_bus, "APIC timer: KVM_CAP_X86_APIC_BUS_CYCLES_NS sets its bus's clock, before the first vCPU")
{
	static const u64 bad[] = { 0, (1 << 25) + 1, ~0ull };
	struct kvm_enable_cap cap = { .cap = 237, .args[0] = 40 };
	struct vm *none = vm_new(), *vm = vm_new_irqchip();
	struct vcpu *v;
	u64 start;

	if (device_is_kvm() && !check_cap(237))
		test_skip("this KVM has no KVM_CAP_X86_APIC_BUS_CYCLES_NS");
	EQ(check_cap(237), 1);
	ERR(ioctl(none->fd, KVM_ENABLE_CAP, &cap), ENXIO);
	for (u32 i = 0; i < 3; i++) {
		cap.args[0] = bad[i];
		ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	}
	cap.args[0] = 1 << 25;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	cap.args[0] = 40;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	v = vcpu_long(vm, 0, slow_bus_guest);
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	start = now_us();
	REPORT(v, 1);
	GE(now_us() - start, 20000);
	DONE(v);

	if (device_is_kvm())			/* its sum wraps there */
		return;
	vm = vm_new_irqchip();
	cap.args[0] = 1 << 25;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	v = vcpu_long(vm, 0, slowest_bus_guest);
	REPORT(v, 1);
	usleep(20000);
	DONE(v);
}

static void deadline_guest(void)
{
	u64 target = rdtsc() + (1ull << 40);

	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	wrmsr(0x6e0, target);
	GUEST_IS(rdmsr(0x6e0), target);
	target = rdtsc() + 20000000;
	wrmsr(0x6e0, target);
	sti_hlt();
	GUEST_TRUE(rdtsc() >= target);
	GUEST_IS(vector_count[TIMER], 1);
	GUEST_IS(rdmsr(0x6e0), 0);
	/* in the past: at once */
	wrmsr(0x6e0, rdtsc() - 1000);
	for (u64 i = 0; vector_count[TIMER] < 2; i++)
		GUEST_TRUE(i < 100000000);
	/* disarmed */
	wrmsr(0x6e0, rdtsc() + 100000000);
	wrmsr(0x6e0, 0);
	target = rdtsc() + 120000000;
	while (rdtsc() < target)
		cpu_pause();
	GUEST_IS(vector_count[TIMER], 2);
	/* in another mode the MSR reads 0 and takes nothing */
	apic_write(APIC_LVTT, TIMER);
	wrmsr(0x6e0, rdtsc());
	GUEST_IS(rdmsr(0x6e0), 0);
	done();
}

TEST(tsc_deadline, "APIC timer, TSC deadline: not early, in the past at once, 0 disarms it")
{
	struct vcpu *v = timer_vcpu(deadline_guest);

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("no KVM_CAP_TSC_DEADLINE_TIMER");
	DONE(v);
}

static u64 tsc_per_ms;
static volatile u64 armed;

/* The one that is armed has come, not one before it. */
static void deadline_came(struct frame *f)
{
	(void)f;
	GUEST_TRUE(rdtsc() >= armed);
	eoi();
}

static void arm_deadline(u64 ms)
{
	armed = rdtsc() + ms * tsc_per_ms;
	wrmsr(0x6e0, armed);
}

static void rearm_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = deadline_came;
	on_vector[0x51] = just_eoi;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	report(1, 0, 0, 0);
	cli();
	arm_deadline(20);
	sti_hlt();		/* the other interrupt ends it, most likely */
	cli();
	arm_deadline(60);
	spin_openly();
	while (rdtsc() < armed)
		cpu_pause();
	for (u64 i = 0; !vector_count[TIMER]; i++)
		GUEST_TRUE(i < 100000000);
	GUEST_IS(vector_count[0x51], 1);
	done();
}

static void *wake_soon(void *vm)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x51 };

	usleep(3000);
	GE(OK(ioctl(((struct vm *)vm)->fd, KVM_SIGNAL_MSI, &msi)), 1);
	return NULL;
}

TEST(deadline_rearm, "a deadline that another interrupt overtakes in HLT, then moved: not at the old time")
{
	struct vcpu *v = timer_vcpu(rearm_guest);
	pthread_t t;

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("no KVM_CAP_TSC_DEADLINE_TIMER");
	GUEST(v->vm, tsc_per_ms) = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
	REPORT(v, 1);
	EQ(pthread_create(&t, NULL, wake_soon, v->vm), 0);
	DONE(v);
	EQ(pthread_join(t, NULL), 0);
}

static void far_guest(void)
{
	apic_enable();
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	wrmsr(0x6e0, rdtsc() + tsc_per_ms);
	report(1, 0, 0, 0);			/* 20 ms pass */
	done();
}

TEST(deadline_saved, "a deadline that passes in userspace: KVM_GET_MSRS and KVM_GET_LAPIC do not lose it")
{
	struct vcpu *v = timer_vcpu(far_guest);
	struct kvm_lapic_state s;

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("no KVM_CAP_TSC_DEADLINE_TIMER");
	GUEST(v->vm, tsc_per_ms) = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
	REPORT(v, 1);
	usleep(20000);
	/* What is saved tells of it, one way or the other. */
	if (!get_msr(v, 0x6e0)) {
		OK(ioctl(v->fd, KVM_GET_LAPIC, &s));
		EQ(s.regs[APIC_IRR + (TIMER >> 5) * 16 + (TIMER % 32) / 8] >> TIMER % 8 & 1, 1);
	} else {
		TRUE(true);
	}
}

static void deadline_user_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	write_cr8(15);
	wrmsr(0x6e0, rdtsc() + 30000000);
	report(1, 0, 0, 0);
	spin_openly();
	while (!(apic_read(APIC_IRR + 0x30) >> (TIMER & 31) & 1))
		cpu_pause();
	GUEST_IS(vector_count[TIMER], 0);
	write_cr8(0);
	sti_nop();
	GUEST_IS(vector_count[TIMER], 1);
	done();
}

TEST(timer_user, "a timer that expires while the vCPU is in userspace is pending afterwards")
{
	struct vcpu *v = timer_vcpu(deadline_user_guest);

	REPORT(v, 1);
	usleep(50000);
	DONE(v);
}

/* ---- the PIT ---- */

static void pit_program(u8 control, u16 count)
{
	u8 channel = control >> 6;

	outb(0x43, control);
	outb(0x40 + channel, count);
	outb(0x40 + channel, count >> 8);
}

static u16 pit_read(u8 channel)
{
	u16 lo;

	outb(0x43, channel << 6);		/* latch */
	lo = inb(0x40 + channel);
	return lo | inb(0x40 + channel) << 8;
}

static void pit_pic_guest(void)
{
	apic_enable();
	apic_write(APIC_LVT0, 0x700);
	on_vector[0x20] = pic_eoi;
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0x21, 0xfe);
	outb(0xa1, 0xff);
	pit_program(0x34, 11932);		/* channel 0, mode 2, 10 ms */
	for (u32 i = 0; i < 5; i++)
		sti_hlt();
	cli();
	report(1, vector_count[0x20], 0, 0);
	done();
}

TEST(pit_pic, "PIT channel 0, periodic, through the PIC: five ticks, not early")
{
	struct vcpu *v = pit_vcpu(pit_pic_guest);
	u64 start = now_us(), took, count = REPORT(v, 1).a;

	took = now_us() - start;
	GE(count, 5);
	GE(took, count * 10000 - 11000);
	DONE(v);
}

static void pit_ioapic_guest(void)
{
	apic_enable();
	pics_off();
	on_vector[0x49] = just_eoi;
	ioapic_route(0, 0x49, 0);
	pit_program(0x30, 11932);		/* mode 0: once */
	sti_hlt();
	GUEST_IS(vector_count[0x49], 1);
	report(1, 0, 0, 0);
	pit_program(0x34, 11932);
	sti_hlt();
	sti_hlt();
	GUEST_TRUE(vector_count[0x49] >= 3);
	done();
}

TEST(pit_ioapic, "PIT channel 0, one-shot and periodic, through the IOAPIC")
{
	struct vcpu *v = pit_vcpu(pit_ioapic_guest);
	u64 start = now_us();

	REPORT(v, 1);
	GE(now_us() - start, 9000);
	DONE(v);
}

static void pit_count_guest(void)
{
	u16 a, b;

	pit_program(0x34, 0xffff);
	a = pit_read(0);
	report(1, 0, 0, 0);			/* 10 ms pass */
	b = pit_read(0);
	GUEST_TRUE((u16)(a - b) > 5000);
	/* read-back: status of channel 0 */
	outb(0x43, 0xe2);
	GUEST_IS(inb(0x40) & 0x3f, 0x34);
	done();
}

TEST(pit_count, "PIT: the counter counts down; latch and read-back commands")
{
	struct vcpu *v = pit_vcpu(pit_count_guest);

	REPORT(v, 1);
	usleep(10000);
	DONE(v);
}

static void speaker_guest(void)
{
	outb(0x61, 0);				/* gate off */
	pit_program(0xb0, 11932);		/* channel 2, mode 0, 10 ms */
	GUEST_IS(inb(0x61) & 0x20, 0);
	outb(0x61, 1);				/* the gate's rising edge starts it */
	GUEST_IS(inb(0x61) & 3, 1);
	for (u64 i = 0; !(inb(0x61) & 0x20); i++)
		GUEST_TRUE(i < 10000000);
	done();
}

TEST(pit_speaker, "PIT channel 2 through port 0x61: the gate starts it, its output shows the end")
{
	struct vcpu *v = pit_vcpu(speaker_guest);
	u64 start = now_us();

	DONE(v);
	GE(now_us() - start, 9000);
}

/* ---- kvmclock ---- */

static void clock_guest(void)
{
	u64 last;

	wrmsr(0x4b564d01, (u64)&clock_page | 1);
	GUEST_TRUE(clock_page.version != 0);
	GUEST_IS(clock_page.version & 1, 0);
	GUEST_TRUE(clock_page.mul != 0);
	last = clock_read();
	for (u32 i = 0; i < 10000; i++) {
		u64 now = clock_read();

		GUEST_TRUE(now >= last);
		last = now;
	}
	report(1, clock_read(), clock_page.flags, 0);
	report(2, clock_read(), 0, 0);
	report(3, clock_read(), 0, 0);
	done();
}

TEST(kvmclock, "kvmclock: even version, monotonic, in step with the host and KVM_GET_CLOCK, KVM_SET_CLOCK")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, clock_guest);
	struct kvm_clock_data c;
	struct words w;
	u64 host, ns;

	w = REPORT(v, 1);
	host = now_us();
	OK(ioctl(v->vm->fd, KVM_GET_CLOCK, &c));
	GE(c.clock + 1000000, w.a);
	LE(c.clock - w.a, 2000000000);
	usleep(100000);
	ns = REPORT(v, 2).a - w.a;
	host = now_us() - host;
	GE(ns, 99000000);
	LE(ns, host * 1000 + 500000000);
	memset(&c, 0, sizeof(c));
	c.clock = 5000000000000;
	OK(ioctl(v->vm->fd, KVM_SET_CLOCK, &c));
	w = REPORT(v, 3);
	GE(w.a, 5000000000000);
	LE(w.a, 5010000000000);
	DONE(v);
}

TEST(kvmclock_stable, "kvmclock: the stable flag is set when KVM_GET_CLOCK says that the TSC is stable")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, clock_guest);
	struct kvm_clock_data c;
	u64 flags = REPORT(v, 1).b;

	OK(ioctl(v->vm->fd, KVM_GET_CLOCK, &c));
	EQ(flags & 1, !!(c.flags & KVM_CLOCK_TSC_STABLE));
}

static void stopped_guest(void)
{
	wrmsr(0x4b564d01, (u64)&clock_page | 1);
	report(1, clock_page.flags, 0, 0);
	report(2, clock_page.flags, 0, 0);
	done();
}

TEST(clock_stopped, "KVM_KVMCLOCK_CTRL: the clock's page says that the guest was stopped")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, stopped_guest);

	EQ(REPORT(v, 1).a & 2, 0);
	OK(ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0));
	EQ(REPORT(v, 2).a & 2, 2);
	DONE(v);
}

static struct {
	u32 version, sec, nsec;
} wall __attribute__((aligned(4096)));

static void wall_guest(void)
{
	wrmsr(0x4b564d00, (u64)&wall);
	GUEST_IS(wall.version & 1, 0);
	wrmsr(0x4b564d01, (u64)&clock_page | 1);
	report(1, wall.sec, clock_read(), 0);
	done();
}

TEST(wall_clock, "kvmclock: wall clock at boot plus system time is the host's time of day")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, wall_guest);
	struct words w = REPORT(v, 1);
	u64 now = w.a + w.b / 1000000000, host = time(NULL);

	GE(now + 2, host);
	LE(now, host + 2);
	DONE(v);
}

static void old_msr_guest(void)
{
	wrmsr(0x12, (u64)&clock_page | 1);
	GUEST_TRUE(clock_page.mul != 0);
	clock_page.version = 0;
	wrmsr(0x12, 0);
	report(1, rdmsr(0x12), 0, 0);
	GUEST_IS(clock_page.version, 0);
	done();
}

TEST(kvmclock_old, "kvmclock: the older MSR number, and switching it off")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, old_msr_guest);

	EQ(REPORT(v, 1).a, 0);
	DONE(v);
}

static void tsc_many_guest(void)
{
	u64 last = 0;

	for (u32 i = 0; i < 200; i++) {
		u64 now = rdtsc();

		GUEST_TRUE(now > last);
		last = now;
		outb(0x10, 0);
	}
	done();
}

TEST(tsc_monotonic, "the TSC goes forward across exits")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, tsc_many_guest);

	for (int i = 0; i < 200; i++)
		RUN_TO_OUT(v, 0x10, 1);
	DONE(v);
}
