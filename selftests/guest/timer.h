/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that arms a timer of 40 ms, for who stops it meanwhile: by its own TSC and kvmclock the tick comes not early,
 * and no later than the host's time allows.
 */
#ifndef SELFTESTS_GUEST_TIMER_H
#define SELFTESTS_GUEST_TIMER_H

#include "vm.h"

enum { TIMER = 0x71 };			/* its vector */
enum timer_way { ONESHOT, PERIODIC, DEADLINE, BY_PIT };

struct vm *timer_vm(void);		/* with a PIT */
struct vcpu *timer_armed(struct vm *vm, enum timer_way way);

/*
 * To the tick, and whether it came when it should. start: now_us() when the guest's time, which may have stood still, went
 * on. By kvmclock it took so many ns.
 */
u64 timer_ends(struct vcpu *v, u64 start);

/* For other guests: what a tick is taken by; how many came, and when the last did. */
void timer_tick(struct frame *f);
extern volatile u64 ticks, fired_at;

#endif
