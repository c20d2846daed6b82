// SPDX-License-Identifier: GPL-2.0
/*
 * The processes that have VMs, and the stats fds among their files.
 *
 * The kernel names its anonymous files in /proc/PID/fd: "lodge-vm", "lodge-vcpu:0", "lodge-vm-stats" and so on. A stats
 * fd is copied by pidfd_getfd(), which asks for the rights of a debugger: those of root, or of the same user where
 * ptrace is not restricted. Its ioctls are for the process that made the VM alone, so that only what a monitor has opened
 * and kept can be read; lodge-run does. What may not be looked at is passed over.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stat.h"

static void read_command(struct process *p)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", p->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, p->command, sizeof(p->command) - 1);
	if (fd >= 0)
		close(fd);
	p->command[n > 0 ? n : 0] = '\0';
	/* One word, whatever a process calls itself. */
	for (n = 0; p->command[n] && p->command[n] != '\n'; n++)
		if (!isgraph((unsigned char)p->command[n]))
			p->command[n] = '_';
	p->command[n] = '\0';
}

static void add_source(struct process *p, int pidfd, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	struct counters c;
	struct source *s;
	const char *cpu;

	if (fd < 0)
		return;
	if (counters_read(fd, &c) < 0) {
		close(fd);
		return;
	}
	p->sources = grow(p->sources, p->source_count, sizeof(*p->sources));
	s = &p->sources[p->source_count++];
	s->fd = fd;
	s->before = c;
	/* "kvm-1234/vcpu-0" */
	cpu = strstr(c.id, "/vcpu-");
	snprintf(s->subject, sizeof(s->subject), cpu ? "vcpu%.8s" : "vm", cpu ? cpu + 6 : "");
}

/* Return whether the file makes its process one that has a VM. */
static bool look_at(struct process *p, int dir, const char *name, const char *system, int *pidfd)
{
	char link[128] = "", vm[64], vcpu[64], stats[64];
	const char *is = link + strlen("anon_inode:");
	bool has_vm;

	if (readlinkat(dir, name, link, sizeof(link) - 1) < 0 || strncmp(link, "anon_inode:", strlen("anon_inode:")))
		return false;
	snprintf(vm, sizeof(vm), "%s-vm", system);
	snprintf(vcpu, sizeof(vcpu), "%s-vcpu:", system);
	snprintf(stats, sizeof(stats), "%s-vcpu-stats", system);
	has_vm = !strcmp(is, vm);
	if (!strncmp(is, vcpu, strlen(vcpu)))
		p->vcpus++;
	else if (!strncmp(is, stats, strlen(stats)) || (!strncmp(is, vm, strlen(vm)) && !has_vm)) {
		if (*pidfd < 0)
			*pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
		if (*pidfd >= 0)
			add_source(p, *pidfd, atoi(name));
	}
	return has_vm;
}

static void forget(struct process *p)
{
	unsigned int i;

	exits_close(p);
	for (i = 0; i < p->source_count; i++) {
		counters_free(&p->sources[i].before);
		close(p->sources[i].fd);
	}
	free(p->sources);
}

static void look_into(struct processes *all, pid_t pid, const char *system)
{
	struct process p = { .pid = pid };
	bool has_vm = false;
	struct dirent *e;
	char path[64];
	int pidfd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((e = readdir(dir)))
		has_vm |= look_at(&p, dirfd(dir), e->d_name, system, &pidfd);
	closedir(dir);
	if (pidfd >= 0)
		close(pidfd);
	if (!has_vm) {
		forget(&p);
		return;
	}
	read_command(&p);
	all->process = grow(all->process, all->count, sizeof(*all->process));
	all->process[all->count++] = p;
}

/**
 * processes_find() - look for those that have VMs, and read their stats fds.
 * @all: what to fill; processes_free() is to be called.
 * @system: whose VMs: lodge or kvm.
 *
 * Return: 0, or -1 where there is no /proc.
 */
int processes_find(struct processes *all, const char *system)
{
	struct dirent *e;
	DIR *dir = opendir("/proc");

	memset(all, 0, sizeof(*all));
	if (!dir)
		return -1;
	while ((e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]) && atoi(e->d_name) != getpid())
			look_into(all, atoi(e->d_name), system);
	closedir(dir);
	return 0;
}

/**
 * processes_free() - undo processes_find() and exits_open().
 * @all: the processes; none afterwards.
 */
void processes_free(struct processes *all)
{
	unsigned int i;

	for (i = 0; i < all->count; i++)
		forget(&all->process[i]);
	free(all->process);
	memset(all, 0, sizeof(*all));
}
