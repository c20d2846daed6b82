// SPDX-License-Identifier: GPL-2.0
/*
 * Time across LODGE_RESET: it stands still between snapshot and reset. What was left of a timer's time is left again,
 * by the guest's own TSC and kvmclock; nothing comes early, nothing jumps, however long the host waited.
 */
#include <sched.h>

#include "reset.h"

enum { READY = 1, SAID = 2, TIMER = 0x71, MSR_KVMCLOCK = 0x4b564d01, MSR_STEAL = 0x4b564d03 };

static struct vm *vm;

static struct vcpu *one(void (*fn)(void))
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

	needs_snapshot();
	vm = vm_new_irqchip();
	OK(ioctl(vm->fd, KVM_CREATE_PIT2, &config));
	return vcpu_long(vm, 0, fn);
}

static void reset(void)
{
	struct lodge_reset r;

	EQ(vm_reset(vm, &r), 0);
}

static void mark(u8 n)
{
	outb(0x80, n);
}

static volatile u64 way, period, ticks, armed_at, fired_at, clock_at;
enum { PERIOD = 40000000 };	/* ns, and cycles of the timer's bus */

static void tick(struct frame *f)
{
	(void)f;
	fired_at = rdtsc();
	ticks++;
	eoi();
}

static void pit_tick(struct frame *f)
{
	(void)f;
	fired_at = rdtsc();
	ticks++;
	outb(0x20, 0x20);
}

static void arm_timer(void)
{
	switch (way) {
	case 0:		/* one-shot */
		apic_write(APIC_LVTT, TIMER);
		apic_write(APIC_TMICT, PERIOD);
		break;
	case 1:
		apic_write(APIC_LVTT, 0x20000 | TIMER);
		apic_write(APIC_TMICT, PERIOD);
		break;
	case 2:
		apic_write(APIC_LVTT, 0x40000 | TIMER);
		wrmsr(0x6e0, rdtsc() + period);
		break;
	case 3:		/* the PIT, by the PIC: 40 ms */
		outb(0x20, 0x11);
		outb(0x21, 0x20);
		outb(0x21, 4);
		outb(0x21, 1);
		outb(0x21, 0xfe);
		apic_write(APIC_LVT0, 0x700);
		outb(0x43, 0x34);
		outb(0x40, 47727 & 0xff);
		outb(0x40, 47727 >> 8);
	}
}

/* Says how long it was until the first tick, by the TSC and by kvmclock, and that it was one. */
static void timer_guest(void)
{
	apic_enable();
	if (way != 3)
		pics_off();
	on_vector[TIMER] = tick;
	on_vector[0x20] = pit_tick;
	apic_write(APIC_TDCR, 0xb);		/* by 1 */
	wrmsr(MSR_KVMCLOCK, (u64)&clock_page | 1);
	cli();
	mark(1);
	clock_at = clock_read();
	armed_at = rdtsc();
	arm_timer();
	mark(2);
	while (!ticks) {
		sti_hlt();
		cli();
	}
	report(SAID, fired_at - armed_at, clock_read() - clock_at, ticks);
	for (;;)
		mark(3);
}

/*
 * The timer's expiry lies ahead at the snapshot. The host lets time pass before each reset; the guest must not see it:
 * neither a tick that comes early (by its own TSC), nor a clock that has jumped.
 */
static void timer_rounds(u64 how)
{
	struct vcpu *v = one(timer_guest);
	u64 khz, most = 0, start = now_us();

	khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
	GUEST(vm, way) = how;
	GUEST(vm, period) = PERIOD * khz / 1000000;
	RUN_TO_OUT(v, 0x80, 1);
	RUN_TO_OUT(v, 0x80, 1);
	EQ(vm_snapshot(vm, 0), 0);
	for (int i = 0; i < 12; i++) {
		struct words s = REPORT(v, SAID);
		u64 tsc_ns = s.a * 1000000 / khz;

		GE(tsc_ns, PERIOD - PERIOD / 1000);
		GE(s.b + 1000, tsc_ns);		/* the clock was read before arming and after the tick */
		LE(s.b, (now_us() - start) * 1000 + PERIOD);
		EQ(s.c, 1);
		most = s.b > most ? s.b : most;
		if (i % 3 == 1)
			usleep(300000);
		start = now_us();
		reset();
		if (i % 4 == 2) {	/* two resets with time between them */
			usleep(300000);
			start = now_us();
			reset();
		}
	}
	note("at most %llu us", (unsigned long long)most / 1000);
}

