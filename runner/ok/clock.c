// SPDX-License-Identifier: GPL-2.0
/*
 * Time as guests see it: the TSC does not go back, on a vCPU that is moved between processors nor from one vCPU
 * to another; kvmclock's page says what time it is; a TSC deadline comes, never early, 100,000 times.
 */
#include <time.h>

#include "silicon.h"
#include "vm.h"

enum { TIMER = 0x71, SYSTEM_TIME = 0x4b564d01, DEADLINE = 0x6e0, CLOCK_GPA = SCRATCH,
	LATES = HIGH_SCRATCH, MAX_DEADLINES = 100000 };

static void skip_unless_tsc(void)
{
	char source[32];

	look_file(source, sizeof(source),
		  "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	if (strncmp(source, "tsc", 3))
		test_skip("the host does not trust its TSC: its clock is %s", source);
}

static u64 raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* ---- the TSC does not go back ---- */

static struct {
	volatile u32 lock;
	volatile bool stop;
	volatile u64 last, reads, backwards, most;
} shared;

static inline u64 guest_ordered_tsc(void)
{
	asm volatile("lfence" : : : "memory");
	return rdtsc();
}

static void guest_watch_tsc(void)
{
	spin_openly();
	while (!shared.stop) {
		u64 now;

		while (__atomic_exchange_n(&shared.lock, 1, __ATOMIC_ACQUIRE))
			cpu_pause();
		now = guest_ordered_tsc();
		if (now < shared.last) {
			shared.backwards++;
			if (shared.last - now > shared.most)
				shared.most = shared.last - now;
		}
		shared.last = now;
		shared.reads++;
		__atomic_store_n(&shared.lock, 0, __ATOMIC_RELEASE);
	}
	done();
}

TEST(tsc_moves, "two vCPUs that are moved between processors never see the TSC go back, nor each behind the other")
{
	static int cpus[MAX_HOST_CPUS];
	int n = want_two_cpus(cpus, MAX_HOST_CPUS), moves = emulator() ? 300 : 5000;
	struct vm *vm = vm_new();
	struct runner r[2] = { 0 };

	skip_unless_tsc();
	time_limit(60);
	for (u32 i = 0; i < 2; i++)
		runner_start(&r[i], vcpu_long(vm, i, guest_watch_tsc), -1);
	for (int i = 0; i < moves; i++) {
		move_all(r, 2, cpus, n, i);
		usleep(1000);
	}
	GUEST(vm, shared.stop) = true;
	for (int i = 0; i < 2; i++)
		runner_join(&r[i]);
	note("%d moves over %d processors, %llu reads", moves, n, (unsigned long long)GUEST(vm, shared.reads));
	if (GUEST(vm, shared.backwards))
		note("backwards %llu times, by %llu ticks at the most",
		     (unsigned long long)GUEST(vm, shared.backwards),
		     (unsigned long long)GUEST(vm, shared.most));
	GE(GUEST(vm, shared.reads), moves);
	EQ(GUEST(vm, shared.backwards), 0);
}

/* ---- kvmclock ---- */

struct clock_page {
	u32 version, pad;
	u64 tsc, ns;
	u32 mul;
	int8_t shift;
	u8 flags, pad2[2];
};

static void guest_clock(void)
{
	volatile struct clock_page *page = (void *)CLOCK_GPA;
	u64 last = 0;

	wrmsr(SYSTEM_TIME, CLOCK_GPA | 1);
	for (;;) {
		u64 ticks, ns;
		u32 version;

		do {
			version = page->version;
			asm volatile("" : : : "memory");
			ticks = guest_ordered_tsc() - page->tsc;
			ticks = page->shift < 0 ? ticks >> -page->shift : ticks << page->shift;
			ns = page->ns + (ticks >> 32) * page->mul + ((u32)ticks * (u64)page->mul >> 32);
			asm volatile("" : : : "memory");
		} while (version & 1 || version != page->version);
		GUEST_TRUE(ns >= last);
		last = ns;
		report(1, ns, guest_ordered_tsc(), 0);
	}
}

/* The guest's clock, and the host's in the middle of asking. */
static u64 ask(struct vcpu *v, u64 *host, u64 *around)
{
	u64 before = raw_ns(), ns = REPORT(v, 1).a, after = raw_ns();

	*host = before + (after - before) / 2;
	*around = after - before;
	return ns;
}

/* Millionths by which two durations differ. */
static long long ppm(u64 guest, u64 host)
{
	return ((long long)guest - (long long)host) * 1000000 / (long long)host;
}

TEST(kvmclock, "kvmclock's page is sound, does not go back between processors, and goes as the host's clock does")
{
	enum { LIMIT_PPM = 2000 };	/* of which the kernel's calibration may take 1000 */
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS), i;
	struct vcpu *v = vcpu_long(vm_new(), 0, guest_clock);
	volatile struct clock_page *page = (void *)(v->vm->mem + CLOCK_GPA);
	u64 guest[2], host[2], around[2], slack;
	long long off;

	if (!check_cap(KVM_CAP_ADJUST_CLOCK))
		test_skip("the hypervisor has no kvmclock");
	ask(v, &host[0], &around[0]);		/* the first time takes long */
	guest[0] = ask(v, &host[0], &around[0]);
	EQ(page->version & 1, 0);
	NE(page->version, 0);
	NE(page->mul, 0);
	note("version %u, multiplier %u, shift %d, flags %u", page->version, page->mul, page->shift,
	     page->flags);
	for (i = 0; i < 100 || i < n; i++) {
		pin_to(thread_id(), cpus[i % n]);
		guest[1] = ask(v, &host[1], &around[1]);	/* the guest compares */
		usleep(20000);
	}
	guest[1] = ask(v, &host[1], &around[1]);
	off = ppm(guest[1] - guest[0], host[1] - host[0]);
	/* What passed while it was asked belongs to neither. */
	slack = (around[0] + around[1]) * 1000000 / (host[1] - host[0]);
	note("%lld millionths off the host's clock in %llu ms, +-%llu by the asking", off,
	     (unsigned long long)((host[1] - host[0]) / 1000000), (unsigned long long)slack);
	LE(off < 0 ? -off : off, LIMIT_PPM + slack);
}

