// SPDX-License-Identifier: GPL-2.0
/*
 * The harness behind tap.h: tap_main(), the child for each subtest, its time limit, and TAP.
 *
 * The child of a subtest leads its own process group, which is killed when the subtest ends, so
 * that nothing it started runs into the next one. Its time limit is an alarm whose default action
 * ends it; a child that survives even SIGKILL for a while is stuck in the kernel, and reported so.
 * What the child wants to tell beside its exit status (why it skipped, how many checks it made)
 * goes through one shared page.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "tap.h"

enum { DEFAULT_LIMIT = 30, EXIT_SKIP = 4 };

struct report {
	unsigned long checks;
	int limit;
	char skip[200];
};

static struct test *tests, **tests_end = &tests;
/* A program that only borrows the checks (diff/) has no subtests to report of. */
static struct report nobody, *report = &nobody;

void test_register(struct test *t)
{
	*tests_end = t;
	tests_end = &t->next;
}

const char *device_path(void)
{
	const char *path = getenv("LODGE_DEV");

	return path && *path ? path : "/dev/lodge";
}

int slowness(void)
{
	const char *s = getenv("LODGE_SLOW");
	int n = s ? atoi(s) : 1;

	return n > 0 ? n : 1;
}

void time_limit(int seconds)
{
	report->limit = seconds * slowness();
	alarm(report->limit);
}

void count_check(void)
{
	__atomic_add_fetch(&report->checks, 1, __ATOMIC_RELAXED);
}

static void say(const char *prefix, const char *fmt, va_list args)
{
	char text[1024];

	vsnprintf(text, sizeof(text), fmt, args);
	printf("# %s%s\n", prefix, text);
	fflush(stdout);
}

void note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("", fmt, args);
	va_end(args);
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	char where[128];
	va_list args;

	snprintf(where, sizeof(where), "%s:%d: ", file, line);
	va_start(args, fmt);
	say(where, fmt, args);
	va_end(args);
	_exit(1);
}

void test_skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(report->skip, sizeof(report->skip), fmt, args);
	va_end(args);
	_exit(EXIT_SKIP);
}

static long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Waits for the child, @killed: to its limit and a SIGKILL; false if it is still there long after that. */
static bool reap(pid_t pid, int *status, bool *killed)
{
	long start = now();
	int pause = 500;

	for (;; pause += pause < 50000 ? pause / 4 : 0) {	/* a long one is not to be disturbed */
		if (waitpid(pid, status, WNOHANG) == pid)
			return true;
		if (!*killed && now() - start > report->limit + 5) {
			kill(-pid, SIGKILL);
			*killed = true;
		}
		if (now() - start > report->limit + 15)
			return false;
		usleep(pause);
	}
}

static void child(struct test *t)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	time_limit(DEFAULT_LIMIT);
	t->fn();
	_exit(0);
}

/* Runs one subtest and prints its line: the exit status it stands for. */
static int run_one(struct test *t, int number)
{
	char why[64] = "";
	bool late = false;
	int status = 0;
	pid_t pid;

	memset(report, 0, sizeof(*report));
	report->limit = DEFAULT_LIMIT * slowness();
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		printf("not ok %d - %s # fork failed\n", number, t->what);
		return 1;
	}
	if (!pid)
		child(t);

	if (!reap(pid, &status, &late))
		snprintf(why, sizeof(why), "stuck in the kernel: SIGKILL does not end it");
	else if (late)
		snprintf(why, sizeof(why), "killed after %d s: SIGALRM did not end it", report->limit + 5);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(why, sizeof(why), "timed out after %d s", report->limit);
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 0 && !report->checks)
		snprintf(why, sizeof(why), "made no check");
	kill(-pid, SIGKILL);

	if (!*why && WEXITSTATUS(status) == 0) {
		printf("ok %d - %s\n", number, t->what);
		return 0;
	}
	if (!*why && WEXITSTATUS(status) == EXIT_SKIP) {
		printf("ok %d - %s # SKIP %s\n", number, t->what, report->skip);
		return EXIT_SKIP;
	}
	if (*why)
		printf("# %s: %s\n", t->name, why);
	printf("not ok %d - %s\n", number, t->what);
	return 1;
}

static bool selected(struct test *t, int argc, char **argv)
{
	if (argc < 2)
		return true;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], t->name))
			return true;
	return false;
}

int tap_main(int argc, char **argv)
{
	int count = 0, done = 0, passed = 0, failed = 0, fd;
	struct test *t;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (t = tests; t; t = t->next)
			printf("%-32s %s\n", t->name, t->what);
		return 0;
	}
	report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		return 1;
	for (t = tests; t; t = t->next)
		count += selected(t, argc, argv);

	printf("TAP version 13\n");
	fd = open(device_path(), O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		printf("1..0 # SKIP %s: %s\n", device_path(), strerror(errno));
		return EXIT_SKIP;
	}
	close(fd);
	printf("1..%d\n", count);
	for (t = tests; t; t = t->next) {
		int r;

		if (!selected(t, argc, argv))
			continue;
		r = run_one(t, ++done);
		passed += r == 0;
		failed += r == 1;
	}
	printf("# %d passed, %d failed, %d skipped\n", passed, failed, done - passed - failed);
	if (failed || !count)
		return 1;
	return passed ? 0 : EXIT_SKIP;
}

/* A program that is more than its tests has a main() of its own. */
__attribute__((weak)) int main(int argc, char **argv)
{
	return tap_main(argc, argv);
}
