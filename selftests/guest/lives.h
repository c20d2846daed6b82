/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guests in the middle of something at each of their exits: string instructions half done, events that wait or are in
 * service, breakpoints that are live, vector registers in use, interrupts between two vCPUs.
 */
#ifndef SELFTESTS_GUEST_LIVES_H
#define SELFTESTS_GUEST_LIVES_H

#include "vm.h"

enum { SAID = 2, OTHER = 0x52 };	/* a report; the vector of an interrupt that they take */

struct life {
	bool irqchip;
	int vcpus;			/* 2, or one */
	int exits;			/* that it has at least */
	void (*fn)(void);
	void (*prepare)(struct vm *vm);
};
/* events_life: its NMI's handler is called. Before the first run. */
void without_nmis(struct vm *vm);

extern const struct life strings_life, events_life, waiting_life, halted_life, debug_life, vectors_life, ipi_life;

/* At its first instruction. second: vCPU 1, or NULL. */
struct vcpu *live(const struct life *l, struct vcpu **second);

/* For waiting_life, by the bits of n: an NMI, an MSI, a line that goes up, one more NMI; and the line down again. */
void raise_some(struct vcpu *v, u32 n);
void line_down(struct vm *vm);

u64 ipis_taken(struct vm *vm, u32 id);

static inline void mark(u8 n)
{
	outb(0x80, n);
}

#endif
