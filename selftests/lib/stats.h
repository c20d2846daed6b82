/* SPDX-License-Identifier: GPL-2.0 */
/* Counters by KVM_GET_STATS_FD. */
#ifndef SELFTESTS_STATS_H
#define SELFTESTS_STATS_H

#include "vm.h"

void need_stats(void);			/* or the subtest is skipped */

/* A counter by name, read from the file now; the test fails where there is none of this name. */
u64 stats_counter(int fd, const char *name);
/* The same, of this KVM_STATS_TYPE_*. */
u64 stats_counter_of(int fd, const char *name, u32 type);

#endif
