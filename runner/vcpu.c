// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPUs: their state when a kernel is booted, a thread for each, and what to do with each exit.
 *
 * The boot processor starts where boot.c says; the others wait in the kernel, whose local APICs
 * deliver INIT and SIPI. With the interrupt controllers there too, HLT never comes here: what does
 * are port and memory accesses of devices in this program, and the ways in which a guest ends.
 *
 * To stop, the main thread sets vm->stopping and each vCPU's immediate_exit, and sends KICK:
 * whichever way a thread was about to go, it comes out of KVM_RUN, or of a write to a terminal that
 * takes no more, and sees the flag.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runner.h"

#define KICK SIGRTMIN
#define MSR_MISC_ENABLE 0x1a0
#define MISC_FAST_STRING 1
#define MSR_MTRR_DEFAULT 0x2ff
#define MTRR_ENABLE_WB 0xc06		/* all memory write-back unless said otherwise */
#define APIC_LVT0 0x350
#define APIC_LVT1 0x360
#define LVT_NMI 0x400
#define LVT_EXTINT 0x700
#define RFLAGS_FIXED 0x2

/* Interrupts of the PIC reach the boot processor by LINT0, as firmware would leave it. */
static int set_lapic(struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	uint32_t extint = LVT_EXTINT, nmi = LVT_NMI;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		return say_errno("KVM_GET_LAPIC");
	if (vcpu->id == 0)
		memcpy(lapic.regs + APIC_LVT0, &extint, sizeof(extint));
	memcpy(lapic.regs + APIC_LVT1, &nmi, sizeof(nmi));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0)
		return say_errno("KVM_SET_LAPIC");
	return 0;
}

static int set_msrs(struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs = {
		.head = { .nmsrs = 2 },
		.entries = {
			{ .index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING },
			{ .index = MSR_MTRR_DEFAULT, .data = MTRR_ENABLE_WB },
		},
	};
	int n = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);

	if (n < 0)
		return say_errno("KVM_SET_MSRS");
	if (n < 2)
		return say("the hypervisor does not take MSR 0x%x", msrs.entries[n].index);
	return 0;
}

static int set_entry(struct vcpu *vcpu)
{
	struct kvm_regs regs = {
		.rip = vcpu->vm->entry, .rsi = GPA_ZERO_PAGE, .rflags = RFLAGS_FIXED,
		.rsp = GPA_PML4,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return say_errno("KVM_GET_SREGS");
	boot_sregs(&sregs);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return say_errno("KVM_SET_SREGS");
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return say_errno("KVM_SET_REGS");
	return 0;
}

static int map_run(struct vcpu *vcpu, size_t run_size)
{
	void *run;

	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return say_errno("cannot map processor %u", vcpu->id);
	vcpu->run = run;
	vcpu->run_size = run_size;
	vcpu->stats_fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
	return 0;
}

static int create(struct vcpu *vcpu, size_t run_size)
{
	vcpu->fd = ioctl(vcpu->vm->fd, KVM_CREATE_VCPU, vcpu->id);
	if (vcpu->fd < 0)
		return say_errno("cannot create processor %u", vcpu->id);
	return map_run(vcpu, run_size) < 0 ? -1 : cpuid_set(vcpu);
}

/**
 * vcpus_boot() - make all vCPUs ready to run the kernel.
 * @vm: the VM, its kernel loaded and its vCPUs created.
 *
 * Return: 0, or -1.
 */
int vcpus_boot(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ncpus; i++) {
		if (set_msrs(&vm->vcpus[i]) < 0 || set_lapic(&vm->vcpus[i]) < 0)
			return -1;
	}
	return set_entry(&vm->vcpus[0]);
}

static int run_size(const struct vm *vm)
{
	int size = ioctl(vm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < (int)sizeof(struct kvm_run))
		return say("the hypervisor's run structure is too small");
	return size;
}

/**
 * vcpus_adopt() - take the vCPUs of a VM that was made with all of them.
 * @vm: the VM, with the number of them, which had vCPUs before.
 * @fds: their descriptors, which are this function's now.
 *
 * Return: 0, or -1; vcpus_destroy() is to be called in both cases.
 */
int vcpus_adopt(struct vm *vm, const int *fds)
{
	int size = run_size(vm);
	unsigned int i;

	for (i = 0; i < vm->ncpus; i++)
		vm->vcpus[i].fd = fds[i];
	for (i = 0; i < vm->ncpus && size >= 0; i++) {
		if (map_run(&vm->vcpus[i], size) < 0)
			return -1;
	}
	return size < 0 ? -1 : 0;
}

/**
 * vcpus_create() - create all vCPUs, in the state of power-on.
 * @vm: the VM.
 *
 * Return: 0, or -1; vcpus_destroy() is to be called in both cases.
 */
