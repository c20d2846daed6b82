// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual machine itself: the device, the VM, its memory, its interrupt controllers, its end.
 *
 * Guest RAM is one private anonymous mapping; with --template a memfd's, shared until the template
 * is made, and private in each guest of it, at the same address: pointers into it stay what they
 * are. It starts on a 2 MiB border in this process as in the guest, so that the hypervisor can map
 * huge pages of the host as huge pages of the guest. Every access of this program to guest memory
 * by a guest's address goes through vm_ram(), which is the only place that turns one into the
 * other.
 *
 * The interrupt controllers and the timer are those in the kernel, with their default routing:
 * GSI 0-15 reach the PIC and the IOAPIC, 16-23 the IOAPIC alone.
 *
 * Any thread may end the VM: vm_end() records the first reason and wakes the main thread, which
 * waits in term_loop() and then stops the others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/lodge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"

#define HUGE (2 * MIB)
#define SLOT_REGISTERS 2	/* 0 and 1 are RAM */

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
};

/* The name of a group; by the file alone, as a program without a C library beside it can look nowhere else. */
static bool group_name(gid_t gid, char *name, size_t size)
{
	char line[4096], *end;
	FILE *f = fopen("/etc/group", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		end = strchr(line, ':');
		if (!end || end[1] == '\0' || !strchr(end + 1, ':'))
			continue;
		if (strtoul(strchr(end + 1, ':') + 1, NULL, 10) != gid)
			continue;
		*end = '\0';
		snprintf(name, size, "%.60s", line);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static int no_permission(const char *path)
{
	struct stat st;
	char group[64];

	if (stat(path, &st) < 0 || (st.st_mode & 0060) != 0060 || !group_name(st.st_gid, group, sizeof(group)))
		return say("no permission to open %s", path);
	return say("no permission to open %s, which is for the group %s: as root, 'adduser %s %s', then log in again",
		   path, group, getenv("USER") ? getenv("USER") : "NAME", group);
}

static int open_device(struct vm *vm, const char *path)
{
	int version;

	vm->dev_fd = open(path, O_RDWR | O_CLOEXEC);
	if (vm->dev_fd < 0) {
		if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
			return say("there is no device %s: is the module loaded?", path);
		if (errno == EACCES || errno == EPERM)
			return no_permission(path);
		return say_errno("cannot open %s", path);
	}
	version = ioctl(vm->dev_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return say("%s is not a KVM device", path);
	if (version != KVM_API_VERSION)
		return say("%s speaks version %d of the KVM interface, not %d", path, version,
			   KVM_API_VERSION);
	return 0;
}

static int create_vm(struct vm *vm, const char *path)
{
	size_t i;

	do {
		vm->fd = ioctl(vm->dev_fd, KVM_CREATE_VM, 0);
	} while (vm->fd < 0 && errno == EINTR);
	if (vm->fd < 0 && errno == EBUSY)
		return say("%s cannot create a VM: another hypervisor holds the processor", path);
	if (vm->fd < 0)
		return say_errno("%s cannot create a VM", path);
	for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (vm_extension(vm, needed[i].cap) <= 0)
			return say("%s lacks %s", path, needed[i].name);
	}
	return 0;
}

static int add_slot(struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)vm->ram + offset,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return say_errno("cannot give the guest its memory");
	return 0;
}

static int create_irqchip(struct vm *vm)
{
	uint64_t identity = GPA_IDENTITY_MAP;
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, GPA_TSS) < 0)
		return say_errno("KVM_SET_TSS_ADDR");
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return say_errno("KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return say_errno("cannot create the interrupt controllers");
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return say_errno("cannot create the interval timer");
	return 0;
}