TEST(oneshot, "the LAPIC's timer, one-shot: what was left of its time at the snapshot is left after each reset")
{
	timer_rounds(0);
}

TEST(periodic, "the LAPIC's timer, periodic: the same")
{
	timer_rounds(1);
}

TEST(deadline, "the TSC deadline timer: the same")
{
	timer_rounds(2);
}

TEST(pit, "the PIT: the same")
{
	timer_rounds(3);
}

/* Many ticks, each with its distance to the last: none is lost or too early by the guest's own TSC, and TMCCT agrees. */
static void counting_guest(void)
{
	u64 last, least = ~0ull;

	apic_enable();
	pics_off();
	on_vector[TIMER] = tick;
	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVTT, 0x20000 | TIMER);
	cli();
	apic_write(APIC_TMICT, 5000000);
	last = rdtsc();
	for (;;) {
		u32 left = apic_read(APIC_TMCCT);

		report(READY, ticks, left, 0);
		GUEST_TRUE(apic_read(APIC_TMCCT) <= 5000000);
		for (u64 n = ticks + 4; ticks < n; cli())
			sti_hlt();
		least = fired_at - last < least ? fired_at - last : least;
		last = fired_at;
		report(SAID, ticks, least, 0);
	}
}

TEST(ticks, "a periodic timer counts on from the snapshot's count, round after round")
{
	struct vcpu *v;
	struct words s;
	u64 khz, at = 0;

	v = one(counting_guest);
	khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
	for (int i = 0; i < 10; i++) {
		s = REPORT(v, READY);
		EQ(s.a, at);
		EQ(vm_snapshot(vm, 0), 0);
		for (int n = 0; n < 3; n++) {
			s = REPORT(v, SAID);
			EQ(s.a, at + 4);
			/* four periods, of which the first was under way: three at least */
			GE(s.b * 1000 / khz, 14900);
			usleep(7000);
			reset();
		}
		EQ(vm_drop(vm), 0);
		EQ(REPORT(v, SAID).a, at + 4);
		at += 4;
	}
}

struct steal_time {
	u64 steal;
	u32 version, flags;
	u8 rest[48];
} __attribute__((aligned(64)));
static volatile struct steal_time steal_page;

static void steal_guest(void)
{
	wrmsr(MSR_STEAL, (u64)&steal_page | 1);
	for (;;) {
		for (u64 end = rdtsc() + 3000000; rdtsc() < end;)
			cpu_pause();
		report(SAID, steal_page.steal, steal_page.version, 0);
	}
}

static void *burn(void *stop)
{
	while (!*(volatile bool *)stop)
		;
	return NULL;
}

TEST(steal, "stolen time: that of the snapshot, and what was stolen since the reset")
{
	bool stop = false;
	struct vcpu *v;
	cpu_set_t cpu;
	pthread_t t;
	u64 first, most = 0, start, now;

	v = one(steal_guest);
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	OK(sched_setaffinity(0, sizeof(cpu), &cpu));
	EQ(pthread_create(&t, NULL, burn, &stop), 0);
	for (int i = 0; i < 5; i++)
		first = REPORT(v, SAID).a;
	start = now_us();
	EQ(vm_snapshot(vm, 0), 0);
	for (int i = 0; i < 20; i++) {
		now = REPORT(v, SAID).a;
		GE(now, first);
		most = now - first > most ? now - first : most;
		LE(now - first, (now_us() - start) * 1000 + 1000000);
		usleep(20000);
		start = now_us();
		reset();
	}
	stop = true;
	EQ(pthread_join(t, NULL), 0);
	note("%llu us before, at most %llu us more", (unsigned long long)first / 1000, (unsigned long long)most / 1000);
}
