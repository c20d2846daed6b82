// SPDX-License-Identifier: GPL-2.0
/*
 * lodge-stat: what the guests of this host do, for people (again and again, like top) and for scripts (--once).
 * This file has the options and what is shown.
 *
 * Two sources, because neither has all. The tracepoints lodge:kvm_* count what happens on the host and in each
 * process, with root; they know nothing of what was before. The stats fds have the counters of each VM and vCPU
 * since it was made, where the monitor keeps such an fd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "stat.h"

enum status { STATUS_OK, STATUS_NOTHING, STATUS_USAGE };

static const char help[] =
	"usage: lodge-stat [option]...\n"
	"Show what the virtual machines of this host do: exits and their kinds, by process.\n"
	"\n"
	"  --once            count for one interval, print a line for each counter, and end\n"
	"  --interval S      seconds to count for (1)\n"
	"  --reasons         the reasons of exits too\n"
	"  --kvm             look at the VMs of KVM instead of Lodge's\n"
	"  --help            this text\n"
	"  --version         the version\n"
	"\n"
	"status: 0; 1 nothing can be counted; 2 wrong usage\n";

struct options {
	const char *system;
	double interval;
	bool once, reasons;
};

enum { OPT_ONCE = 1, OPT_INTERVAL, OPT_REASONS, OPT_KVM, OPT_HELP, OPT_VERSION };

static const struct option long_options[] = {
	{ "once", no_argument, NULL, OPT_ONCE },
	{ "interval", required_argument, NULL, OPT_INTERVAL },
	{ "reasons", no_argument, NULL, OPT_REASONS },
	{ "kvm", no_argument, NULL, OPT_KVM },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static int wrong(const char *what, const char *which)
{
	fprintf(stderr, "lodge-stat: %s '%s'; --help lists the options\n", what, which);
	return -1;
}

static int parse_interval(struct options *opt, const char *text)
{
	char *end;

	opt->interval = strtod(text, &end);
	if (end == text || *end || !(opt->interval >= 0.01 && opt->interval <= 86400))
		return wrong("--interval wants seconds, 0.01 to 86400, not", text);
	return 0;
}

/* Return 0, -1 after telling what is wrong, 1 if all has been done. */
static int parse_options(struct options *opt, int argc, char **argv)
{
	int which;

	opterr = 0;
	while ((which = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		switch (which) {
		case OPT_ONCE:
			opt->once = true;
			break;
		case OPT_INTERVAL:
			if (parse_interval(opt, optarg) < 0)
				return -1;
			break;
		case OPT_REASONS:
			opt->reasons = true;
			break;
		case OPT_KVM:
			opt->system = "kvm";
			break;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		case OPT_VERSION:
			puts("lodge-stat " VERSION);
			return 1;
		case ':':
			return wrong("a value is missing after", argv[optind - 1]);
		default:
			return wrong("unknown option", argv[optind - 1]);
		}
	}
	return optind < argc ? wrong("unexpected argument", argv[optind]) : 0;
}

/* There is an fd for each CPU of each event. */
static void many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_for(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds };

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

static void once_source(const struct process *p, struct source *s)
{
	struct counters after;
	unsigned int i;

	if (counters_read(s->fd, &after) < 0)
		return;
	for (i = 0; i < after.count; i++) {
		const struct counter *c = &after.counter[i], *before = counters_find(&s->before, c->name);

		if (before)
			printf("%s %d %s %" PRIu64 " %" PRIu64 "\n", s->subject, p->pid, c->name,
			       c->value - before->value, c->value);
	}
	counters_free(&after);
}

/* SUBJECT PID COUNTER INTERVAL TOTAL, a "-" for what is not known. */
static void show_once(struct events *e, struct processes *all)
{
	unsigned int i, j;

	for (i = 0; i < e->count; i++)
		printf("host - %s %" PRIu64 " -\n", e->event[i].name, e->event[i].value - e->event[i].before);
	for (i = 0; i < all->count; i++) {
		struct process *p = &all->process[i];

		if (p->task_count)
			printf("process %d kvm_exit %" PRIu64 " -\n", p->pid, p->exits);
		else
			printf("process %d kvm_exit - -\n", p->pid);
		for (j = 0; j < p->source_count; j++)
			once_source(p, &p->sources[j]);
	}
}

/* What one counter of all a process's VMs or vCPUs has grown by. */
static uint64_t grown(struct process *p, const char *name)
{
	const struct counter *a, *b;
	struct counters after;
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < p->source_count; i++) {
		if (counters_read(p->sources[i].fd, &after) < 0)
			continue;
		a = counters_find(&after, name);
		b = counters_find(&p->sources[i].before, name);
		sum += a && b ? a->value - b->value : 0;
		counters_free(&after);
	}
	return sum;
}

static uint64_t exits_of(struct process *p)
{
	return p->task_count ? p->exits : grown(p, "exits");
}

