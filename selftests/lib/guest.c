// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's own trap handler, and guests that many tests need. It runs in the guest, on the guest's
 * copy of these globals.
 *
 * An interrupt or trap with a handler in on_vector[] calls it; a fault inside TRAPS() is noted
 * and execution goes on at the landing address; anything else is reported to the test as a
 * failure, with its vector, error code and RIP.
 *
 * QEMU 7.2 sometimes delivers an injected interrupt twice, KVM's as well as Lodge's: again inside its
 * own handler, without a look at RFLAGS.IF. No processor does that: on QEMU, an interrupt that finds
 * IF clear is counted apart, and nothing else happens; an exit, by CPUID, ends the danger before IRET
 * sets IF. One that came too early is still noticed: it is missing afterwards.
 */
#include "guest.h"

void (*volatile on_vector[256])(struct frame *f);
volatile uint32_t vector_count[256];
volatile uint64_t last_error;
volatile uint64_t trap_landing;
volatile int64_t trap_vector;
struct frame last_frames[LAST_FRAMES];
volatile uint32_t frames;
volatile bool host_is_qemu;
volatile uint32_t qemu_duplicates;
volatile uint64_t guest_spins;

__attribute__((constructor)) static void look_at_host(void)
{
	uint32_t a, b, c, d;

	cpuid(1, 0, &a, &b, &c, &d);
	if (!(c >> 31))
		return;
	cpuid(0x40000000, 0, &a, &b, &c, &d);
	host_is_qemu = b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* TCGTCGTCGTCG */
}

static bool is_duplicate(const struct frame *f)
{
	const uint8_t *before = (const uint8_t *)f->rip - 2;

	return host_is_qemu && f->vector >= 32 && !(f->flags & 0x200) &&
	       !(before[0] == 0xcd && before[1] == f->vector);	/* INT n asks nobody */
}

void guest_trap(struct frame *f)
{
	uint8_t vector = f->vector;

	last_frames[frames++ % LAST_FRAMES] = *f;
	if (is_duplicate(f)) {
		qemu_duplicates++;
		return;
	}
	if (host_is_qemu) {
		uint32_t a, b, c, d;

		cpuid(0, 0, &a, &b, &c, &d);
	}
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

void simple_guest(void)
{
	report(1, 0, 0, 0);
	done();
}

void spin_guest(void)
{
	spin_openly();
	for (;;)
		guest_spins++;
}

struct pvclock clock_page __attribute__((aligned(4096)));

uint64_t clock_read(void)
{
	volatile struct pvclock *p = &clock_page;
	uint32_t version;
	uint64_t ns;

	do {
		unsigned __int128 delta;

		version = p->version;
		delta = rdtsc() - p->tsc;
		delta = p->shift >= 0 ? delta << p->shift : delta >> -p->shift;
		ns = p->system_time + (uint64_t)(delta * p->mul >> 32);
	} while (version & 1 || version != p->version);
	return ns;
}
