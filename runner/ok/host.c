// SPDX-License-Identifier: GPL-2.0
/*
 * What several of --silicon's tests use: whether the machine is an emulator, which processors there are, threads on
 * one of them, numbers that are told as a spread.
 */
#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>

#include "guest.h"
#include "silicon.h"

/**
 * on_bochs() - whether this machine is Bochs.
 *
 * Return: true if it is.
 */
bool on_bochs(void)
{
	char text[64];

	/* SeaBIOS once had that name too, but only where a hypervisor is below. */
	look_file(text, sizeof(text), "/sys/class/dmi/id/bios_version");
	return !strncmp(text, "Bochs ", 6) && !(look_cpuid(1, 0).c >> 31);
}

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

/**
 * pin_to() - a thread to one processor.
 * @tid: the thread.
 * @cpu: the processor; a failure ends the subtest.
 */
void pin_to(pid_t tid, int cpu)
{
	size_t size = CPU_ALLOC_SIZE(MAX_HOST_CPUS);
	cpu_set_t *set = CPU_ALLOC(MAX_HOST_CPUS);

	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	OK(sched_setaffinity(tid, size, set));
	CPU_FREE(set);
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
