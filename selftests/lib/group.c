// SPDX-License-Identifier: GPL-2.0
/* Memory cgroups, of version 2, in a mount of their own: see group.h. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "group.h"
#include "tap.h"

bool put(const char *dir, const char *file, const char *text)
{
	char path[256];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ret = write(fd, text, strlen(text));
	close(fd);
	return ret == (int)strlen(text);
}

struct memory_group group_new(const char *name, long bytes)
{
	struct memory_group g = { .root = "/tmp/cgroupXXXXXX" };
	char text[32];

	TRUE(mkdtemp(g.root) != NULL);
	snprintf(g.dir, sizeof(g.dir), "%s/%s", g.root, name);
	snprintf(text, sizeof(text), "%ld", bytes);
	if (mount("none", g.root, "cgroup2", 0, NULL) || !put(g.root, "cgroup.subtree_control", "+memory") ||
	    mkdir(g.dir, 0755) || !put(g.dir, "memory.max", text))
		test_skip("no memory cgroup: %s", strerror(errno));
	put(g.dir, "memory.swap.max", "0");
	return g;
}

bool group_join(const struct memory_group *g)
{
	return put(g->dir, "cgroup.procs", "0");
}

void group_end(struct memory_group *g)
{
	rmdir(g->dir);
	umount(g->root);
	rmdir(g->root);
}