/* ---- deadlines ---- */

static u64 delta;	/* how far ahead, at least */
static u32 deadlines;
static volatile bool came, waits;
static volatile u64 armed;
static u64 early;

static void guest_came(struct frame *f)
{
	(void)f;
	came = true;
	eoi();
}

static void guest_deadlines(void)
{
	u32 *lates = (u32 *)LATES;

	apic_enable();
	pics_off();
	on_vector[TIMER] = guest_came;
	apic_write(APIC_LVTT, 0x40000 | TIMER);
	for (u32 i = 0; i < deadlines; i++) {
		u64 now;

		came = false;
		armed = rdtsc() + delta + delta * (i & 7);
		wrmsr(DEADLINE, armed);
		if (waits) {
			while (!came) {
				sti_hlt();
				cli();
			}
		} else {
			sti();
			while (!came)
				cpu_pause();
			cli();
		}
		now = rdtsc();
		if (now < armed)
			early++;
		lates[i] = now - armed > ~0u ? ~0u : now - armed;
	}
	done();
}

enum { MAX_AT_ONCE = 32 };

static bool all_ended(const struct runner *r, int count)
{
	for (int i = 0; i < count; i++) {
		if (!r[i].ended)
			return false;
	}
	return true;
}

/* A guest on each processor, and each goes round all of them. */
static void run_deadlines(bool halts)
{
	static int cpus[MAX_HOST_CPUS];
	static u64 lates[MAX_DEADLINES];
	int n = online_cpus(cpus, MAX_HOST_CPUS), guests = n > MAX_AT_ONCE ? MAX_AT_ONCE : n;
	u32 each = (emulator() ? 1000 : MAX_DEADLINES / slowness()) / guests;
	struct runner r[MAX_AT_ONCE] = { 0 };
	size_t count = 0;
	u64 khz = 0;

	if (!check_cap(KVM_CAP_TSC_DEADLINE_TIMER))
		test_skip("the hypervisor has no TSC deadline");
	time_limit(120);
	for (int i = 0; i < guests; i++) {
		struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, guest_deadlines);

		khz = OK(ioctl(v->fd, KVM_GET_TSC_KHZ));
		GUEST(v->vm, delta) = khz * (emulator() ? 200 : 20) / 1000;
		GUEST(v->vm, deadlines) = each;
		GUEST(v->vm, waits) = halts;
		runner_start(&r[i], v, cpus[i % n]);
	}
	for (u32 step = 0; !all_ended(r, guests); step++) {
		move_all(r, guests, cpus, n, step);
		usleep(5000);
	}
	for (int i = 0; i < guests; i++) {
		struct vm *vm = r[i].v->vm;

		runner_join(&r[i]);
		EQ(GUEST(vm, early), 0);
		for (u32 k = 0; k < each; k++)
			lates[count++] = ((u32 *)(vm->mem + LATES))[k] * 1000000ull / khz;
	}
	note("%d guests on %d processors, %u deadlines each", guests, n, each);
	note_spread(halts ? "in HLT" : "in a loop", "ns late", lates, count);
}

TEST(deadlines_hlt, "100,000 TSC deadlines on all processors, of guests in HLT that are moved: each comes, none early")
{
	run_deadlines(true);
}

TEST(deadlines_loop, "100,000 TSC deadlines on all processors, while guests run and are moved: each comes, none early")
{
	run_deadlines(false);
}
