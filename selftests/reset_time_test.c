// SPDX-License-Identifier: GPL-2.0
/*
 * Time across LODGE_RESET: it stands still between snapshot and reset. What was left of a timer's time is left again,
 * by the guest's own TSC and kvmclock; nothing comes early, nothing jumps, however long the host waited.
 */
#include <sched.h>

#include "guest/timer.h"
#include "reset.h"

enum { READY = 1, SAID = 2, MSR_STEAL = 0x4b564d03 };

static struct vm *vm;

static struct vcpu *one(void (*fn)(void))
{
	needs_snapshot();
	vm = timer_vm();
	return vcpu_long(vm, 0, fn);
}

static void reset(void)
{
	struct lodge_reset r;

	EQ(vm_reset(vm, &r), 0);
}

/*
 * The timer's expiry lies ahead at the snapshot. The host lets time pass before each reset; the guest must not see it:
 * neither a tick that comes early (by its own TSC), nor a clock that has jumped.
 */
static void timer_rounds(enum timer_way way)
{
	struct vcpu *v;
	u64 ns, most = 0, start = now_us();

	needs_snapshot();
	vm = timer_vm();
	v = timer_armed(vm, way);
	EQ(vm_snapshot(vm, 0), 0);
	for (int i = 0; i < 12; i++) {
		ns = timer_ends(v, start);
		most = ns > most ? ns : most;
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
	timer_rounds(ONESHOT);
}

TEST(periodic, "the LAPIC's timer, periodic: the same")
{
	timer_rounds(PERIODIC);
}

TEST(deadline, "the TSC deadline timer: the same")
{
	timer_rounds(DEADLINE);
}

TEST(pit, "the PIT: the same")
{
	timer_rounds(BY_PIT);
}

/* Many ticks, each with its distance to the last: none is lost or too early by the guest's own TSC, and TMCCT agrees. */
static void counting_guest(void)
{
	u64 last, least = ~0ull;

	apic_enable();
	pics_off();
	on_vector[TIMER] = timer_tick;
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
			GE(s.a, at + 4);	/* more, where the host had it wait before it could look */
			LE(s.a, at + 20);
			/* four periods, of which the first was under way: three at least */
			GE(s.b * 1000 / khz, 14900);
			usleep(7000);
			reset();
		}
		EQ(vm_drop(vm), 0);
		s = REPORT(v, SAID);
		GE(s.a, at + 4);
		at = s.a;
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
	/* What is stolen behind the last of these comes into the snapshot's first round. */
	for (int i = 0; i < 5; i++) {
		start = now_us();
		first = REPORT(v, SAID).a;
	}
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
