// SPDX-License-Identifier: GPL-2.0
/*
 * Saving a VM and going on from what was saved.
 *
 * A VM is saved while nothing of it runs: the vCPUs are out of KVM_RUN with their last exits
 * completed, the disks' threads have ended after their last request. Nothing on its way is lost:
 * requests that wait are in guest memory, and after a restore each disk's thread looks there
 * first; an interrupt of a disk that the hypervisor had not taken yet is seen by the device's
 * status, and raised again.
 *
 * Time goes on for the guest while it is saved: its clocks are set forward by what has passed by
 * this host's time of day, so the guest's date is right afterwards, and all its clocks look as if it
 * had not been scheduled for so long. It is told so (KVM_KVMCLOCK_CTRL), for its watchdogs. Timers
 * that count down go on where they were, those that wait for a point in time fire if it has passed.
 *
 * A VM goes on with the machine that it had: memory, processors and disks of the same size are
 * wanted, and a processor that has all its features. The contents of disks are not saved.
 *
 * All is asked for by KVM's own ioctls, for that is what there is on /dev/kvm. Lodge has the same in one call, LODGE_GET_STATE,
 * whose records are read and set by the functions behind these ioctls; but it would replace nothing here, and a file
 * made by it could not be read with KVM.
 *
 * The interrupt controllers are set after the processors, to which they may deliver at once, and the
 * timer last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runner.h"

#define CHIPS 3

static int save_clock(struct vm *vm, struct state *st)
{
	struct kvm_clock_data clock;
	struct clock_state c = { .realtime = state_realtime() };

	if (ioctl(vm->fd, KVM_GET_CLOCK, &clock) < 0)
		return say_errno("KVM_GET_CLOCK");
	c.ns = clock.clock;
	return state_put(st, STATE_CLOCK, 0, &c, sizeof(c));
}

static int restore_clock(struct vm *vm, const struct state *st)
{
	const struct clock_state *c = state_get(st, STATE_CLOCK, 0, NULL);
	struct kvm_clock_data clock = { 0 };

	if (!c)
		return -1;
	clock.clock = c->ns + state_elapsed(c->realtime);
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
		return say_errno("KVM_SET_CLOCK");
	return 0;
}

static int save_chips(struct vm *vm, struct state *st)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;
	uint32_t i;

	for (i = 0; i < CHIPS; i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = i;
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0)
			return say_errno("KVM_GET_IRQCHIP");
		if (state_put(st, STATE_IRQCHIP, i, &chip, sizeof(chip)) < 0)
			return -1;
	}
	if (ioctl(vm->fd, KVM_GET_PIT2, &pit) < 0)
		return say_errno("KVM_GET_PIT2");
	return state_put(st, STATE_PIT, 0, &pit, sizeof(pit));
}

static int restore_chips(struct vm *vm, const struct state *st)
{
	const struct kvm_irqchip *chip;
	const struct kvm_pit_state2 *pit;
	uint32_t i;

	for (i = 0; i < CHIPS; i++) {
		chip = state_get(st, STATE_IRQCHIP, i, NULL);
		if (!chip)
			return -1;
		if (chip->chip_id != i || ioctl(vm->fd, KVM_SET_IRQCHIP, chip) < 0)
			return say("the hypervisor refuses the state of an interrupt controller");
	}
	pit = state_get(st, STATE_PIT, 0, NULL);
	if (!pit)
		return -1;
	if (ioctl(vm->fd, KVM_SET_PIT2, pit) < 0)
		return say_errno("the hypervisor refuses the state of the interval timer");
	return 0;
}

static int save_devices(struct vm *vm, struct state *st)
{
	const struct ports_state ports = {
		.rtc_index = vm->rtc_index, .pm1_enable = vm->pm1_enable,
		.pm1_control = vm->pm1_control,
	};
	struct serial_state serial;
	struct virtio_state disk;
	unsigned int i;

	serial_save(&vm->serial, &serial);
	if (state_put(st, STATE_SERIAL, 0, &serial, sizeof(serial)) < 0 ||
	    state_put(st, STATE_PORTS, 0, &ports, sizeof(ports)) < 0)
		return -1;
	for (i = 0; i < vm->ndisks; i++) {
		virtio_save(disk_virtio(vm->disks[i]), &disk);
		disk.sectors = disk_sectors(vm->disks[i]);
		if (state_put(st, STATE_DISK, i, &disk, sizeof(disk)) < 0)
			return -1;
	}
	return 0;
}

static int restore_devices(struct vm *vm, const struct state *st)
{
	const struct ports_state *ports = state_get(st, STATE_PORTS, 0, NULL);
	const struct serial_state *serial = state_get(st, STATE_SERIAL, 0, NULL);
	const struct virtio_state *disk;
	unsigned int i;

	if (!ports || !serial)
		return -1;
	vm->rtc_index = ports->rtc_index & 0x7f;
	vm->pm1_enable = ports->pm1_enable;
	vm->pm1_control = ports->pm1_control;
	if (serial_restore(&vm->serial, serial) < 0)
		return -1;
	for (i = 0; i < vm->ndisks; i++) {
		disk = state_get(st, STATE_DISK, i, NULL);
		if (!disk)
			return -1;
		if (disk->sectors != disk_sectors(vm->disks[i]))
			return say("disk %u had %llu sectors, not %llu", i,
				   (unsigned long long)disk->sectors,
				   (unsigned long long)disk_sectors(vm->disks[i]));
		if (virtio_restore(disk_virtio(vm->disks[i]), disk) < 0)
			return -1;
	}
	return 0;
}

/**
 * save_probe() - will it be possible to save to this file?
 * @path: the file.
 *
 * Return: 0, or -1 after telling why not.
 */
