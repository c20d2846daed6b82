/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state of a machine, by fields with names: all that KVM_GET_* gives, but for what is time.
 */
#ifndef SELFTESTS_DIFF_STATE_H
#define SELFTESTS_DIFF_STATE_H

#include "machine.h"

enum state_id {
	S_REGS, S_SREGS, S_FPU, S_XSAVE, S_XCRS, S_DEBUGREGS, S_EVENTS, S_MP, S_LAPIC, S_CPUID, S_MSRS,
	S_PIC0, S_PIC1, S_IOAPIC, S_PIT, S_CLOCK, S_MEMORY, STATES
};

enum { STATE_BYTES = 0x10000 };

struct field {
	const char *name;	/* with a %u for the index of an array */
	u32 offset, size, count, stride;
};

struct state {
	const char *name, *type;
	unsigned long get, set;	/* set is 0 where it is not to be set as a whole */
	u32 size, fields;
	const struct field *field;
	bool of_vm;
};

extern const struct state states[STATES];

/* 0 or an errno; buf has STATE_BYTES. */
int state_get(struct machine *m, enum state_id id, void *buf);
int state_set(struct machine *m, enum state_id id, void *buf);

/* The MSRs that are part of the state. */
extern const u32 state_msrs[];
extern const u32 state_msr_count;

/* A random field of a state: its name with its index in text, its place and size. */
struct place {
	u32 offset, size;
	char text[48];
};
struct place random_place(enum state_id id);

/* All states, kept. */
struct snapshot {
	u8 *buf[STATES];
	int err[STATES];
};
struct snapshot *snapshot_new(void);
void snapshot_take(struct machine *m, struct snapshot *s);

/* Adds to the fact which fields differ, with their new values. */
void fact_changes(const struct snapshot *old, const struct snapshot *new);

/* One fact for each field that is not zero. */
void fact_fresh(struct machine *m, const struct snapshot *s);

#endif
