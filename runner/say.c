// SPDX-License-Identifier: GPL-2.0
/*
 * What lodge-run tells its user: one sentence on standard error for each thing that went wrong.
 *
 * Both say() and say_errno() return -1, so that a function that fails can end with `return say(...)`. By then
 * the terminal may be raw, where a newline alone would not return to the left margin and where the
 * user could not type; what say() tells is told on the way out, so the terminal is restored first.
 * say_meanwhile() is for what the guest goes on after: the terminal is raw again behind it.
 * Called from any thread.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runner.h"

static int tell(const char *why, const char *fmt, va_list args)
{
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, args);
	tty_restore();
	fprintf(stderr, "lodge-run: %s%s%s\n", line, why ? ": " : "", why ? why : "");
	return -1;
}

/**
 * say() - tell the user what went wrong.
 * @fmt: as printf's; no newline.
 *
 * Return: -1.
 */
int say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell(NULL, fmt, args);
	va_end(args);
	return -1;
}

/**
 * say_errno() - say() with the meaning of errno added.
 * @fmt: as printf's; no newline.
 *
 * Return: -1.
 */
int say_errno(const char *fmt, ...)
{
	const char *why = strerror(errno);
	va_list args;

	va_start(args, fmt);
	tell(why, fmt, args);
	va_end(args);
	return -1;
}

/**
 * say_meanwhile() - tell the user something while the guest runs on.
 * @fmt: as printf's; no newline.
 */
void say_meanwhile(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell(NULL, fmt, args);
	va_end(args);
	/* It was, and could be a moment ago; if not now, the guest's console is less pretty. */
	tty_raw();
}