static int by_exits(const void *a, const void *b)
{
	const struct process *p = a, *q = b;

	return (p->exits < q->exits) - (p->exits > q->exits);
}

static int by_value(const void *a, const void *b)
{
	const struct event *p = a, *q = b;
	uint64_t x = p->value - p->before, y = q->value - q->before;

	return (x < y) - (x > y);
}

static void show_processes(struct processes *all, double seconds, int rows)
{
	static const char *const columns[] = { "io_exits", "mmio_exits", "halt_exits", "irq_exits", "pf_taken" };
	unsigned int i;
	size_t j;

	for (i = 0; i < all->count; i++)
		all->process[i].exits = exits_of(&all->process[i]);
	qsort(all->process, all->count, sizeof(*all->process), by_exits);
	printf("%8s %-16s %5s %10s %9s %9s %9s %9s %9s\n", "PID", "COMMAND", "VCPUS", "EXITS/s", "IO", "MMIO", "HALT",
	       "IRQ", "FAULT");
	for (i = 0; i < all->count && rows-- > 0; i++) {
		struct process *p = &all->process[i];

		printf("%8d %-16.16s %5u", p->pid, p->command, p->vcpus);
		if (p->task_count || p->source_count)
			printf(" %10.0f", (double)p->exits / seconds);
		else
			printf(" %10s", "-");
		for (j = 0; j < sizeof(columns) / sizeof(columns[0]); j++) {
			if (p->source_count)
				printf(" %9.0f", (double)grown(p, columns[j]) / seconds);
			else
				printf(" %9s", "-");
		}
		putchar('\n');
	}
}

static void show_events(const struct events *e, double seconds, int rows)
{
	struct event *sorted = e->count ? malloc(e->count * sizeof(*sorted)) : NULL;
	unsigned int i;

	if (!sorted)
		return;
	memcpy(sorted, e->event, e->count * sizeof(*sorted));
	qsort(sorted, e->count, sizeof(*sorted), by_value);
	printf("\n%-32s %10s\n", "EVENT OF THE HOST", "/s");
	for (i = 0; i < e->count && rows-- > 0; i++)
		if (sorted[i].value != sorted[i].before)
			printf("%-32s %10.0f\n", sorted[i].name, (double)(sorted[i].value - sorted[i].before) / seconds);
	free(sorted);
}

static void show_screen(const struct options *opt, struct events *e, struct processes *all, double seconds,
			const char *trouble)
{
	struct winsize size = { .ws_row = 24 };
	int rows;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 10)
		size.ws_row = 24;
	rows = size.ws_row - 6;
	if (isatty(STDOUT_FILENO))
		fputs("\033[H\033[J", stdout);
	printf("lodge-stat: %u process%s with VMs of %s, %.2f s%s%s\n", all->count, all->count == 1 ? "" : "es",
	       opt->system, seconds, *trouble ? "; " : "", trouble);
	show_processes(all, seconds, rows / 2);
	show_events(e, seconds, rows - rows / 2);
	fflush(stdout);
}

static void turn(const struct options *opt, struct events *e, const char *trouble)
{
	struct processes all;
	double began;
	unsigned int i;

	processes_find(&all, opt->system);
	for (i = 0; i < all.count; i++)
		exits_open(e, &all.process[i]);
	events_read(e);
	began = now();
	wait_for(opt->interval);
	events_read(e);
	for (i = 0; i < all.count; i++)
		exits_read(&all.process[i]);
	if (opt->once)
		show_once(e, &all);
	else
		show_screen(opt, e, &all, now() - began, trouble);
	processes_free(&all);
}

/* Whether there is anything to look at, and why not all of it. */
static const char *begin(const struct options *opt, struct events *e)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s", opt->system);
	if (access(path, F_OK) < 0) {
		fprintf(stderr, "lodge-stat: the module %s is not loaded\n", opt->system);
		return NULL;
	}
	switch (events_open(e, opt->system, opt->reasons)) {
	case -1:
		return geteuid() ? "tracepoints are for root" : "there is no tracefs with the module's events";
	case -2:
		return "this kernel lets no perf events be opened";
	}
	return "";
}

int main(int argc, char **argv)
{
	struct options opt = { .system = "lodge", .interval = 1 };
	const char *trouble;
	struct events e;
	int ret = parse_options(&opt, argc, argv);

	if (ret)
		return ret < 0 ? STATUS_USAGE : STATUS_OK;
	many_files();
	trouble = begin(&opt, &e);
	if (!trouble)
		return STATUS_NOTHING;
	if (opt.once && *trouble)
		fprintf(stderr, "lodge-stat: %s: only stats fds that may be read are counted\n", trouble);
	do {
		turn(&opt, &e, trouble);
	} while (!opt.once && !ferror(stdout));
	return STATUS_OK;
}
