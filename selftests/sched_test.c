// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU is a thread: the kernel's scheduler shares the CPUs out among vCPUs, by their niceness, class, affinity and
 * cgroup, and one that halts costs nothing. What is measured is a ratio of times that the host itself counts, over a
 * stretch that is long for its scheduler, so that an emulator which is slow, or stands still for a while, changes little.
 * How far guests have counted meanwhile is the other side of it, and only has to agree roughly: an emulator that stands
 * still takes that from the one it finds running.
 *
 * A guest of its own that counts is a process of its own, pinned to a CPU, which it shares with others of this kind.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "group.h"
#include "msr.h"
#include "stats.h"

enum { DATA = 0x10000000, MSR_STEAL_TIME = 0x4b564d03, MSR_POLL_CONTROL = 0x4b564d05, TIMER = 0x60 };

static volatile struct {
	u64 steal;
	u32 version, flags;
	u32 pad[12];
} stolen __attribute__((aligned(64)));

static void count_guest(void)
{
	wrmsr(MSR_STEAL_TIME, (u64)&stolen | 1);
	spin_openly();
	for (;;) {
		(*(volatile u64 *)DATA)++;
		*(volatile u64 *)(DATA + 8) = stolen.steal;
	}
}

/* What a guest tells: how far it has counted, and how long it has waited for a CPU by its own steal time. */
struct told {
	volatile u64 count, steal;
};

struct spinner {
	pid_t pid;
	struct told *told;
	int go;
};

static int one_cpu(void)
{
	cpu_set_t set;

	OK(sched_getaffinity(0, sizeof(set), &set));
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			return i;
	FAIL("no CPU");
}

static void pin(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	OK(sched_setaffinity(pid, sizeof(set), &set));
}

/* A process with a guest that counts, which waits for go(); dir: the cgroup it is in, or NULL. */
static struct spinner spinner(const char *dir, int cpu)
{
	struct spinner s = { .told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
	int ready[2], start[2];
	char c;

	TRUE(s.told != MAP_FAILED);
	OK(pipe(ready));
	OK(pipe(start));
	s.pid = OK(fork());
	if (!s.pid) {
		struct vcpu *v;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(start[1]);
		if (dir && !put(dir, "cgroup.procs", "0"))
			_exit(1);
		pin(0, cpu);
		v = vcpu_long(vm_new(), 0, count_guest);
		OK(vm_slot(v->vm, 1, DATA, 4096, s.told, 0));
		if (write(ready[1], "r", 1) != 1 || read(start[0], &c, 1) != 1)
			_exit(2);
		vcpu_run(v);
		_exit(3);
	}
	close(ready[1]);
	close(start[0]);
	EQ(read(ready[0], &c, 1), 1);
	close(ready[0]);
	s.go = start[1];
	return s;
}

static void go(struct spinner *s)
{
	EQ(write(s->go, "g", 1), 1);
	close(s->go);
}

static void end(struct spinner *s)
{
	OK(kill(s->pid, SIGKILL));
	OK(waitpid(s->pid, NULL, 0));
}

/* Nanoseconds that a process has had a CPU, by the scheduler. */
static u64 cpu_time(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	EQ(clock_getcpuclockid(pid, &clock), 0);
	OK(clock_gettime(clock, &t));
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* What of a stretch of time two guests on one CPU had, in nanoseconds and in what they have counted. */
struct shares {
	u64 ns[2], count[2];
};

static struct shares measure(struct spinner *a, struct spinner *b, int seconds)
{
	struct spinner *s[2] = { a, b };
	struct shares r;

	/* The test itself has to come to its turn, whatever they are. */
	OK(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param) { 50 }));
	go(a);
	go(b);
	while (!a->told->count && !b->told->count)
		usleep(10000);
	usleep(300000);
	for (int i = 0; i < 2; i++) {
		r.ns[i] = cpu_time(s[i]->pid);
		r.count[i] = s[i]->told->count;
	}
	sleep(seconds);
	for (int i = 0; i < 2; i++) {
		r.ns[i] = cpu_time(s[i]->pid) - r.ns[i];
		r.count[i] = s[i]->told->count - r.count[i];
	}
	note("CPU time %llu and %llu ms, counted %llu and %llu", r.ns[0] / 1000000ull, r.ns[1] / 1000000ull,
	     (unsigned long long)r.count[0], (unsigned long long)r.count[1]);
	end(a);
	end(b);
	return r;
}

