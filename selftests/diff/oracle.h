/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The driver's own parts: files of facts, what is expected to differ, and making a sequence shorter.
 */
#ifndef SELFTESTS_DIFF_ORACLE_H
#define SELFTESTS_DIFF_ORACLE_H

#include "tap.h"

struct fact {
	char *name, *value;
	u32 line;
};

struct facts {
	struct fact *f;		/* sorted by name */
	u32 n, lines;
	char *text;
	bool failed;		/* the program did not come to its end */
};

enum side { STOCK, LODGE, SIDES };

/* Loads one module and takes the other away; false if that is not possible. */
bool load_module(enum side side);

/* Runs a program of this folder with one argument, or none, on the module that is loaded. */
struct facts collect(enum side side, const char *program, const char *arg);
void free_facts(struct facts *facts);
const struct fact *find_fact(const struct facts *facts, const char *name);

/* For qsort(): in the order in which the program printed them. */
int by_line(const void *a, const void *b);

/*
 * What of these two values is not expected: "call", the name of the first such field, or nothing. And all in which they
 * differ, for people.
 */
void surprise(const char *program, const char *name, const char *stock, const char *lodge, char *what, size_t size);
void print_pairs(const char *stock, const char *lodge);

/* Prints the shortest form of a sequence of `ioctls` that differs at this step as it did, as C. */
void shrink(u32 sequence, u32 step, const char *name, const char *stock, const char *lodge);

#endif
