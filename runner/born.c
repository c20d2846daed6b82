// SPDX-License-Identifier: GPL-2.0
/*
 * A template, and the guests that are made of it: each in a process that was forked from the one
 * with the template, where nothing else runs.
 *
 * What lodge-run itself keeps of the machine (the queues of disks, the serial ports, what is in
 * their buffers) is in this process's memory, which fork(2) copies. What the hypervisor keeps is in
 * the template. The guest's memory is a memfd that nobody writes to any more, mapped privately at
 * the address where it was, so that pointers into it hold. Eventfds would be shared by all, so each
 * process has new ones.
 *
 * For the guest the time since the template was made has passed: its TSC and its kvmclock are set
 * forward, and it is told that it was stopped. It finds a new generation ID (acpi.c), so that its
 * random numbers become its own.
 *
 * The second serial port is the connection, whose end is the guest's. The first one's output goes
 * to standard output, as the template's did; it has no input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/lodge.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runner.h"

/**
 * template_make() - make a template of a VM; the VM itself is no more then.
 * @vm: the VM; its threads have ended, and nothing is under way.
 * @t: the template.
 *
 * Return: 0, or -1.
 */
int template_make(struct vm *vm, struct template *t)
{
	if (ioctl(vm->fd, KVM_GET_CLOCK, &t->clock) < 0)
		return say_errno("KVM_GET_CLOCK");
	if (!(t->clock.flags & KVM_CLOCK_REALTIME))
		return say("the hypervisor does not say when it read the clock");
	t->fd = ioctl(vm->fd, LODGE_TEMPLATE, 0);
	if (t->fd < 0)
		return say_errno("cannot make the template");
	vcpus_destroy(vm);
	vm_close(vm);
	return vm_freeze_ram(vm);
}

/* The slots are those of vm.c: all of low memory, and the rest if there is more. */
static int make_vm(struct vm *vm, const struct template *t)
{
	uint64_t low = vm_low_ram(vm);
	uint64_t addresses[] = { (uintptr_t)vm->ram, (uintptr_t)vm->ram + low };
	int fds[MAX_CPUS];
	struct lodge_vm_from_template from = {
		.fd = t->fd, .nslots = vm->ram_size > low ? 2 : 1, .nvcpus = vm->ncpus,
		.addresses = (uintptr_t)addresses, .vcpus = (uintptr_t)fds,
	};

	vm->fd = ioctl(vm->dev_fd, LODGE_VM_FROM_TEMPLATE, &from);
	if (vm->fd < 0)
		return say_errno("cannot make a guest of the template");
	return vcpus_adopt(vm, fds);
}

static int go_on(struct vm *vm, const struct template *t, uint64_t elapsed)
{
	struct kvm_clock_data clock = {
		.clock = t->clock.clock, .realtime = t->clock.realtime, .flags = KVM_CLOCK_REALTIME,
	};
	unsigned int i;

	for (i = 0; i < vm->ncpus; i++) {
		if (vcpu_go_on(&vm->vcpus[i], elapsed) < 0)
			return -1;
	}
	return ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0 ? say_errno("KVM_SET_CLOCK") : 0;
}

static int make_guest(struct vm *vm, const struct template *t, int connection)
{
	uint64_t elapsed;

	vm->end = END_NONE;
	vm->stopping = false;
	if (vm_renew_event(&vm->end_fd) < 0 || serial_renew(&vm->serial, STDOUT_FILENO) < 0 ||
	    serial_renew(&vm->second, connection) < 0 || vm_private_ram(vm) < 0)
		return -1;
	/* Its TSC goes on from the moment in which it is made. */
	elapsed = state_elapsed(t->clock.realtime);
	if (make_vm(vm, t) < 0 || go_on(vm, t, elapsed) < 0 || disks_renew(vm) < 0)
		return -1;
	return acpi_new_generation(vm);
}

/* Pass on what there is to read. The end of it is the guest's end. */
static void forward(struct vm *vm, int connection, unsigned int room)
{
	uint8_t data[256];
	ssize_t len = read(connection, data, room < sizeof(data) ? room : sizeof(data));

	if (len > 0)
		serial_input(&vm->second, data, len);
	else if (len == 0 || (errno != EINTR && errno != EAGAIN))
		vm_end(vm, END_OFF);
}

static enum end serve(struct vm *vm, int connection)
{
	uint64_t count;

	while (vm->end == END_NONE) {
		unsigned int room = serial_room(&vm->second);
		struct pollfd fds[] = {
			{ .fd = vm->end_fd, .events = POLLIN },
			{ .fd = vm->second.room_fd, .events = POLLIN },
			{ .fd = connection, .events = (room ? POLLIN : 0) | POLLRDHUP },
		};

		if (poll(fds, 3, -1) < 0)
			continue;
		/* Only the wake-up counts, not how often it was asked for. */
		if (fds[1].revents && read(vm->second.room_fd, &count, sizeof(count)) < 0)
			continue;
		if (fds[2].revents & POLLIN)
			forward(vm, connection, room);
		else if (fds[2].revents)
			vm_end(vm, END_OFF);
	}
	return vm->end;
}

/**
 * template_guest() - be one guest of a template, to its end.
 * @vm: the VM as template_make() left it, in a process that was forked for this.
 * @t: the template.
 * @connection: a socket.
 *
 * Return: how the guest ended.
 */
enum end template_guest(struct vm *vm, const struct template *t, int connection)
{
	enum end end = END_SETUP;

	/* A connection that is closed while the guest writes is its end, not this process's. */
	signal(SIGPIPE, SIG_IGN);
	if (make_guest(vm, t, connection) < 0)
		return end;
	serial_go_on(&vm->serial);
	serial_go_on(&vm->second);
	if (disks_start(vm) == 0 && vcpus_start(vm) == 0)
		end = serve(vm, connection);
	vcpus_stop(vm);
	disks_stop(vm);
	return end;
}
