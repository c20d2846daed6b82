/* SPDX-License-Identifier: GPL-2.0 */
/* A memory cgroup that a test makes for processes of its own; and files of the kernel's that take a word. */
#ifndef SELFTESTS_GROUP_H
#define SELFTESTS_GROUP_H

#include <stdbool.h>

struct memory_group {
	char root[32], dir[64];
};

bool put(const char *dir, const char *file, const char *text);	/* all of it was taken */
struct memory_group group_new(const char *name, long bytes);	/* without swap; or the subtest is skipped */
bool group_join(const struct memory_group *g);			/* the caller */
void group_end(struct memory_group *g);				/* nobody is in it any more */

#endif
