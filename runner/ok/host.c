// SPDX-License-Identifier: GPL-2.0
/*
 * What several of --silicon's tests use: whether the machine is an emulator, which processors there are, threads on
 * one of them, vCPUs in threads, numbers that are told as a spread.
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "silicon.h"
#include "vm.h"

/**
 * emulator() - the emulator that this machine is.
 *
 * Return: its name; NULL for a processor.
 */
const char *emulator(void)
{
	return host_is_qemu ? "QEMU" : on_bochs() ? "Bochs" : NULL;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/**
 * online_cpus() - the processors that are online, in order.
 * @list: where their numbers go, NULL to count them.
 * @max: how many there is room for.
 *
 * Return: how many there are, or are in @list.
 */
int online_cpus(int *list, int max)
{
	static int all[MAX_HOST_CPUS];
	DIR *dir = opendir("/sys/devices/system/cpu");
	struct dirent *d;
	int n = 0, cpu, used;

	while (dir && (d = readdir(dir)) && n < MAX_HOST_CPUS) {
		char text[8];

		if (sscanf(d->d_name, "cpu%d%n", &cpu, &used) != 1 || d->d_name[used])
			continue;
		/* CPU 0 may have no such file: it cannot go. */
		look_file(text, sizeof(text), "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (text[0] == '1' || (!text[0] && cpu == 0))
			all[n++] = cpu;
	}
	if (dir)
		closedir(dir);
	qsort(all, n, sizeof(all[0]), by_number);
	for (int i = 0; list && i < n && i < max; i++)
		list[i] = all[i];
	return list && n > max ? max : n;
}

/**
 * thread_id() - the number of the calling thread.
 *
 * Return: its number.
 */
pid_t thread_id(void)
{
	return syscall(SYS_gettid);
}

static int move(pid_t tid, int cpu)
{
	size_t size = CPU_ALLOC_SIZE(MAX_HOST_CPUS);
	cpu_set_t *set = CPU_ALLOC(MAX_HOST_CPUS);
	int ret;

	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	ret = sched_setaffinity(tid, size, set);
	CPU_FREE(set);
	return ret;
}

/**
 * pin_to() - a thread to one processor.
 * @tid: the thread.
 * @cpu: the processor; a failure ends the subtest.
 */
void pin_to(pid_t tid, int cpu)
{
	OK(move(tid, cpu));
}

/**
 * want_two_cpus() - online_cpus(), but the subtest is skipped where there is one.
 * @list: where their numbers go.
 * @max: how many there is room for.
 *
 * Return: how many are in @list.
 */
int want_two_cpus(int *list, int max)
{
	int n = online_cpus(list, max);

	if (n < 2)
		test_skip("one processor");
	return n;
}

static int by_size(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/**
 * note_spread() - sort numbers, and tell the least, the median, 99% and the most.
 * @what: what they are.
 * @unit: the unit they have.
 * @values: the numbers; sorted afterwards.
 * @n: how many there are.
 */
void note_spread(const char *what, const char *unit, u64 *values, size_t n)
{
	qsort(values, n, sizeof(values[0]), by_size);
	if (n)
		note("%s: least %llu, median %llu, 99%% %llu, most %llu %s, of %zu", what,
		     (unsigned long long)values[0], (unsigned long long)values[n / 2],
		     (unsigned long long)values[n - 1 - n / 100],
		     (unsigned long long)values[n - 1], unit, n);
}

/* Reads of memory that is not there find ones; it may be a slot that is about to be there again. */
static void *run_guest(void *arg)
{
	struct runner *r = arg;
	struct vcpu *v = r->v;

	r->tid = thread_id();
	if (r->cpu >= 0)
		pin_to(r->tid, r->cpu);
	while (!r->stop) {
		int ret = vcpu_run(v);

		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (!ret && v->run->exit_reason == KVM_EXIT_MMIO) {
			memset(v->run->mmio.data, 0xff, sizeof(v->run->mmio.data));
			continue;
		}
		if (!ret && v->run->exit_reason == KVM_EXIT_IO && (u32)get_regs(v).rax == REPORT_DONE)
			break;
		if (!ret && v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && r->doomed)
			break;
		if (!ret)
			fail_if_guest_failed(v, __FILE__, __LINE__);
		dump_vcpu(v);
		FAIL("KVM_RUN: %s", strerror(-ret));
	}
	r->ended = true;
	return NULL;
}

/**
 * runner_start() - run a vCPU in a thread, until its guest is done().
 * @r: the thread, zeroed; runner_join() ends it.
 * @v: the vCPU.
 * @cpu: the processor, -1 for any.
 *
 * Anything else that the guest leaves for ends the subtest, but reads of memory that is not there.
 */
void runner_start(struct runner *r, struct vcpu *v, int cpu)
{
	r->v = v;
	r->cpu = cpu;
	EQ(pthread_create(&r->thread, NULL, run_guest, r), 0);
	while (!r->tid)
		usleep(1000);
}

/**
 * runner_join() - wait until the guest is done().
 * @r: of runner_start().
 */
void runner_join(struct runner *r)
{
	EQ(pthread_join(r->thread, NULL), 0);
}

/**
 * runner_stop() - end a guest that will never be done().
 * @r: of runner_start().
 */
void runner_stop(struct runner *r)
{
	install_kick(SIGUSR1);
	r->stop = true;
	while (!r->ended) {
		pthread_kill(r->thread, SIGUSR1);
		usleep(1000);
	}
	runner_join(r);
}

/**
 * move_all() - each of these guests to another processor.
 * @r: the guests.
 * @count: how many.
 * @cpus: the processors.
 * @n: how many of them.
 * @step: neighbours first, then far ones: every pair of distances comes as this counts up.
 */
void move_all(struct runner *r, int count, const int *cpus, int n, u32 step)
{
	for (int i = 0; i < count; i++) {
		/* One that has just ended is not there any more. */
		if (!r[i].ended && move(r[i].tid, cpus[(step + i * (1 + step / n)) % n]) && errno != ESRCH)
			FAIL("a thread cannot be moved: %s", strerror(errno));
	}
}
