// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's own trap handler. It runs in the guest, on the guest's copy of these globals.
 *
 * An interrupt or trap with a handler in on_vector[] calls it; a fault inside TRAPS() is noted
 * and execution goes on at the landing address; anything else is reported to the test as a
 * failure, with its vector, error code and RIP.
 */
#include "guest.h"

void (*volatile on_vector[256])(struct frame *f);
volatile uint32_t vector_count[256];
volatile uint64_t last_error;
volatile uint64_t trap_landing;
volatile int64_t trap_vector;

void guest_trap(struct frame *f)
{
	uint8_t vector = f->vector;

	vector_count[vector]++;
	if (on_vector[vector]) {
		on_vector[vector](f);
	} else if (trap_landing && vector < 32) {
		trap_vector = vector;
		last_error = f->error;
		f->rip = trap_landing;
		trap_landing = 0;
	} else {
		report(REPORT_TRAP, vector, f->error, f->rip);
	}
}