int vcpus_create(struct vm *vm)
{
	int size = run_size(vm);
	unsigned int i;

	if (size < 0)
		return -1;
	if (cpuid_init(vm) < 0)
		return -1;
	for (i = 0; i < vm->ncpus; i++) {
		vm->vcpus[i].vm = vm;
		vm->vcpus[i].id = i;
		if (create(&vm->vcpus[i], size) < 0)
			return -1;
	}
	return 0;
}

/**
 * vcpus_destroy() - undo vcpus_create(), however far it got.
 * @vm: the VM; its vCPUs are stopped.
 */
void vcpus_destroy(struct vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->ncpus; i++) {
		if (vm->vcpus[i].run) {
			munmap(vm->vcpus[i].run, vm->vcpus[i].run_size);
			if (vm->vcpus[i].stats_fd >= 0)
				close(vm->vcpus[i].stats_fd);
		}
		if (vm->vcpus[i].vm && vm->vcpus[i].fd >= 0)
			close(vm->vcpus[i].fd);
		free(vm->vcpus[i].cpuid);
		vm->vcpus[i].run = NULL;
		vm->vcpus[i].fd = -1;
		vm->vcpus[i].cpuid = NULL;
	}
}

/* The guest is beyond help: the first processor to say so prints why, and its registers. */
static void crash(struct vcpu *vcpu, const char *why)
{
	if (!vm_end(vcpu->vm, END_CRASH))
		return;
	say("the guest has crashed: processor %u %s", vcpu->id, why);
	dump_vcpu(vcpu);
}

static void port_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint32_t i;

	for (i = 0; i < run->io.count; i++, data += run->io.size)
		io_port(vcpu->vm, run->io.direction == KVM_EXIT_IO_OUT, run->io.port, data,
			run->io.size);
}

static void system_event(struct vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
	case KVM_SYSTEM_EVENT_RESET:
		vm_end(vcpu->vm, END_OFF);
		break;
	default:
		crash(vcpu, "reported a crash of its system");
		break;
	}
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_exit(vcpu);
		break;
	case KVM_EXIT_MMIO:
		io_mmio(vcpu->vm, run->mmio.is_write, run->mmio.phys_addr, run->mmio.data,
			run->mmio.len);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		system_event(vcpu);
		break;
	case KVM_EXIT_SHUTDOWN:
		crash(vcpu, "met a triple fault");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		crash(vcpu, "could not be entered");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		crash(vcpu, "met an error of the hypervisor");
		break;
	default:
		crash(vcpu, "made an exit that nothing here handles");
		break;
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	while (!vcpu->vm->stopping) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
			handle_exit(vcpu);
		else if (errno != EINTR && errno != EAGAIN)
			crash(vcpu, strerror(errno));
	}
	return NULL;
}

/**
 * vcpus_settle() - complete what the vCPUs' last exits were for.
 * @vm: the VM; its threads have ended.
 *
 * The hypervisor finishes an instruction whose access was made here at the next KVM_RUN, and may
 * need another access for it; with immediate_exit it does not begin the next instruction. Only
 * then do the registers describe the guest. The guest may end in it (vm->end).
 *
 * Return: 0, or -1.
 */
int vcpus_settle(struct vm *vm)
{
	enum end end = vm->end;
	unsigned int i;

	for (i = 0; i < vm->ncpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->run->immediate_exit = 1;
		while (ioctl(vcpu->fd, KVM_RUN, 0) == 0 && vm->end == end)
			handle_exit(vcpu);
		if (vm->end == end && errno != EINTR)
			return say_errno("processor %u cannot be stopped", i);
	}
	return 0;
}

/* Its only purpose is to interrupt system calls. */
static void kicked(int sig)
{
	(void)sig;
}

/**
 * vcpus_start() - start a thread for each vCPU.
 * @vm: the VM, complete.
 *
 * Return: 0, or -1; vcpus_stop() is to be called in both cases.
 */
int vcpus_start(struct vm *vm)
{
	const struct sigaction action = { .sa_handler = kicked };
	unsigned int i;
	sigset_t kick;

	/* Whoever started this program may have left it blocked or ignored. */
	sigemptyset(&kick);
	sigaddset(&kick, KICK);
	sigaction(KICK, &action, NULL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	for (i = 0; i < vm->ncpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->run->immediate_exit = 0;
		errno = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
		if (errno)
			return say_errno("cannot start a thread");
		vcpu->running = true;
	}
	return 0;
}

/**
 * vcpus_stop() - stop the vCPUs and wait for their threads.
 * @vm: the VM.
 */
void vcpus_stop(struct vm *vm)
{
	unsigned int i;

	vm->stopping = true;
	for (i = 0; i < vm->ncpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (!vcpu->running)
			continue;
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, KICK);
		pthread_join(vcpu->thread, NULL);
		vcpu->running = false;
	}
}
