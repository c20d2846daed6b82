/* SPDX-License-Identifier: GPL-2.0 */
/* Random instructions (insns.h) as guests to be stopped and compared (again.h). */
#ifndef SELFTESTS_DIFF_CASES_H
#define SELFTESTS_DIFF_CASES_H

#include "insns.h"

/* A VM for cases, its memory fresh: the world. One at a time. */
struct machine random_machine(void);

void settle(struct vcpu *v);			/* the last case's accesses end */
void set_case(struct machine *m, const struct insn_case *c);

/* An event of the case waits to be delivered; all but NMIs only before its first KVM_RUN. */
void raise_event(struct vcpu *v, u32 event, bool first);

#endif