/* b is so many thousandths of a, within so many percent of that. */
static void ratio(u64 a, u64 b, u64 thousandths, u64 percent)
{
	GE(b * 1000, a * thousandths / 100 * (100 - percent));
	LE(b * 1000, a * thousandths / 100 * (100 + percent));
}

/* ---- shares ---- */

struct groups {
	char root[32], dir[2][64];
};

static struct groups cpu_groups(const char *file, const char *a, const char *b)
{
	struct groups g = { .root = "/tmp/cgroupXXXXXX" };
	const char *value[2] = { a, b };

	TRUE(mkdtemp(g.root) != NULL);
	if (mount("none", g.root, "cgroup2", 0, NULL) || !put(g.root, "cgroup.subtree_control", "+cpu"))
		test_skip("no cgroup of CPU time: %s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		snprintf(g.dir[i], sizeof(g.dir[i]), "%s/%d", g.root, i);
		if (!value[i])
			continue;
		OK(mkdir(g.dir[i], 0755));
		TRUE(put(g.dir[i], file, value[i]));
	}
	return g;
}

static void end_groups(struct groups *g)
{
	for (int i = 0; i < 2; i++)
		rmdir(g->dir[i]);
	umount(g->root);
	rmdir(g->root);
}

TEST(weights, "two guests that spin on one CPU, in cgroups of cpu.weight 100 and 300: they have 1:3 of it")
{
	struct groups g = cpu_groups("cpu.weight", "100", "300");
	int cpu = one_cpu();
	struct spinner a = spinner(g.dir[0], cpu), b = spinner(g.dir[1], cpu);
	struct shares r = measure(&a, &b, 5);

	end_groups(&g);
	ratio(r.ns[0], r.ns[1], 3000, 5);
	GE(r.count[1] * 2, r.count[0] * 3);
}

TEST(nice, "two guests that spin on one CPU, one of them at nice 5: it has 335 parts of 1024")
{
	int cpu = one_cpu();
	struct spinner a = spinner(NULL, cpu), b = spinner(NULL, cpu);
	struct shares r;

	OK(setpriority(PRIO_PROCESS, b.pid, 5));
	r = measure(&a, &b, 5);
	ratio(r.ns[0], r.ns[1], 327, 7);
	GE(r.count[0] * 2, r.count[1] * 3);
}

TEST(fifo, "a guest of SCHED_FIFO takes the CPU from one that is not, but for what the kernel keeps for those")
{
	int cpu = one_cpu();
	struct spinner a = spinner(NULL, cpu), b = spinner(NULL, cpu);
	struct shares r;

	if (!access("/sys/kernel/realtime", F_OK))
		test_skip("PREEMPT_RT: much of the kernel runs in threads, which would wait for that guest too");
	OK(sched_setscheduler(b.pid, SCHED_FIFO, &(struct sched_param) { 10 }));
	r = measure(&a, &b, 3);
	GE(r.ns[1], r.ns[0] * 8);
	GE(r.count[1], r.count[0] * 2);
}

/* The CPU that a process ran on last: field 39 of its stat. */
static int last_cpu(pid_t pid)
{
	char path[32], line[1024], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	TRUE(f && fgets(line, sizeof(line), f));
	fclose(f);
	p = strrchr(line, ')');
	for (int i = 2; p && i < 39; i++)
		p = strchr(p + 1, ' ');
	TRUE(p != NULL);
	return atoi(p);
}

TEST(affinity, "a guest that spins is where sched_setaffinity() says, from one CPU to the next, and counts on")
{
	cpu_set_t set;
	struct spinner s;
	int cpu[2], n = 0;

	OK(sched_getaffinity(0, sizeof(set), &set));
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &set))
			cpu[n++] = i;
	if (n < 2)
		test_skip("one CPU");
	s = spinner(NULL, cpu[0]);
	go(&s);
	for (int i = 1; i <= 20; i++) {
		u64 before;

		pin(s.pid, cpu[i % 2]);
		before = s.told->count;
		while (s.told->count < before + 1000)
			usleep(1000);
		EQ(last_cpu(s.pid), cpu[i % 2]);
	}
	end(&s);
}

