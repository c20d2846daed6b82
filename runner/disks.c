// SPDX-License-Identifier: GPL-2.0
/*
 * All disks of a VM at once: opened, connected to it, started, stopped.
 *
 * Nothing here is called while a disk's thread runs, but for disks_stop().
 */
#include "runner.h"

/**
 * disks_open() - open the disks that the user named.
 * @vm: the VM.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1; disks_close() is to be called in both cases.
 */
int disks_open(struct vm *vm, const struct options *opt)
{
	unsigned int i;

	for (i = 0; i < opt->ndisks; i++) {
		vm->disks[i] = disk_open(vm, opt->disks[i], i);
		if (!vm->disks[i])
			return -1;
		vm->ndisks++;
		if (vm->template && disk_layer(vm->disks[i]) < 0)
			return -1;
	}
	return 0;
}

/**
 * disks_renew() - the disks of a guest that was made of a template.
 * @vm: the VM, which had them when this process was forked.
 *
 * Return: 0, or -1.
 */
int disks_renew(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ndisks; i++) {
		if (virtio_renew(disk_virtio(vm->disks[i])) < 0 || disk_layer(vm->disks[i]) < 0)
			return -1;
	}
	return disks_connect(vm);
}

/**
 * disks_connect() - connect the disks to the VM.
 * @vm: the VM, with its interrupt controllers.
 *
 * Return: 0, or -1.
 */
int disks_connect(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ndisks; i++) {
		if (virtio_connect(disk_virtio(vm->disks[i])) < 0)
			return -1;
	}
	return 0;
}

/**
 * disks_start() - start the disks' threads.
 * @vm: the VM.
 *
 * Return: 0, or -1; disks_stop() is to be called in both cases.
 */
int disks_start(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ndisks; i++) {
		if (virtio_start(disk_virtio(vm->disks[i])) < 0)
			return -1;
	}
	return 0;
}

/**
 * disks_stop() - stop the disks, each after the request that it serves.
 * @vm: the VM.
 */
void disks_stop(struct vm *vm)
{
	unsigned int i;

	vm->stopping = true;
	for (i = 0; i < vm->ndisks; i++)
		virtio_stop(disk_virtio(vm->disks[i]));
}

/**
 * disks_close() - undo disks_open(), however far it got.
 * @vm: the VM, its disks stopped.
 */
void disks_close(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ndisks; i++)
		disk_close(vm->disks[i]);
}
