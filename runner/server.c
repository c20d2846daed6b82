// SPDX-License-Identifier: GPL-2.0
/*
 * The fork server of --template: a socket, and for each connection to it a process with a guest of its own (born.c).
 *
 * The server has one thread and no VM: only the template, the memfd that it is made of, and
 * descriptors. So fork(2) copies little, and what the child finds is at rest. No more than the user
 * allows are alive at once; who connects then waits in the socket's queue, as it was made by
 * listen(2).
 *
 * Signals are read from a descriptor: that a child ended, and those by which the user ends the
 * server. It removes the socket then, and ends its guests; where a signal gives it no time for that, they
 * end with it. What each may take of the host's memory is limited by a cgroup, if the user says
 * so (cgroup.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

#define DEFAULT_MAX 64

struct guest {
	pid_t pid;
	uint64_t cgroup;	/* 0: it has none */
};

struct server {
	struct vm *vm;
	struct template template;
	int listen_fd, signal_fd;
	unsigned int max, alive;
	struct guest *guests;	/* those alive come first */
	sigset_t before;	/* the mask that a guest's process wants */
};

static int taken(const char *path)
{
	return say("there is something of the name %s already", path);
}

/* A socket of that name, for its owner alone, or -1. */
static int bind_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, bound, error;
	mode_t mask;

	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return say_errno("cannot make a socket");
	mask = umask(0177);
	bound = bind(fd, (struct sockaddr *)&address, sizeof(address));
	error = errno;
	umask(mask);
	if (bound == 0)
		return fd;
	close(fd);
	errno = error;
	return errno == EADDRINUSE ? taken(path) : say_errno("cannot make the socket %s", path);
}

/* Can it be made? It is not tried, for the name says that the guest is ready. */
static int probe_socket(const char *path)
{
	const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, slash - path + 1) : strdup(".");
	struct stat st;
	int ret = -1;

	if (!folder)
		return say("out of memory");
	if (!*path || strlen(path) > max)
		say("the name of a socket has 1 to %zu characters, not %zu", max, strlen(path));
	else if (lstat(path, &st) == 0)
		taken(path);
	else if (errno != ENOENT || access(folder, W_OK | X_OK) < 0)
		say_errno("cannot make the socket %s", path);
	else
		ret = 0;
	free(folder);
	return ret;
}

/**
 * server_probe() - will it be possible to make the socket, and to limit the guests?
 * @vm: the VM, which is a template some day.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1 after telling why not.
 */
int server_probe(struct vm *vm, const struct options *opt)
{
	if (probe_socket(opt->template) < 0)
		return -1;
	/* Processes are waited for here, whatever whoever started this one thinks of its own. */
	signal(SIGCHLD, SIG_DFL);
	return opt->template_memory ? cgroup_init(&vm->cgroup, opt) : 0;
}

/* Those that end a program, unless whoever started this one had them ignored. */
static int take_signals(struct server *s)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	struct sigaction action;
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (sigaction(ends[i], NULL, &action) < 0 || action.sa_handler == SIG_IGN)
			continue;
		signal(ends[i], SIG_DFL);
		sigaddset(&set, ends[i]);
	}
	sigprocmask(SIG_BLOCK, &set, &s->before);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? say_errno("signalfd") : 0;
}

/* The process of one guest; does not return. */
static void be_guest(struct server *s, int connection, pid_t server, uint64_t cgroup)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have ended before it was asked for. */
	if (getppid() != server || (cgroup && cgroup_join(&s->vm->cgroup, cgroup) < 0))
		_exit(END_SETUP);
	if (cgroup)
		close(s->vm->cgroup.dir);
	close(s->listen_fd);
	close(s->signal_fd);
	sigprocmask(SIG_SETMASK, &s->before, NULL);
	_exit(template_guest(s->vm, &s->template, connection));
}

static void start_guest(struct server *s, int connection)
{
	struct cgroup *g = &s->vm->cgroup;
	pid_t server = getpid(), pid;
	uint64_t cgroup = 0;

	if (g->limit) {
		cgroup = cgroup_new(g);
		if (!cgroup)
			return;
	}
	pid = fork();
	if (pid == 0)
		be_guest(s, connection, server, cgroup);
	if (pid > 0) {
		s->guests[s->alive++] = (struct guest){ pid, cgroup };
		return;
	}
	say_errno("cannot start a process for a guest");
	if (cgroup)
		cgroup_remove(g, cgroup);
}

static void accept_one(struct server *s)
{
	int connection = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	/* It may have gone before it was taken. */
	if (connection < 0)
		return;
	start_guest(s, connection);
	close(connection);
}

/* A guest's process has been waited for. */
static void forget(struct server *s, pid_t pid)
{
	const struct cgroup *g = &s->vm->cgroup;
	unsigned int i = 0;

	while (i < s->alive && s->guests[i].pid != pid)
		i++;
	/* A child of whatever this process was before execve(2) is no guest. */
	if (i == s->alive)
		return;
	if (g->limit) {
		if (cgroup_killed(g, s->guests[i].cgroup))
			say("a guest needed more than %llu MiB and was ended", (unsigned long long)(g->limit / MIB));
		cgroup_remove(g, s->guests[i].cgroup);
	}
	s->guests[i] = s->guests[--s->alive];
}

static void reap(struct server *s)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		forget(s, pid);
}

static void end_guests(struct server *s)
{
	pid_t pid;

	while (s->alive) {
		pid = s->guests[0].pid;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		forget(s, pid);
	}
}

/* Return the signal that ends the server. */
static int serve(struct server *s)
{
	struct signalfd_siginfo info;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->alive < s->max ? s->listen_fd : -1, .events = POLLIN },
		};

		if (poll(fds, 2, -1) < 0)
			continue;
		while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo != SIGCHLD)
				return info.ssi_signo;
		}
		reap(s);
		if (fds[1].revents)
			accept_one(s);
	}
}

/**
 * server_run() - make a template of the VM, and guests of it, until a signal ends this process.
 * @vm: the VM; its threads have ended, and nothing is under way.
 * @opt: what the user asked for.
 *
 * Return: -1 if it could not begin; otherwise it does not return.
 */
int server_run(struct vm *vm, const struct options *opt)
{
	struct server s = { .vm = vm, .max = opt->template_max ? opt->template_max : DEFAULT_MAX };
	int sig;

	tty_restore();
	s.guests = calloc(s.max, sizeof(*s.guests));
	if (!s.guests)
		return say("out of memory");
	if (template_make(vm, &s.template) < 0 || take_signals(&s) < 0)
		return -1;
	s.listen_fd = bind_socket(opt->template);
	if (s.listen_fd < 0)
		return -1;
	if (listen(s.listen_fd, SOMAXCONN) < 0) {
		say_errno("cannot listen on %s", opt->template);
		unlink(opt->template);
		return -1;
	}
	sig = serve(&s);
	unlink(opt->template);
	end_guests(&s);
	sigprocmask(SIG_SETMASK, &s.before, NULL);
	raise(sig);
	/* Only where the signal was blocked from the beginning. */
	_exit(128 + sig);
}
