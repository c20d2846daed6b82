/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lodge-stat: what its files share.
 *
 * Everything happens on one thread. A turn begins: the processes that have VMs are looked for, their counters read,
 * their exits counted; it ends: all is read again, shown, and forgotten but the counting of the whole host's events,
 * which goes on.
 */
#ifndef LODGE_STAT_H
#define LODGE_STAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VERSION "0.1"
#define NAME_MAX_SIZE 64

struct counter {
	char name[NAME_MAX_SIZE];
	uint64_t value;
};

/* What one stats fd has, histograms left out. */
struct counters {
	char id[NAME_MAX_SIZE];
	unsigned int count;
	struct counter *counter;
};

/* A stats fd of another process, as a descriptor of this one, and what it said when the turn began. */
struct source {
	int fd;
	char subject[NAME_MAX_SIZE];	/* "vm", or "vcpu0" */
	struct counters before;
};

struct process {
	pid_t pid;
	char command[NAME_MAX_SIZE];
	unsigned int vcpus;		/* their fds */
	unsigned int source_count;
	struct source *sources;
	unsigned int task_count;	/* threads whose exits are counted */
	int *tasks;
	uint64_t exits;
};

struct processes {
	unsigned int count;
	struct process *process;
};

/* A tracepoint, or one reason of kvm_exit, counted on each CPU. */
struct event {
	char name[NAME_MAX_SIZE];
	unsigned int cpu_count;
	int *cpus;
	uint64_t value, before;
};

struct events {
	const char *system;		/* lodge or kvm */
	uint64_t exit_id;		/* of kvm_exit, 0: there is none to be had */
	unsigned int count;
	struct event *event;
};

int counters_read(int fd, struct counters *c);
const struct counter *counters_find(const struct counters *c, const char *name);
void counters_free(struct counters *c);

int processes_find(struct processes *p, const char *system);
void processes_free(struct processes *p);

int events_open(struct events *e, const char *system, bool reasons);
void events_read(struct events *e);
void exits_open(const struct events *e, struct process *p);
void exits_read(struct process *p);
void exits_close(struct process *p);

void *grow(void *array, unsigned int count, size_t size);

#endif
