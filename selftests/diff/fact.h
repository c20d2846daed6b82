/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of the oracle print: one line a fact, `case: value`, and nothing else but notes that begin with
 * '#'. A fact is built piece by piece, because most are lists. No fact may depend on time, on a pointer or on what
 * the emulated host did before: two runs on the same module have to print the same lines.
 */
#ifndef SELFTESTS_DIFF_FACT_H
#define SELFTESTS_DIFF_FACT_H

#include "vm.h"

__attribute__((format(printf, 1, 2))) void fact_case(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void fact_add(const char *fmt, ...);
/* Prints the line; an empty value is "-". The number of lines so far. */
u64 fact_end(void);

/* The whole fact at once. */
#define FACT(value, ...) do {			\
	fact_case(__VA_ARGS__);			\
	fact_add value;				\
	fact_end();				\
} while (0)

/* A number that stands for these bytes. */
u32 fact_hash(const void *p, size_t size);

/* "0", or the name of the errno that the last call left. */
const char *fact_errno(long ret);

#endif