TEST(quota, "a guest that spins at cpu.max 20%: it has so much, and the rest is stolen time to it")
{
	struct groups g = cpu_groups("cpu.max", "20000 100000", NULL);
	struct spinner s = spinner(g.dir[0], one_cpu());
	u64 used, stole, from, took;

	go(&s);
	while (!s.told->steal)
		usleep(10000);
	used = cpu_time(s.pid);
	stole = s.told->steal;
	from = now_us();
	sleep(4);
	took = (now_us() - from) * 1000;
	used = cpu_time(s.pid) - used;
	stole = s.told->steal - stole;
	note("of %llu ms %llu of CPU time, %llu stolen", took / 1000000ull, used / 1000000ull, stole / 1000000ull);
	end(&s);
	end_groups(&g);
	ratio(took, used, 200, 15);
	/* It learns of it when it runs again: what it waits for just then is not in it. */
	ratio(took, stole + used, 1000, 6);
}

/* ---- halting ---- */

static void halt_guest(void)
{
	apic_enable();
	pics_off();
	report(1, 0, 0, 0);
	for (;;)
		sti_hlt();
}

static void *run(void *arg)
{
	vcpu_run(arg);
	return NULL;
}

TEST(halted, "a vCPU that halts costs no CPU time, and its thread does not wake up")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, halt_guest);
	struct rusage before, after;
	struct timespec t;
	u64 used;
	pthread_t thread;
	clockid_t clock;

	REPORT(v, 1);
	EQ(pthread_create(&thread, NULL, run, v), 0);
	EQ(pthread_getcpuclockid(thread, &clock), 0);
	usleep(500000);
	OK(getrusage(RUSAGE_SELF, &before));
	OK(clock_gettime(clock, &t));
	used = t.tv_sec * 1000000000ull + t.tv_nsec;
	sleep(2);
	OK(clock_gettime(clock, &t));
	used = t.tv_sec * 1000000000ull + t.tv_nsec - used;
	OK(getrusage(RUSAGE_SELF, &after));
	note("in 2 s %llu ns, %ld switches with the test's own", (unsigned long long)used,
	     after.ru_nvcsw - before.ru_nvcsw);
	EQ(used, 0);
	LE(after.ru_nvcsw - before.ru_nvcsw, 2);	/* the test's own sleep */
}

/* ---- polling ---- */

static volatile u64 ticks, naps, poll_control = 1;

static void just_eoi(struct frame *f)
{
	(void)f;
	apic_write(APIC_EOI, 0);
}

/* The LAPIC's timer ends each HLT after so many of its ticks. */
static void nap_guest(void)
{
	wrmsr(MSR_POLL_CONTROL, poll_control);
	GUEST_IS(rdmsr(MSR_POLL_CONTROL), poll_control);
	apic_enable();
	pics_off();
	apic_write(APIC_TDCR, 0xb);
	on_vector[TIMER] = just_eoi;
	apic_write(APIC_LVTT, TIMER);
	cli();
	for (u64 i = 0; i < naps; i++) {
		u64 before = vector_count[TIMER];

		apic_write(APIC_TMICT, ticks);
		while (vector_count[TIMER] == before) {
			sti_hlt();
			cli();
		}
	}
	done();
}

struct polls {
	u64 attempted, successful, success_ns, fail_ns, halts;
};

/* So many naps of a guest, of so many microseconds each; poll_us: of KVM_CAP_HALT_POLL. */
static struct polls nap(u64 n, u64 us, u64 poll_us, bool control)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args = { poll_us * 1000 } };
	struct vm *vm = vm_new_irqchip();
	struct polls p;
	struct vcpu *v;
	int fd;

	need_stats();
	EQ(check_cap(KVM_CAP_HALT_POLL), 1);
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	v = vcpu_long(vm, 0, nap_guest);
	GUEST(vm, ticks) = us * 1000;
	GUEST(vm, naps) = n;
	GUEST(vm, poll_control) = control;
	fd = OK(ioctl(v->fd, KVM_GET_STATS_FD, NULL));
	DONE(v);
	p = (struct polls) {
		stats_counter(fd, "halt_attempted_poll"), stats_counter(fd, "halt_successful_poll"),
		stats_counter(fd, "halt_poll_success_ns"), stats_counter(fd, "halt_poll_fail_ns"),
		stats_counter(fd, "halt_exits"),
	};
	EQ(stats_counter(fd, "halt_poll_invalid"), 0);
	note("%llu halts, %llu polls, %llu of them for %llu us in all found it, the others took %llu us",
	     (unsigned long long)p.halts, (unsigned long long)p.attempted, (unsigned long long)p.successful,
	     p.success_ns / 1000ull, p.fail_ns / 1000ull);
	return p;
}

