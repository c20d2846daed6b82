/* SPDX-License-Identifier: GPL-2.0 */
/* The loop (run.c) and what each exit means (exit.c). */
#ifndef LODGE_RUN_H
#define LODGE_RUN_H

#include "core/core.h"

/* run.c */
struct lodge_halt_poll {		/* the module's parameters halt_poll_ns*, as KVM's */
	unsigned int ns, grow, grow_start, shrink;
};
extern struct lodge_halt_poll lodge_halt_poll;
int lodge_vcpu_run(struct lodge_vcpu *v);
int lodge_settle_access(struct lodge_vcpu *v);	/* what userspace has answered is taken, as KVM_RUN does first */

/* exit.c */
extern enum lodge_next (*const lodge_exit_slow[EXIT_KINDS])(struct lodge_vcpu *v);
extern enum lodge_next (*const lodge_exit_fast[EXIT_KINDS])(struct lodge_vcpu *v);
bool lodge_exits_complete(void);
#endif
