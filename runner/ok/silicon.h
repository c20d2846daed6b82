/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lodge-ok --silicon: what its tests share. They are tests by selftests/lib, whose guests are C functions of this
 * program (selftests/lib/vm.h): code that runs in a guest calls no libc and is named so.
 */
#ifndef LODGE_OK_SILICON_H
#define LODGE_OK_SILICON_H

#include <pthread.h>
#include <sys/types.h>

#include "ok.h"
#include "tap.h"

enum { MAX_HOST_CPUS = 1024 };

struct vcpu;

/* A vCPU that runs in a thread of its own. Zeroed before runner_start(), but for what that is to find. */
struct runner {
	bool doomed;		/* that the hypervisor ends it with an internal error is an end like done() */
	struct vcpu *v;
	int cpu;		/* where it runs; -1: wherever the host likes */
	pthread_t thread;
	volatile pid_t tid;
	volatile bool stop, ended;
};

/* host.c. What an emulator does wrong is skipped by its name. */
const char *emulator(void);
int online_cpus(int *list, int max);
void pin_to(pid_t tid, int cpu);
pid_t thread_id(void);
int want_two_cpus(int *list, int max);
void note_spread(const char *what, const char *unit, u64 *values, size_t n);
void runner_start(struct runner *r, struct vcpu *v, int cpu);
void runner_join(struct runner *r);
void runner_stop(struct runner *r);
void move_all(struct runner *r, int count, const int *cpus, int n, u32 step);

/* report.c: @findings is what judge() found of this machine. */
extern const struct verdict *findings;
void report_machine(void);

#endif
