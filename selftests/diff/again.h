/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Run, reset, run again: what is compared between two runs of a guest from one snapshot. Every exit with its data, every
 * register and byte of memory; what is time goes on.
 */
#ifndef SELFTESTS_DIFF_AGAIN_H
#define SELFTESTS_DIFF_AGAIN_H

#include "../guest/lives.h"
#include "state.h"

enum { MAX_VCPUS = 2, MAX_MSRS = 256, MAX_AREAS = 4 };

/* The VM under test. */
extern struct world {
	struct vm *vm;
	struct vcpu *v[MAX_VCPUS];
	int n;
	u8 *at[MAX_AREAS];		/* memory that is compared, slot 0's first */
} w;

/* Of a VM: all that KVM_GET_* gives but for what is time, and its memory. */
struct shot {
	struct snapshot *of[MAX_VCPUS];
	u64 msrs[MAX_VCPUS][MAX_MSRS];
	int memory;			/* which of an area's copies */
};

/* What an exit says, and what was answered. */
struct seen {
	int ret;
	u32 reason, size, bytes;
	u64 where, kind;
	u8 data[4096];
	struct kvm_regs regs;
};

void needs_reset(void);			/* or the subtest is skipped; begins anew */
struct vcpu *set_world(struct vm *vm, struct vcpu *v0, struct vcpu *v1);
struct vcpu *begin_life(const struct life *l);
void no_areas(void);
void add_area(u8 *at, size_t size);	/* memory beside slot 0 that is compared */

struct shot *shot_new(int memory);
void take(struct shot *s);
void same(const struct shot *was, const char *when);

extern u64 resets;
void snapshot(void);
void reset(void);
void drop(void);
void tsc_goes_on(void);

/* The world's VM as a template, and VMs of it. All of its memory has to be compared, in two areas at most. */
void put_on_files(void);
void go_private(void);
int freeze(void);
struct world born(int template);
void gone(struct world *c);

/* One KVM_RUN, and what came of it; the answer to the exit before has to be in place. */
void one_run(struct vcpu *v, struct seen *e);
void answer(const struct seen *e, struct kvm_run *run);
bool is_end(const struct seen *e);
void same_exit(const struct seen *was, const struct seen *now, int n, const char *when);
int run_on(struct vcpu *v, const struct seen *first, struct seen *e, int most, bool again, const char *when);
void in_turn(struct seen *e, int turns, bool again);	/* all vCPUs to their next exits, one after the other */
u32 told_twice(void);

extern struct shot *before, *after;
extern struct seen *ahead;
int there_and_back(struct vcpu *v, const struct seen *first, int most, int rounds);

/*
 * The whole life of a guest up to its end. At each exit a snapshot is taken; some exits further on, all is compared,
 * reset, and run again; then it is dropped, and the walk goes one exit on. So a snapshot lies before and behind each
 * thing that the guest does, and in the middle of what takes several exits.
 */
int walk(struct vcpu *v, int most);

/*
 * The same with a template: two children are made of it one after the other, compared with the source as it was then, and
 * run some exits ahead; the second lives while the first does, which has gone on. Then the source, which has not moved,
 * goes as far, and on from there. prepare: for each child, what is not carried over. How many exits it was.
 */
int with_children(const struct seen *first, int most, int (*run)(const struct seen *first, int most, bool again),
		  void (*prepare)(struct vcpu *v));
int run_ahead(const struct seen *first, int most, bool again);	/* of vCPU 0 */
int walk_with_children(struct vcpu *v, int step, int most);

#endif
