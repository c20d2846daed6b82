// SPDX-License-Identifier: GPL-2.0
/*
 * Where lodge-ok looks: CPUID, the files of /proc and /sys, the MSRs. A file that is not there, or may not
 * be read, is an answer like any other.
 */
#include <cpuid.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ok.h"

/**
 * look_cpuid() - CPUID of the processor that this thread is on.
 * @leaf: EAX.
 * @sub: ECX.
 *
 * Return: the registers; zeros where the processor has no such leaf.
 */
struct cpuid_regs look_cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid_regs r = { 0 };

	/* The leaves of a hypervisor have a maximum of their own, which the caller looks at. */
	if (leaf >> 16 == 0x4000 || leaf <= __get_cpuid_max(leaf & 0x80000000, NULL))
		__cpuid_count(leaf, sub, r.a, r.b, r.c, r.d);
	return r;
}

/**
 * look_file() - the beginning of a file.
 * @text: where it goes, a string; empty if there is none.
 * @size: its size.
 * @fmt: the path, as printf's.
 *
 * A newline at its end is cut off, and bytes of zero are spaces.
 *
 * Return: whether it could be read.
 */
bool look_file(char *text, size_t size, const char *fmt, ...)
{
	char path[256];
	size_t len = 0, i;
	ssize_t n = -1;
	va_list args;
	int fd;

	va_start(args, fmt);
	vsnprintf(path, sizeof(path), fmt, args);
	va_end(args);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		while (len + 1 < size) {
			n = read(fd, text + len, size - 1 - len);
			if (n <= 0)
				break;
			len += n;
		}
		close(fd);
	}
	for (i = 0; i < len; i++) {
		if (!text[i])
			text[i] = ' ';
	}
	if (len && text[len - 1] == '\n')
		len--;
	text[len] = 0;
	return fd >= 0 && n >= 0;
}

/**
 * look_word() - whether a text of words has this one.
 * @text: words between white space.
 * @word: the whole of one.
 *
 * Return: true if it has.
 */
bool look_word(const char *text, const char *word)
{
	size_t len = strlen(word);
	const char *p;

	for (p = strstr(text, word); p; p = strstr(p + 1, word)) {
		if ((p == text || strchr(" \t\n", p[-1])) && strchr(" \t\n", p[len]))
			return true;
	}
	return false;
}

/**
 * look_cpuinfo() - what /proc/cpuinfo says of the first processor.
 * @text: where it goes, a string; empty if it says nothing.
 * @size: its size.
 * @key: what is left of the colon.
 *
 * Return: whether it says something.
 */
bool look_cpuinfo(char *text, size_t size, const char *key)
{
	static char all[16384];
	size_t len = strlen(key);
	char *line, *rest;

	text[0] = 0;
	if (!look_file(all, sizeof(all), "/proc/cpuinfo"))
		return false;
	for (line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, key, len) || !strchr("\t:", line[len]))
			continue;
		snprintf(text, size, "%s", colon + 1 + (colon[1] == ' '));
		return true;
	}
	return false;
}

/**
 * look_msr_open() - open the MSRs of a processor for reading.
 * @cpu: its number.
 *
 * Return: a file, or -1 with errno.
 */
int look_msr_open(int cpu)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/**
 * look_msr() - read an MSR.
 * @fd: of look_msr_open().
 * @index: its number.
 * @value: where it goes; untouched if the processor has no such MSR.
 *
 * Return: whether it has.
 */
bool look_msr(int fd, uint32_t index, uint64_t *value)
{
	uint64_t got;

	if (pread(fd, &got, sizeof(got), index) != sizeof(got))
		return false;
	*value = got;
	return true;
}
