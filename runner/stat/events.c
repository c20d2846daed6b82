// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints, counted by perf events: no record is written anywhere, and nothing of anybody's tracing is changed.
 *
 * For the whole host each of them is counted on each CPU; for a process, kvm_exit in each of its threads. A reason of
 * kvm_exit is that tracepoint with a filter. It takes root (CAP_PERFMON) and a tracefs, for the tracepoints' numbers.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stat.h"

static const char *const roots[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

/* The numbers that each manual gives: those that make up nearly all exits of a guest. */
static const struct reason {
	unsigned int number;
	const char *name;
} svm_reasons[] = {
	{ 0x000, "cr0_read" }, { 0x010, "cr0_write" }, { 0x014, "cr4_write" }, { 0x041, "debug" }, { 0x043, "breakpoint" },
	{ 0x046, "undefined" }, { 0x060, "interrupt" }, { 0x061, "nmi" }, { 0x064, "interrupt_window" }, { 0x06e, "rdtsc" },
	{ 0x072, "cpuid" }, { 0x077, "pause" }, { 0x078, "hlt" }, { 0x07b, "io" }, { 0x07c, "msr" }, { 0x07f, "shutdown" },
	{ 0x081, "vmmcall" }, { 0x087, "rdtscp" }, { 0x089, "wbinvd" }, { 0x08d, "xsetbv" }, { 0x400, "nested_page_fault" },
}, vmx_reasons[] = {
	{ 0, "exception_or_nmi" }, { 1, "interrupt" }, { 2, "triple_fault" }, { 7, "interrupt_window" }, { 8, "nmi_window" },
	{ 10, "cpuid" }, { 12, "hlt" }, { 16, "rdtsc" }, { 18, "vmcall" }, { 28, "cr" }, { 29, "dr" }, { 30, "io" },
	{ 31, "rdmsr" }, { 32, "wrmsr" }, { 40, "pause" }, { 43, "tpr_below_threshold" }, { 44, "apic_access" },
	{ 45, "eoi" }, { 48, "ept_violation" }, { 49, "ept_misconfiguration" }, { 52, "preemption_timer" },
	{ 54, "wbinvd" }, { 55, "xsetbv" }, { 56, "apic_write" }, { 62, "pml_full" },
};

static int perf_open(uint64_t id, pid_t pid, int cpu)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = id,
	};

	return (int)syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static uint64_t perf_read(int fd)
{
	uint64_t value;

	return read(fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

static uint64_t event_id(const char *dir, const char *name)
{
	unsigned long long id = 0;
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/id", dir, name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &id) != 1)
		id = 0;
	fclose(f);
	return id;
}

/* Count it on all CPUs that are there; with a reason: only the exits that have it. */
static bool add_event(struct events *e, const char *name, uint64_t id, const struct reason *reason)
{
	int cpus = (int)sysconf(_SC_NPROCESSORS_CONF), cpu, fd;
	struct event event = { 0 };
	char filter[64];

	snprintf(event.name, sizeof(event.name), "%.60s", name);
	if (reason) {
		snprintf(event.name, sizeof(event.name), "kvm_exit:%s", reason->name);
		snprintf(filter, sizeof(filter), "exit_reason == 0x%x", reason->number);
	}
	for (cpu = 0; cpu < cpus; cpu++) {
		fd = perf_open(id, -1, cpu);
		if (fd < 0)
			continue;
		if (reason && ioctl(fd, PERF_EVENT_IOC_SET_FILTER, filter) < 0) {
			close(fd);
			continue;
		}
		event.cpus = grow(event.cpus, event.cpu_count, sizeof(*event.cpus));
		event.cpus[event.cpu_count++] = fd;
	}
	if (!event.cpu_count)
		return false;
	e->event = grow(e->event, e->count, sizeof(*e->event));
	e->event[e->count++] = event;
	return true;
}

static bool is_amd(void)
{
	char line[4096];
	bool amd = false;
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && !amd && fgets(line, sizeof(line), f))
		amd = !strncmp(line, "vendor_id", 9) && (strstr(line, "AMD") || strstr(line, "Hygon"));
	if (f)
		fclose(f);
	return amd;
}

static void add_reasons(struct events *e)
{
	bool amd = is_amd();
	const struct reason *r = amd ? svm_reasons : vmx_reasons;
	size_t i, n = amd ? sizeof(svm_reasons) / sizeof(*r) : sizeof(vmx_reasons) / sizeof(*r);

	for (i = 0; i < n; i++)
		add_event(e, "kvm_exit", e->exit_id, &r[i]);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/**
 * events_open() - begin to count the host's events.
 * @e: what to fill.
 * @system: whose tracepoints: lodge or kvm.
 * @reasons: the reasons of exits too.
 *
 * Return: 0; -1 where there are no such tracepoints to be seen, -2 where they may not be counted.
 */
int events_open(struct events *e, const char *system, bool reasons)
{
	struct dirent **names;
	char dir[256];
	int n = -1, i;
	size_t root;

	memset(e, 0, sizeof(*e));
	e->system = system;
	for (root = 0; n < 0 && root < sizeof(roots) / sizeof(roots[0]); root++) {
		snprintf(dir, sizeof(dir), "%s/events/%s", roots[root], system);
		n = scandir(dir, &names, NULL, by_name);
	}
	if (n < 0)
		return -1;
	for (i = 0; i < n; i++) {
		uint64_t id = names[i]->d_name[0] == '.' ? 0 : event_id(dir, names[i]->d_name);

		if (id && add_event(e, names[i]->d_name, id, NULL) && !strcmp(names[i]->d_name, "kvm_exit"))
			e->exit_id = id;
		free(names[i]);
	}
	free(names);
	if (reasons && e->exit_id)
		add_reasons(e);
	return e->count ? 0 : -2;
}

/**
 * events_read() - how often each has come by now.
 * @e: the events; the number before becomes the one that there was.
 */
void events_read(struct events *e)
{
	unsigned int i, cpu;

	for (i = 0; i < e->count; i++) {
		struct event *event = &e->event[i];

		event->before = event->value;
		event->value = 0;
		for (cpu = 0; cpu < event->cpu_count; cpu++)
			event->value += perf_read(event->cpus[cpu]);
	}
}

/**
 * exits_open() - begin to count the exits of a process's threads.
 * @e: the host's events, for the number of kvm_exit.
 * @p: the process.
 */
void exits_open(const struct events *e, struct process *p)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;
	int fd;

	if (!e->exit_id)
		return;
	snprintf(path, sizeof(path), "/proc/%d/task", p->pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		fd = perf_open(e->exit_id, atoi(entry->d_name), -1);
		if (fd < 0)
			continue;
		p->tasks = grow(p->tasks, p->task_count, sizeof(*p->tasks));
		p->tasks[p->task_count++] = fd;
	}
	if (dir)
		closedir(dir);
}

/**
 * exits_read() - how many exits those threads have had since.
 * @p: the process.
 */
void exits_read(struct process *p)
{
	unsigned int i;

	p->exits = 0;
	for (i = 0; i < p->task_count; i++)
		p->exits += perf_read(p->tasks[i]);
}

/**
 * exits_close() - undo exits_open().
 * @p: the process.
 */
void exits_close(struct process *p)
{
	unsigned int i;

	for (i = 0; i < p->task_count; i++)
		close(p->tasks[i]);
	free(p->tasks);
	p->tasks = NULL;
	p->task_count = 0;
}
