// SPDX-License-Identifier: GPL-2.0
/*
 * The memory of each guest of a template, limited: a memory cgroup of version 2 for each, made
 * before its process, which joins it before it does anything else.
 *
 * All of them lie in one group, which the user names, or in the one that lodge-run was started in.
 * A group that hands a controller on may not have processes itself (the root may): so in its own
 * group lodge-run moves into a child of it first, which works where it is alone there. Whether the
 * host lets all this be done is found out before the guest boots, by a group that is made, joined and
 * removed.
 *
 * A group cannot be removed while a process is in it, and some kernels count one that has been
 * waited for until it has left its processor for the last time. That takes no time that anybody would
 * notice, so whoever removes a group tries again.
 *
 * Called by the main thread alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

#define ASIDE "lodge-run"	/* where lodge-run itself goes */
#define REMOVE_MS 1000

/* Write a word to a file of the kernel's. Return 0, or -1 with errno set. */
static int put(int dir, const char *file, const char *word)
{
	int fd = openat(dir, file, O_WRONLY | O_CLOEXEC), error;
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, word, strlen(word));
	error = errno;
	close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

/* What such a file says: nothing if it cannot be read. */
static void get(int dir, const char *file, char *text, size_t size)
{
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

/* Is the memory controller in a list of them? */
static bool has_memory(int dir, const char *file)
{
	char text[1024], *word, *rest = text;

	get(dir, file, text, sizeof(text));
	while ((word = strsep(&rest, "\n "))) {
		if (!strcmp(word, "memory"))
			return true;
	}
	return false;
}

/* Where the groups of version 2 are: the folder of the one this process is in. */
static int own_group(char *path, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	const struct mntent *m = NULL;
	char text[PATH_MAX] = "\n";
	const char *group;
	int len = -1;

	get(AT_FDCWD, "/proc/self/cgroup", text + 1, sizeof(text) - 1);
	group = strstr(text, "\n0::");
	while (mounts && (m = getmntent(mounts)) && strcmp(m->mnt_type, "cgroup2"))
		;
	if (m && group) {
		group += strlen("\n0::");
		len = snprintf(path, size, "%s%.*s", m->mnt_dir, (int)strcspn(group, "\n"), group);
	}
	if (mounts)
		endmntent(mounts);
	if (len < 0 || (size_t)len >= size)
		return say("found no cgroup of version 2 for --template-memory: name one with --template-cgroup");
	return 0;
}

static int enable(const struct cgroup *g)
{
	return put(g->dir, "cgroup.subtree_control", "+memory");
}

/* The same where this process is in the group, and has to leave it first. */
static int enable_aside(const struct cgroup *g)
{
	bool made = mkdirat(g->dir, ASIDE, 0755) == 0;
	int error;

	if (!made && errno != EEXIST)
		return -1;
	if (put(g->dir, ASIDE "/cgroup.procs", "0") == 0) {
		if (enable(g) == 0)
			return 0;
		error = errno;
		put(g->dir, "cgroup.procs", "0");
	} else {
		error = errno;
	}
	if (made)
		unlinkat(g->dir, ASIDE, AT_REMOVEDIR);
	errno = error;
	return -1;
}

/* Let the children of a group have limits. */
static int hand_on(const struct cgroup *g, const char *path, bool own)
{
	if (has_memory(g->dir, "cgroup.subtree_control") || enable(g) == 0)
		return 0;
	if (own && errno == EBUSY && enable_aside(g) == 0)
		return 0;
	return say_errno("the cgroup %s cannot limit the memory of groups in it%s", path,
			 errno == EBUSY ? ", for it has processes of its own" : "");
}

static void name(char *path, size_t size, const struct cgroup *g, uint64_t id, const char *file)
{
	snprintf(path, size, "guest.%d.%llu%s", (int)g->server, (unsigned long long)id, file);
}

/**
 * cgroup_new() - the group of a guest that is to come.
 * @g: where it is made.
 *
 * Return: its number, or 0 after telling why there is none.
 */
uint64_t cgroup_new(struct cgroup *g)
{
	char path[64], limit[32];
	int made;

	/* One that is there is of a process of the same number that was killed. */
	do {
		name(path, sizeof(path), g, ++g->last, "");
		made = mkdirat(g->dir, path, 0755);
	} while (made < 0 && errno == EEXIST);
	if (made < 0) {
		say_errno("cannot make a cgroup for a guest");
		return 0;
	}
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)g->limit);
	name(path, sizeof(path), g, g->last, "/memory.max");
	if (put(g->dir, path, limit) == 0) {
		/* There is no such file where swap is not accounted. */
		name(path, sizeof(path), g, g->last, "/memory.swap.max");
		if (put(g->dir, path, "0") == 0 || errno == ENOENT)
			return g->last;
	}
	say_errno("cannot limit the memory of a guest");
	cgroup_remove(g, g->last);
	return 0;
}

/**
 * cgroup_join() - move this process into a guest's group.
 * @g: where the group is.
 * @id: its number.
 *
 * Return: 0, or -1.
 */
int cgroup_join(const struct cgroup *g, uint64_t id)
{
	char path[64];

	name(path, sizeof(path), g, id, "/cgroup.procs");
	return put(g->dir, path, "0") < 0 ? say_errno("cannot put a guest into its cgroup") : 0;
}

/**
 * cgroup_killed() - has the limit ended the guest?
 * @g: where its group is.
 * @id: the group's number.
 *
 * Return: true if the kernel has killed a process in it for lack of memory.
 */
bool cgroup_killed(const struct cgroup *g, uint64_t id)
{
	char path[64], text[1024];
	const char *count;

	name(path, sizeof(path), g, id, "/memory.events");
	get(g->dir, path, text, sizeof(text));
	count = strstr(text, "oom_kill ");
	return count && strtoul(count + strlen("oom_kill "), NULL, 10);
}

/**
 * cgroup_remove() - remove a guest's group.
 * @g: where it is.
 * @id: its number; its process has been waited for.
 */
void cgroup_remove(const struct cgroup *g, uint64_t id)
{
	char path[64];
	int i;

	name(path, sizeof(path), g, id, "");
	for (i = 0; unlinkat(g->dir, path, AT_REMOVEDIR) < 0 && errno == EBUSY && i < REMOVE_MS; i++)
		usleep(1000);
}

/* A guest that does nothing. */
static int probe(struct cgroup *g)
{
	uint64_t id = cgroup_new(g);
	pid_t pid = -1;
	int status;

	if (!id)
		return -1;
	pid = fork();
	if (pid == 0)
		_exit(cgroup_join(g, id) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = say_errno("cannot start a process for a guest");
	cgroup_remove(g, id);
	return status ? -1 : 0;
}

/**
 * cgroup_init() - will it be possible to limit each guest?
 * @g: where the groups will be.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1 after telling why not.
 */
int cgroup_init(struct cgroup *g, const struct options *opt)
{
	const char *path = opt->template_cgroup;
	char own[2 * PATH_MAX];
	struct statfs fs;

	if (!path) {
		if (own_group(own, sizeof(own)) < 0)
			return -1;
		path = own;
	}
	g->limit = opt->template_memory;
	g->server = getpid();
	g->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->dir < 0 || fstatfs(g->dir, &fs) < 0)
		return say_errno("cannot open the cgroup %s", path);
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return say("%s is no cgroup of version 2", path);
	if (!has_memory(g->dir, "cgroup.controllers"))
		return say("the cgroup %s has no memory controller that it could hand on", path);
	return hand_on(g, path, !opt->template_cgroup) < 0 ? -1 : probe(g);
}