/* Port I/O of a string in one exit, where there is that: port_exit() takes any number of elements. */
static void ask_batches(struct vm *vm)
{
	struct kvm_enable_cap cap = { .cap = LODGE_CAP_BATCH_OUTS, .args = { 1 } };

	if (vm_extension(vm, LODGE_CAP_BATCH_OUTS) > 0)
		ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static int no_ram(uint64_t size)
{
	return say_errno("cannot allocate %llu MiB for the guest", (unsigned long long)(size / MIB));
}

/* Map the memfd where the RAM is to be. */
static int map_ram(struct vm *vm, int flags)
{
	if (mmap(vm->ram, vm->ram_size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, vm->ram_fd, 0) == MAP_FAILED)
		return no_ram(vm->ram_size);
	return 0;
}

static int share_ram(struct vm *vm)
{
	vm->ram_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (vm->ram_fd < 0 || ftruncate(vm->ram_fd, vm->ram_size) < 0)
		return no_ram(vm->ram_size);
	return map_ram(vm, MAP_SHARED);
}

static int alloc_ram(struct vm *vm, uint64_t size)
{
	uintptr_t start;

	vm->ram_map_size = size + HUGE;
	if (vm->ram_map_size < size)
		return say("the guest's memory is too large");
	vm->ram_map = mmap(NULL, vm->ram_map_size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->ram_map == MAP_FAILED) {
		vm->ram_map = NULL;
		return no_ram(size);
	}
	start = ((uintptr_t)vm->ram_map + HUGE - 1) & ~(HUGE - 1);
	vm->ram = (uint8_t *)start;
	vm->ram_size = size;
	if (vm->template && share_ram(vm) < 0)
		return -1;
	/* Only a hint: a kernel without huge pages refuses it. */
	madvise(vm->ram, size, MADV_HUGEPAGE);
	return 0;
}

/**
 * vm_init() - a VM that no hypervisor knows of yet: its memory, and the number of its processors.
 * @vm: what to fill; all zero.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1; vm_destroy() is to be called in both cases.
 */
int vm_init(struct vm *vm, const struct options *opt)
{
	vm->dev_fd = -1;
	vm->fd = -1;
	vm->serial.room_fd = -1;
	vm->second.room_fd = -1;
	vm->save_fd = -1;
	vm->ram_fd = -1;
	vm->template = opt->template != NULL;
	vm->end = END_NONE;
	vm->ncpus = opt->cpus;
	vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->end_fd < 0)
		return say_errno("cannot create an eventfd");
	return alloc_ram(vm, opt->mem);
}

/**
 * vm_create() - open the device, create the VM, give it its memory and interrupt controllers.
 * @vm: the VM.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1.
 */
int vm_create(struct vm *vm, const struct options *opt)
{
	uint64_t low = vm_low_ram(vm);
	int max;

	if (open_device(vm, opt->device) < 0 || create_vm(vm, opt->device) < 0)
		return -1;
	if (vm->template && vm_extension(vm, LODGE_CAP_TEMPLATE) <= 0)
		return say("%s lacks LODGE_CAP_TEMPLATE, which --template is made with", opt->device);
	max = vm_extension(vm, KVM_CAP_MAX_VCPUS);
	if (max > 0 && vm->ncpus > (unsigned int)max)
		return say("%s has at most %d processors for a guest", opt->device, max);
	if (add_slot(vm, 0, 0, 0, low) < 0)
		return -1;
	if (vm->ram_size > low && add_slot(vm, 1, GPA_HIGH, low, vm->ram_size - low) < 0)
		return -1;
	ask_batches(vm);
	return create_irqchip(vm);
}

/**
 * vm_add_registers() - a page of registers that the guest reads as memory; its writes are exits.
 * @vm: the VM.
 * @gpa: where, in the hole.
 * @page: the page. Only one is added.
 *
 * Return: 0, or -1.
 */
int vm_add_registers(struct vm *vm, uint64_t gpa, void *page)
{
	struct kvm_userspace_memory_region region = {
		.slot = SLOT_REGISTERS, .flags = KVM_MEM_READONLY, .guest_phys_addr = gpa, .memory_size = 4096,
		.userspace_addr = (uintptr_t)page,
	};

	if (vm_extension(vm, KVM_CAP_READONLY_MEM) <= 0)
		return say("the hypervisor lacks KVM_CAP_READONLY_MEM, which --net is made with");
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return say_errno("cannot give the guest the registers of its network");
	return 0;
}

/**
 * vm_freeze_ram() - give the memory up that guests are to be made of; nobody can write to it from now on.
 * @vm: the VM, which the hypervisor has no more.
 *
 * Its addresses stay reserved. Where each guest's memory is limited, what nobody has written to yet is
 * allocated here: otherwise a page of the memfd would be charged to the first guest that touches it, beside
 * its own copy, and stay when that guest has ended.
 *
 * Return: 0, or -1.
 */
