// SPDX-License-Identifier: GPL-2.0
/*
 * What a stats fd says: a header, an id, a descriptor for each counter, the counters, in the format of KVM_GET_STATS_FD;
 * and arrays that grow, which all of lodge-stat has its findings in.
 *
 * The fd is another process's and the file may be anything: whatever does not fit together ends the reading, and
 * nothing is allocated by a number from it that has not been compared with a limit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stat.h"

#define MAX_COUNTERS 1024
#define MAX_NAME 1024

/**
 * grow() - room for one more at the end of an array.
 * @array: the array, or NULL.
 * @count: how many it has.
 * @size: of one.
 *
 * Return: the array, the last one zeroed. The program ends where there is no memory.
 */
void *grow(void *array, unsigned int count, size_t size)
{
	char *p = reallocarray(array, count + 1, size);

	if (!p) {
		fputs("lodge-stat: no memory\n", stderr);
		exit(1);
	}
	memset(p + count * size, 0, size);
	return p;
}

/* All of size bytes at an offset, or not. */
static bool read_at(int fd, void *buf, size_t size, uint64_t at)
{
	return at <= INT64_MAX && pread(fd, buf, size, (off_t)at) == (ssize_t)size;
}

/* A name of the file's, which may not be terminated, nor short, nor printable. */
static void take_name(char *to, const char *from, size_t size)
{
	size_t i;

	for (i = 0; i < size && i < NAME_MAX_SIZE - 1 && from[i]; i++)
		to[i] = from[i] > ' ' && from[i] <= '~' ? from[i] : '_';
	to[i] = '\0';
}

static int read_counter(int fd, const struct kvm_stats_header *h, uint64_t at, struct counters *c)
{
	char buf[sizeof(struct kvm_stats_desc) + MAX_NAME];
	struct kvm_stats_desc desc;
	struct counter *counter = &c->counter[c->count];
	uint32_t type;

	if (!read_at(fd, buf, sizeof(desc) + h->name_size, at))
		return -1;
	memcpy(&desc, buf, sizeof(desc));
	type = desc.flags & KVM_STATS_TYPE_MASK;
	if (type == KVM_STATS_TYPE_LINEAR_HIST || type == KVM_STATS_TYPE_LOG_HIST || desc.size != 1)
		return 0;
	take_name(counter->name, buf + sizeof(desc), h->name_size);
	if (!read_at(fd, &counter->value, sizeof(counter->value), (uint64_t)h->data_offset + desc.offset))
		return -1;
	c->count++;
	return 0;
}

/**
 * counters_read() - read all counters of a stats fd.
 * @fd: the fd; its position is not used.
 * @c: what to fill; counters_free() is to be called if this succeeds.
 *
 * Return: 0, or -1 with errno; EPROTO: what is there has not the format.
 */
int counters_read(int fd, struct counters *c)
{
	struct kvm_stats_header h;
	char id[MAX_NAME];
	unsigned int i;

	memset(c, 0, sizeof(*c));
	errno = 0;
	if (!read_at(fd, &h, sizeof(h), 0) || !h.name_size || h.name_size > MAX_NAME || h.num_desc > MAX_COUNTERS ||
	    !read_at(fd, id, h.name_size, h.id_offset))
		goto wrong;
	take_name(c->id, id, h.name_size);
	c->counter = calloc(h.num_desc + 1, sizeof(*c->counter));
	if (!c->counter)
		return -1;
	for (i = 0; i < h.num_desc; i++) {
		uint64_t at = h.desc_offset + (uint64_t)i * (sizeof(struct kvm_stats_desc) + h.name_size);

		if (read_counter(fd, &h, at, c) < 0)
			goto wrong;
	}
	return 0;
wrong:
	counters_free(c);
	errno = errno ? errno : EPROTO;
	return -1;
}

/**
 * counters_find() - the counter of that name.
 * @c: where it may be.
 * @name: its name.
 *
 * Return: the counter, or NULL.
 */
const struct counter *counters_find(const struct counters *c, const char *name)
{
	unsigned int i;

	for (i = 0; i < c->count; i++)
		if (!strcmp(c->counter[i].name, name))
			return &c->counter[i];
	return NULL;
}

/**
 * counters_free() - undo counters_read().
 * @c: the counters; none afterwards.
 */
void counters_free(struct counters *c)
{
	free(c->counter);
	c->counter = NULL;
	c->count = 0;
}
