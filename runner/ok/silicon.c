// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-ok --silicon: runs the tests and sees to it that the machine is as it was when they have ended,
 * however they end, and has what several of them use.
 *
 * The tests run in a child. All that they change beyond their own lifetime is which processors are online;
 * this process waits, passes on what would end it, and brings back the processors that were online before.
 */
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guest.h"
#include "silicon.h"

const struct verdict *findings;

bool on_bochs(void)
{
	char text[64];

	/* SeaBIOS once had that name too, but only where a hypervisor is below. */
	look_file(text, sizeof(text), "/sys/class/dmi/id/bios_version");
	return !strncmp(text, "Bochs ", 6) && !(look_cpuid(1, 0).c >> 31);
}

const char *emulator(void)
{
	return host_is_qemu ? "QEMU" : on_bochs() ? "Bochs" : NULL;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

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

pid_t thread_id(void)
{
	return syscall(SYS_gettid);
}

void pin_to(pid_t tid, int cpu)
{
	size_t size = CPU_ALLOC_SIZE(MAX_HOST_CPUS);
	cpu_set_t *set = CPU_ALLOC(MAX_HOST_CPUS);

	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	OK(sched_setaffinity(tid, size, set));
	CPU_FREE(set);
}

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

void note_spread(const char *what, const char *unit, u64 *values, size_t n)
{
	qsort(values, n, sizeof(values[0]), by_size);
	if (n)
		note("%s: least %llu, median %llu, 99%% %llu, most %llu %s, of %zu", what,
		     (unsigned long long)values[0], (unsigned long long)values[n / 2],
		     (unsigned long long)values[n - 1 - n / 100],
		     (unsigned long long)values[n - 1], unit, n);
}

/* -- the machine as it was -- */

static pid_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

static void bring_back(const int *list, int n)
{
	for (int i = 0; i < n; i++) {
		char path[64], text[8];
		FILE *f;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", list[i]);
		if (!look_file(text, sizeof(text), "%s", path) || text[0] != '0')
			continue;
		f = fopen(path, "w");
		if (f)
			fputs("1", f);
		if (!f || fclose(f))
			printf("# processor %d could not be brought back online\n", list[i]);
	}
}

/* The status of the tests, or of a signal that ended them. */
static int run_guarded(int argc, char **argv)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	static int before[MAX_HOST_CPUS];
	struct sigaction sa = { .sa_handler = pass_on };
	int n = online_cpus(before, MAX_HOST_CPUS), status = 0;

	fflush(stdout);
	child = fork();
	if (child < 0) {
		printf("Bail out! fork: %s\n", strerror(errno));
		return 1;
	}
	if (!child)
		_exit(tap_main(argc, argv) | fflush(stdout));
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	bring_back(before, n);
	if (WIFSIGNALED(status))
		printf("Bail out! signal %d\n", WTERMSIG(status));
	return WIFSIGNALED(status) ? 1 : WEXITSTATUS(status);
}

/**
 * silicon() - what --silicon does.
 * @f: the machine.
 * @v: what was found of it.
 * @status: what that means.
 * @argc: of the tests' names.
 * @argv: as main's; all tests if there is only the first.
 *
 * Where no VM can be made there are no tests, but a report all the same.
 *
 * Return: the exit status.
 */
enum status silicon(const struct facts *f, const struct verdict *v, enum status status, int argc,
		    char **argv)
{
	bool kvm = f->device_is_kvm && !f->version_errno && !f->create_errno;

	findings = v;
	if (status != STATUS_OK && !kvm) {
		puts("TAP version 13");
		report_machine();
		puts("1..0 # SKIP no virtual machine can be made: see above");
		return status;
	}
	setenv("LODGE_DEV", f->device, 1);
	switch (run_guarded(argc, argv)) {
	case 0:
		return STATUS_OK;
	case 4:
		return STATUS_BLOCKED;
	default:
		return STATUS_NO;
	}
}
