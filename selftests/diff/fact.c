// SPDX-License-Identifier: GPL-2.0
/*
 * Lines of facts: see fact.h. A line that outgrows its buffer is cut at the same place on both modules, and says so,
 * so that it stays comparable.
 */
#include <stdarg.h>

#include "fact.h"

static char line[16384];
static size_t used, value_at;
static u64 lines;

static void add(const char *fmt, va_list args)
{
	int n = vsnprintf(line + used, sizeof(line) - used, fmt, args);

	used += n;
	if (used > sizeof(line) - 8) {
		used = sizeof(line) - 8;
		strcpy(line + used, "[cut]");
	}
}

void fact_case(const char *fmt, ...)
{
	va_list args;

	used = 0;
	va_start(args, fmt);
	add(fmt, args);
	va_end(args);
	strcpy(line + used, ":");
	value_at = ++used;
}

void fact_add(const char *fmt, ...)
{
	va_list args;

	if (used < sizeof(line) - 8)
		line[used++] = ' ';
	va_start(args, fmt);
	add(fmt, args);
	va_end(args);
}

u64 fact_end(void)
{
	printf("%s%s\n", line, used == value_at ? " -" : "");
	return ++lines;
}

u32 fact_hash(const void *p, size_t size)
{
	const u8 *bytes = p;
	u32 h = 0x811c9dc5;

	for (size_t i = 0; i < size; i++)
		h = (h ^ bytes[i]) * 0x01000193;
	return h;
}

const char *fact_errno(long ret)
{
	return ret < 0 ? strerrorname_np(errno) : "0";
}
