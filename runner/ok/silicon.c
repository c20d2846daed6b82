// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-ok --silicon: runs the tests and sees to it that the machine is as it was when they have ended,
 * however they end.
 *
 * The tests run in a child. All that they change beyond their own lifetime is which processors are online, and the
 * rate of samples that the kernel allows, which it lowers by itself if the samples take long. This process
 * waits, passes on what would end it, and then brings back the processors and the rate that were there before.
 */
#include <signal.h>
#include <sys/wait.h>

#include "silicon.h"

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

static const char sample_rate[] = "/proc/sys/kernel/perf_event_max_sample_rate";

static void bring_back_rate(const char *before)
{
	char text[32];
	FILE *f;

	if (!before[0] || !look_file(text, sizeof(text), "%s", sample_rate) || !strcmp(text, before))
		return;
	f = fopen(sample_rate, "w");
	if (f)
		fputs(before, f);
	if (!f || fclose(f))
		printf("# %s could not be set back to %s\n", sample_rate, before);
}

/* The status of the tests, or of a signal that ended them. */
static int run_guarded(int argc, char **argv)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	static int before[MAX_HOST_CPUS];
	struct sigaction sa = { .sa_handler = pass_on };
	int n = online_cpus(before, MAX_HOST_CPUS), status = 0;
	char rate[32];

	look_file(rate, sizeof(rate), "%s", sample_rate);
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
	bring_back_rate(rate);
	if (WIFSIGNALED(status))
		printf("Bail out! signal %d\n", WTERMSIG(status));
	return WIFSIGNALED(status) ? 1 : WEXITSTATUS(status);
}

/**
 * silicon() - what --silicon does.
 * @f: the machine.
 * @v: what was found of it.
 * @found: the status that goes with it.
 * @argc: of the tests' names.
 * @argv: as main's; all tests if there is only the first.
 *
 * Where no VM can be made there are no tests, but a report all the same.
 *
 * Return: the exit status.
 */
enum status silicon(const struct facts *f, const struct verdict *v, enum status found, int argc,
		    char **argv)
{
	bool kvm = f->device_is_kvm && !f->version_errno && !f->create_errno;

	findings = v;
	if (found != STATUS_OK && !kvm) {
		puts("TAP version 13");
		report_machine();
		puts("1..0 # SKIP no virtual machine can be made: see above");
		return found;
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