int vm_freeze_ram(struct vm *vm)
{
	if (vm->cgroup.limit && fallocate(vm->ram_fd, 0, 0, vm->ram_size) < 0)
		return no_ram(vm->ram_size);
	if (mmap(vm->ram, vm->ram_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		return no_ram(vm->ram_size);
	if (fcntl(vm->ram_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return say_errno("cannot seal the guest's memory");
	return 0;
}

/**
 * vm_private_ram() - the same memory in another process: what is written there is its own.
 * @vm: the VM.
 *
 * Return: 0, or -1.
 */
int vm_private_ram(struct vm *vm)
{
	if (map_ram(vm, MAP_PRIVATE | MAP_NORESERVE) < 0)
		return -1;
	close(vm->ram_fd);
	vm->ram_fd = -1;
	return 0;
}

/**
 * vm_renew_event() - an eventfd in place of one that another process has as well.
 * @fd: the eventfd.
 *
 * Return: 0, or -1.
 */
int vm_renew_event(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? say_errno("cannot create an eventfd") : 0;
}

/**
 * vm_close() - the VM itself, without what this program has of it.
 * @vm: the VM; its vCPUs are gone.
 */
void vm_close(struct vm *vm)
{
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
}

/**
 * vm_destroy() - give everything back that vm_init() took, however far it got.
 * @vm: the VM; its vCPUs and devices are gone.
 */
void vm_destroy(struct vm *vm)
{
	vm_close(vm);
	if (vm->ram_fd >= 0)
		close(vm->ram_fd);
	if (vm->dev_fd >= 0)
		close(vm->dev_fd);
	if (vm->end_fd >= 0)
		close(vm->end_fd);
	if (vm->save_fd >= 0)
		close(vm->save_fd);
	if (vm->ram_map)
		munmap(vm->ram_map, vm->ram_map_size);
	free(vm->cpuid);
}

/**
 * vm_extension() - ask about a capability.
 * @vm: the VM.
 * @cap: KVM_CAP_*.
 *
 * Return: its value, 0 if there is none.
 */
int vm_extension(const struct vm *vm, int cap)
{
	int value = ioctl(vm->fd, KVM_CHECK_EXTENSION, cap);

	/* The VM has an opinion of its own only where it says so. */
	if (value < 0)
		value = ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, cap);
	return value < 0 ? 0 : value;
}

/**
 * vm_low_ram() - how much of the memory lies below the hole.
 * @vm: the VM.
 *
 * Return: bytes.
 */
uint64_t vm_low_ram(const struct vm *vm)
{
	return vm->ram_size < GPA_HOLE ? vm->ram_size : GPA_HOLE;
}

/**
 * vm_ram() - where a piece of guest memory lies in this process.
 * @vm: the VM.
 * @gpa: guest physical address; any value, also from a hostile guest.
 * @len: bytes.
 *
 * Return: a pointer to @len bytes, or NULL unless all of them are RAM.
 */
void *vm_ram(const struct vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t low = vm_low_ram(vm), high = vm->ram_size - low;

	if (gpa < low && len <= low - gpa)
		return vm->ram + gpa;
	if (gpa >= GPA_HIGH && gpa - GPA_HIGH < high && len <= high - (gpa - GPA_HIGH))
		return vm->ram + low + (gpa - GPA_HIGH);
	return NULL;
}

/* A VM that is about to be saved, or to become a template, can still end. */
static bool passing(int end)
{
	return end == END_SAVE || end == END_READY;
}

/**
 * vm_end() - end the run; the first reason given counts.
 * @vm: the VM.
 * @end: why. A guest that ends while it is about to be saved or copied has ended.
 *
 * Called from any thread.
 *
 * Return: true if this was the first reason.
 */
bool vm_end(struct vm *vm, enum end end)
{
	int now = END_NONE;

	while (!atomic_compare_exchange_weak(&vm->end, &now, end)) {
		if (now != END_NONE && (!passing(now) || passing(end)))
			return false;
	}
	vm->stopping = true;
	event_signal(vm->end_fd);
	return true;
}

/**
 * vm_go_on() - take back that the run ended.
 * @vm: the VM; its threads have ended.
 */
void vm_go_on(struct vm *vm)
{
	uint64_t count;

	vm->end = END_NONE;
	vm->stopping = false;
	/* The eventfd may have been signalled or not: it is not now. */
	if (read(vm->end_fd, &count, sizeof(count)) < 0)
		return;
}

/**
 * event_signal() - add one to an eventfd.
 * @fd: the eventfd.
 */
void event_signal(int fd)
{
	uint64_t one = 1;

	/* It can only fail when the counter is full, and then whoever waits for it wakes anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}
