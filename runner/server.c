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
 * server. It removes the socket then, and its guests end with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
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

struct server {
	struct vm *vm;
	struct template template;
	int listen_fd, signal_fd;
	unsigned int max, alive;
	sigset_t before;	/* the mask that a guest's process wants */
};

/* A socket of that name, for its owner alone, or -1. */
static int bind_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, bound, error;
	mode_t mask;

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return say("the name of a socket has 1 to %zu characters, not %zu", sizeof(address.sun_path) - 1,
			   strlen(path));
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
	if (errno == EADDRINUSE)
		return say("there is something of the name %s already", path);
	return say_errno("cannot make the socket %s", path);
}

/**
 * server_probe() - will it be possible to make this socket?
 * @path: its name.
 *
 * The name appears when connections are taken, and so tells that the guest is ready.
 *
 * Return: 0, or -1 after telling why not.
 */
int server_probe(const char *path)
{
	int fd = bind_socket(path);

	if (fd < 0)
		return -1;
	close(fd);
	unlink(path);
	return 0;
}

/* Those that end a program, unless whoever started this one had them ignored. */
static int take_signals(struct server *s)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	struct sigaction action;
	sigset_t set;
	size_t i;

	signal(SIGCHLD, SIG_DFL);
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
static void be_guest(struct server *s, int connection, pid_t server)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It may have ended before it was asked for. */
	if (getppid() != server)
		_exit(END_SETUP);
	close(s->listen_fd);
	close(s->signal_fd);
	sigprocmask(SIG_SETMASK, &s->before, NULL);
	_exit(template_guest(s->vm, &s->template, connection));
}

static void accept_one(struct server *s)
{
	int connection = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	pid_t server = getpid(), pid;

	/* It may have gone before it was taken. */
	if (connection < 0)
		return;
	pid = fork();
	if (pid == 0)
		be_guest(s, connection, server);
	if (pid < 0)
		say_errno("cannot start a process for a guest");
	else
		s->alive++;
	close(connection);
}

static void reap(struct server *s)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		s->alive--;
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
	sigprocmask(SIG_SETMASK, &s.before, NULL);
	raise(sig);
	/* Only where the signal was blocked from the beginning. */
	_exit(128 + sig);
}
