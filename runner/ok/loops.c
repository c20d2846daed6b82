// SPDX-License-Identifier: GPL-2.0
/*
 * Guests that never leave by themselves: one that loops with interrupts off, one that loops around PAUSE.
 * The host's own work on that processor has to go on: a thread there with a real-time priority sleeps until a
 * time, again and again, and notes how late it wakes. The same without a guest tells what of that is the host's.
 */
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "silicon.h"
#include "vm.h"

enum { PERIOD_US = 1000, MAX_WAKES = 3000, LATE_MS = 50 };

static volatile bool stop;
static volatile u64 rounds;

static void guest_cli(void)
{
	cli();
	while (!stop)
		rounds++;
	done();
}

static void guest_pause(void)
{
	spin_openly();
	while (!stop) {
		rounds++;
		cpu_pause();
	}
	done();
}

/* ---- the host ---- */

static u64 late[MAX_WAKES];

struct sleeper {
	int cpu;
	u32 wakes;
	bool realtime;
};

static u64 ns_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void *sleep_and_wake(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct sleeper *s = arg;

	pin_to(thread_id(), s->cpu);
	s->realtime = !sched_setscheduler(0, SCHED_FIFO, &param);
	for (u32 i = 0; i < s->wakes; i++) {
		u64 due = ns_now() + PERIOD_US * 1000;
		struct timespec ts = { due / 1000000000, due % 1000000000 };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
		late[i] = (ns_now() - due) / 1000;
	}
	return NULL;
}

static void *run_guest(void *vcpu)
{
	struct vcpu *v = vcpu;
	int cpus[MAX_HOST_CPUS], n = online_cpus(cpus, MAX_HOST_CPUS);

	pin_to(thread_id(), cpus[n - 1]);
	DONE(v);
	return NULL;
}

/* The most, in microseconds. */
static u64 measure(const char *what)
{
	static int cpus[MAX_HOST_CPUS];
	int n = online_cpus(cpus, MAX_HOST_CPUS);
	struct sleeper s = { .cpu = cpus[n - 1], .wakes = emulator() ? 300 : MAX_WAKES };
	pthread_t thread;

	EQ(pthread_create(&thread, NULL, sleep_and_wake, &s), 0);
	EQ(pthread_join(thread, NULL), 0);
	note_spread(what, s.realtime ? "us late" : "us late, without real-time priority", late, s.wakes);
	return late[s.wakes - 1];
}

static void loop(void (*guest)(void), const char *what)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, guest);
	pthread_t thread;
	u64 before, most;

	measure("without a guest");
	EQ(pthread_create(&thread, NULL, run_guest, v), 0);
	while (!GUEST(v->vm, rounds))
		usleep(1000);
	before = GUEST(v->vm, rounds);
	most = measure(what);
	NE(GUEST(v->vm, rounds), before);
	GUEST(v->vm, stop) = true;
	EQ(pthread_join(thread, NULL), 0);
	if (emulator())
		note("how late is of no meaning on %s", emulator());
	else
		LE(most, LATE_MS * 1000 * slowness());
}

TEST(cli_loop, "a guest that loops with interrupts off does not hold up the host's processor")
{
	if (on_bochs())
		test_skip("Bochs: the host's processor may lock up");
	loop(guest_cli, "beside CLI and a loop");
}

TEST(pause_loop, "a guest that loops around PAUSE does not hold up the host's processor")
{
	loop(guest_pause, "beside a loop of PAUSE");
}