TEST(polls, "HLT polls for what comes soon: the time grows until it is enough")
{
	struct polls p;

	pin(0, one_cpu());
	p = nap(40, 3000, 60000, true);
	GE(p.attempted, 20);
	GE(p.successful, 10);
	LE(p.successful, p.attempted);
	GE(p.success_ns, p.successful * 1000000);	/* of 3 ms a part at least */
	GE(p.fail_ns, 10000);		/* of the first, while it grew */
}

TEST(no_polls, "no HLT polls where KVM_CAP_HALT_POLL says 0 for this VM")
{
	struct polls p = nap(20, 3000, 0, true);

	GE(p.halts, 20);
	EQ(p.attempted + p.successful + p.success_ns + p.fail_ns, 0);
}

TEST(far_off, "no HLT polls where what ends it is always farther off than the longest time")
{
	struct polls p = nap(10, 20000, 1000, true);

	GE(p.halts, 10);
	EQ(p.attempted, 0);
}

TEST(guest_polls, "no HLT polls where the guest does itself: MSR_KVM_POLL_CONTROL is 0, a bit of CPUID offers that")
{
	struct kvm_cpuid_entry2 *e = find_cpuid(supported_cpuid(), 0x40000001, 0);
	struct polls p = nap(20, 3000, 60000, false);

	TRUE(e && e->eax & 1 << 12);
	GE(p.halts, 20);
	EQ(p.attempted, 0);
}

TEST(poll_values, "what KVM_CAP_HALT_POLL and MSR_KVM_POLL_CONTROL take")
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args = { 1ull << 32 } };
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_new(vm, 0);

	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 0xffffffff;
	OK(ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
	cap.flags = 1;
	ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	EQ(get_msr(v, MSR_POLL_CONTROL), 1);
	EQ(set_msr(v, MSR_POLL_CONTROL, 0), 1);
	EQ(get_msr(v, MSR_POLL_CONTROL), 0);
	EQ(set_msr(v, MSR_POLL_CONTROL, 2), 0);
}

static long parameter(const char *name)
{
	char path[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", device_is_kvm() ? "kvm" : "lodge", name);
	f = fopen(path, "r");
	if (f && fscanf(f, "%ld", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

TEST(poll_parameters, "the module's parameters of halt polling have KVM's names and values")
{
	EQ(parameter("halt_poll_ns"), 200000);
	EQ(parameter("halt_poll_ns_grow"), 2);
	EQ(parameter("halt_poll_ns_grow_start"), 10000);
	LE(parameter("halt_poll_ns_shrink"), 2);	/* 0 before Linux 6.8 */
	GE(parameter("halt_poll_ns_shrink"), 0);
}

/* ---- spinning ---- */

static volatile u64 turn, rounds;

/* Two of them: each waits for its turn, and gives it to the other. */
static void turn_guest(u64 me)
{
	spin_openly();
	for (;;) {
		while (turn != me)
			asm volatile("pause" : : : "memory");
		rounds++;
		turn = !me;
	}
}

/* PAUSE in a loop ends the guest: PAUSE-loop exiting, or the pause filter. */
static bool pauses_exit(void)
{
	u32 a, b, c, d;
	u64 controls;

	if (host_is_amd()) {
		cpuid(0x8000000a, 0, &a, &b, &c, &d);
		return d >> 10 & 1;
	}
	return host_msr(0x48b, &controls) && controls >> 32 & 1 << 10;
}

TEST(gives_way, "a vCPU that spins on PAUSE gives way to the one it waits for, and not to all others on that CPU")
{
	struct vm *vm = vm_new();
	int cpu = one_cpu();
	pthread_t t[2];
	u64 n;

	if (!pauses_exit())
		test_skip("PAUSE does not exit on this processor");
	for (int i = 0; i < 3; i++) {
		pid_t pid = OK(fork());

		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(0, cpu);
		for (;;)
			;
	}
	pin(0, cpu);
	for (u32 i = 0; i < 2; i++) {
		struct vcpu *v = vcpu_new(vm, i);

		vcpu_set_long(v, (void (*)(void))turn_guest, i);
		EQ(pthread_create(&t[i], NULL, run, v), 0);
	}
	OK(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param) { 50 }));
	sleep(1);
	n = *(volatile u64 *)&GUEST(vm, rounds);
	sleep(3);
	n = *(volatile u64 *)&GUEST(vm, rounds) - n;
	note("%llu turns in 3 s", (unsigned long long)n);
	/* With five on the CPU, and a slice of some milliseconds each for who spins, it would be some hundred. */
	GE(n, 1500);
}