int save_probe(const char *path)
{
	char part[PATH_MAX];
	int fd;

	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return say("the name %s is too long", path);
	fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return say_errno("cannot write %s", part);
	close(fd);
	unlink(part);
	return 0;
}

/**
 * save_vm() - save a VM to a file.
 * @vm: the VM; its threads have ended.
 * @path: the file.
 *
 * Return: 0, or -1; the VM can run on in both cases.
 */
int save_vm(struct vm *vm, const char *path)
{
	const struct machine_state machine = {
		.mem = vm->ram_size, .cpus = vm->ncpus, .disks = vm->ndisks,
	};
	struct state *st = state_new();
	unsigned int i;
	int ret = -1;

	if (!st)
		return -1;
	if (state_put(st, STATE_MACHINE, 0, &machine, sizeof(machine)) < 0)
		goto out;
	for (i = 0; i < vm->ncpus; i++) {
		if (vcpu_save(&vm->vcpus[i], st) < 0)
			goto out;
	}
	if (save_clock(vm, st) == 0 && save_chips(vm, st) == 0 && save_devices(vm, st) == 0)
		ret = state_write(st, vm, path);
out:
	state_free(st);
	return ret;
}

/**
 * restore_options() - compare the saved machine with the options, or fill them in.
 * @st: the state, as state_open() left it.
 * @opt: what the user asked for; memory and processors as before if that was not said.
 *
 * Return: 0, or -1 after telling what differs.
 */
int restore_options(const struct state *st, struct options *opt)
{
	const struct machine_state *m = state_get(st, STATE_MACHINE, 0, NULL);

	if (!m)
		return -1;
	if (m->mem % 4096 || m->mem < MIB || m->mem > MAX_MEM || !m->cpus || m->cpus > MAX_CPUS)
		return say("the saved machine is one that cannot be");
	if (opt->mem && opt->mem != m->mem)
		return say("the saved machine has %llu KiB of memory, not %llu",
			   (unsigned long long)(m->mem / KIB), (unsigned long long)(opt->mem / KIB));
	if (opt->cpus && opt->cpus != m->cpus)
		return say("the saved machine has %u processors, not %u", m->cpus, opt->cpus);
	if (opt->ndisks != m->disks)
		return say("the saved machine has %u disks, not %u", m->disks, opt->ndisks);
	opt->mem = m->mem;
	opt->cpus = m->cpus;
	return 0;
}

/**
 * restore_vm() - set a VM to its saved state; it can run then.
 * @vm: the VM, its vCPUs and devices created and its memory read.
 * @st: the state.
 *
 * Return: 0, or -1.
 */
int restore_vm(struct vm *vm, struct state *st)
{
	unsigned int i;

	if (restore_devices(vm, st) < 0 || restore_clock(vm, st) < 0)
		return -1;
	for (i = 0; i < vm->ncpus; i++) {
		if (vcpu_restore(&vm->vcpus[i], st) < 0)
			return -1;
	}
	return restore_chips(vm, st);
}
