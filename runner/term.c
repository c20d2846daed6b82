// SPDX-License-Identifier: GPL-2.0
/*
 * What the user types: to the guest, or to lodge-run itself. The terminal's mode is tty.c's.
 *
 * Ctrl-A x leaves, Ctrl-A s saves where that was asked for, Ctrl-A a sends Ctrl-A; the keys work
 * whatever the guest does, because the main thread reads the terminal even when the guest takes no
 * input. When standard input is not a terminal there are no such keys, nothing is lost, and its end
 * is not the guest's end.
 *
 * SIGUSR1 saves as well. It is blocked in every thread and read from a descriptor.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runner.h"

#define ESCAPE 1		/* Ctrl-A */

/**
 * term_save_signal() - let SIGUSR1 save the VM.
 *
 * Called before any thread is started: a thread has the signal mask of the one that started it.
 *
 * Return: the descriptor that becomes readable when the signal comes, or -1.
 */
int term_save_signal(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? say_errno("signalfd") : fd;
}

/**
 * term_escape() - take the escape sequences out of what the user typed.
 * @vm: the VM, which ends if the user wants to leave.
 * @data: what was typed; changed in place. Room for @len + 1 bytes.
 * @len: bytes.
 *
 * A Ctrl-A at the end waits for its second key in the next call.
 *
 * Return: how many bytes are left for the guest.
 */
size_t term_escape(struct vm *vm, uint8_t *data, size_t len)
{
	static bool pending;
	size_t in, out = 0;
	uint8_t typed[256];

	memcpy(typed, data, len);
	for (in = 0; in < len; in++) {
		uint8_t key = typed[in];

		if (!pending && key == ESCAPE) {
			pending = true;
			continue;
		}
		if (pending && key == 'x') {
			vm_end(vm, END_ESCAPE);
			return 0;
		}
		if (pending && key == 's' && vm->save_fd >= 0) {
			vm_end(vm, END_SAVE);
			pending = false;
			continue;
		}
		/* Any other key means both; Ctrl-A a and Ctrl-A Ctrl-A mean one Ctrl-A. */
		if (pending)
			data[out++] = ESCAPE;
		if (!pending || (key != 'a' && key != ESCAPE))
			data[out++] = key;
		pending = false;
	}
	return out;
}

/* Pass on what there is to read. Return false at the end of the input. */
static bool forward(struct vm *vm, bool terminal, unsigned int room)
{
	uint8_t data[256 + 1];
	size_t want = sizeof(data) - 1;
	ssize_t len;

	if (!terminal && room < want)
		want = room;
	len = read(STDIN_FILENO, data, want);
	if (len < 0)
		return errno == EINTR || errno == EAGAIN;
	if (len == 0)
		return false;
	if (terminal)
		len = term_escape(vm, data, len);
	serial_input(&vm->serial, data, len);
	return true;
}

/**
 * term_loop() - feed standard input to the guest until the VM ends.
 * @vm: the VM; other threads run it.
 *
 * Return: why it ended.
 */
enum end term_loop(struct vm *vm)
{
	bool terminal = isatty(STDIN_FILENO), open = true;
	struct signalfd_siginfo signal;
	uint64_t count;

	while (vm->end == END_NONE) {
		unsigned int room = serial_room(&vm->serial);
		struct pollfd fds[] = {
			{ .fd = vm->end_fd, .events = POLLIN },
			{ .fd = vm->serial.room_fd, .events = POLLIN },
			{ .fd = open && (terminal || room) ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = vm->save_fd, .events = POLLIN },
		};

		if (poll(fds, 4, -1) < 0)
			continue;
		/* Only the wake-up counts, not how often it was asked for. */
		if (fds[1].revents && read(vm->serial.room_fd, &count, sizeof(count)) < 0)
			continue;
		if (fds[2].revents)
			open = forward(vm, terminal, room);
		if (fds[3].revents && read(vm->save_fd, &signal, sizeof(signal)) > 0)
			vm_end(vm, END_SAVE);
	}
	return vm->end;
}
