// SPDX-License-Identifier: GPL-2.0
/*
 * The user's terminal: raw while the guest runs, as it was in every other case.
 *
 * The guest's own terminal driver edits lines and turns Ctrl-C into a signal, so this one must do
 * neither. The way back is taken on each way out: at exit, before any message (say.c), and in a
 * handler for each signal that would end the process, which then dies of that signal as it would
 * have. A handler may call tcsetattr(). Stopping by job control restores the terminal for the time.
 *
 * Nothing here calls anything else of lodge-run.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "runner.h"

static struct termios saved, raw;
static volatile sig_atomic_t is_raw;

/**
 * tty_restore() - give the user's terminal back as it was.
 *
 * Called from any thread, and from signal handlers.
 */
void tty_restore(void)
{
	if (!is_raw)
		return;
	is_raw = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* The handler of each runs once: raised again, the signal does what it does by default. */
static void fatal_signal(int sig)
{
	int error = errno;

	tty_restore();
	raise(sig);
	errno = error;
}

static void stop_signal(int sig)
{
	(void)sig;
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	raise(SIGSTOP);
}

static void continue_signal(int sig)
{
	(void)sig;
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

static void catch(int sig, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
	struct sigaction old;

	/* What was to be ignored (nohup) stays so. */
	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		sigaction(sig, &action, NULL);
}

static void catch_signals(void)
{
	static const int fatal[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGUSR1,
		SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGPOLL, SIGSYS,
	};
	size_t i;

	for (i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		catch(fatal[i], fatal_signal, SA_RESETHAND);
	catch(SIGTSTP, stop_signal, SA_RESTART);
	catch(SIGCONT, continue_signal, SA_RESTART);
}

/**
 * tty_raw() - make standard input raw if it is a terminal, and see to its restoration.
 *
 * Return: 0, or -1 with errno: what is said here is said with the terminal restored (say.c).
 */
int tty_raw(void)
{
	if (is_raw || !isatty(STDIN_FILENO))
		return 0;
	if (tcgetattr(STDIN_FILENO, &saved) < 0)
		return -1;
	raw = saved;
	cfmakeraw(&raw);
	atexit(tty_restore);
	catch_signals();
	is_raw = 1;
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}
