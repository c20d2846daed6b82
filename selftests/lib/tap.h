/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test harness: subtests, their isolation, and the checks.
 *
 * TEST(name, "what it shows") { ... } declares a subtest. tap_main() forks one child for
 * each, in the order of the file, so that a crash, a hang or a leak ends that subtest alone, and
 * prints one TAP line for it. A check that fails prints both values and ends the child; a subtest
 * that made no check at all counts as failed.
 */
#ifndef SELFTESTS_TAP_H
#define SELFTESTS_TAP_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct test {
	const char *name;	/* to select it on the command line */
	const char *what;	/* the TAP description */
	void (*fn)(void);
	struct test *next;
};

void test_register(struct test *t);

/* What main() is, where the program has none: the status is 0, 1 for a failure, 4 if all was skipped. */
int tap_main(int argc, char **argv);

#define TEST(id, text)								\
	static void t_##id(void);						\
	static struct test test_##id = { .name = #id, .what = text, .fn = t_##id }; \
	__attribute__((constructor)) static void register_##id(void)		\
	{									\
		test_register(&test_##id);					\
	}									\
	static void t_##id(void)

/* The device under test: $LODGE_DEV, or /dev/lodge. */
const char *device_path(void);

/* How much longer than on silicon things may take: $LODGE_SLOW, 1 by default. */
int slowness(void);

/* Restarts the running subtest's time limit with this many seconds (times slowness()). */
void time_limit(int seconds);

void count_check(void);
__attribute__((noreturn, format(printf, 3, 4)))
void test_fail(const char *file, int line, const char *fmt, ...);
__attribute__((noreturn, format(printf, 1, 2))) void test_skip(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void note(const char *fmt, ...);

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

#define COMPARE(a, op, b, a_text, b_text) do {						\
	u64 a_ = (u64)(a), b_ = (u64)(b);						\
	count_check();									\
	if (!(a_ op b_))								\
		FAIL("%s is 0x%llx, wanted " #op " %s (0x%llx)", a_text,		\
		     (unsigned long long)a_, b_text, (unsigned long long)b_);		\
} while (0)

#define EQ(a, b) COMPARE(a, ==, b, #a, #b)
#define NE(a, b) COMPARE(a, !=, b, #a, #b)
#define GE(a, b) COMPARE(a, >=, b, #a, #b)
#define LE(a, b) COMPARE(a, <=, b, #a, #b)

#define TRUE(cond) do {									\
	count_check();									\
	if (!(cond))									\
		FAIL("not so: %s", #cond);						\
} while (0)

/* The call succeeds; its value. */
#define OK(call) ({									\
	errno = 0;									\
	long r_ = (long)(call);								\
	count_check();									\
	if (r_ < 0)									\
		FAIL("%s failed: %s", #call, strerror(errno));				\
	r_;										\
})

/* The call returns -1 with this errno. */
#define ERR(call, err) do {								\
	errno = 0;									\
	long r_ = (long)(call);								\
	int e_ = errno;									\
	count_check();									\
	if (r_ != -1)									\
		FAIL("%s returned %ld, wanted -1 with %s", #call, r_, strerror(err));	\
	if (e_ != (err))								\
		FAIL("%s: errno %d (%s), wanted %d (%s)", #call, e_, strerror(e_),	\
		     (int)(err), strerror(err));					\
} while (0)

/* Two objects of the same size hold the same bytes. */
#define SAME(a, b, size) do {								\
	const u8 *a_ = (const void *)(a), *b_ = (const void *)(b);			\
	count_check();									\
	for (size_t i_ = 0; i_ < (size); i_++)						\
		if (a_[i_] != b_[i_])							\
			FAIL("%s and %s differ at byte %zu: %02x, %02x", #a, #b,	\
			     i_, a_[i_], b_[i_]);					\
} while (0)

#endif
