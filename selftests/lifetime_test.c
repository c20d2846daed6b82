// SPDX-License-Identifier: GPL-2.0
/*
 * Who lives how long: fds closed in every order, a mapping that outlives its fd, duplicates,
 * other processes, and death in the middle of a run.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "vm.h"

static void halt_guest(void)
{
	for (;;) {
		cli();
		hlt();
	}
}

TEST(vcpu_outlives_vm, "a vCPU runs on after the VM's and the system's fds are closed")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	int sys = sys_fd();

	OK(close(v->vm->fd));
	OK(close(sys));
	REPORT(v, 1);
	DONE(v);
	OK(close(v->fd));
}

TEST(vcpu_first, "a vCPU's fd closed first: its id stays taken, the VM goes on")
{
	struct vm *vm = vm_new();
	struct vcpu *v0 = vcpu_long(vm, 0, simple_guest), *v1 = vcpu_new(vm, 1);

	OK(close(v1->fd));
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 1), EEXIST);
	REPORT(v0, 1);
	DONE(v0);
}

TEST(mapping_outlives, "the mapping of a vCPU may be used after all fds are closed")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	size_t size = run_size();
	volatile u8 *run = (volatile u8 *)v->run;

	REPORT(v, 1);
	OK(close(v->fd));
	OK(close(v->vm->fd));
	for (size_t i = 0; i < size; i += 512)
		run[i] = 0x5a;
	EQ(run[512], 0x5a);
	OK(munmap(v->run, size));
}

TEST(slot_unmapped, "the memory of a slot unmapped before, and after, the VM is closed")
{
	for (int i = 0; i < 2; i++) {
		struct vm *vm = vm_new();
		struct vcpu *v = vcpu_long(vm, 0, simple_guest);

		REPORT(v, 1);
		if (i)
			OK(munmap(vm->mem, vm->size));
		OK(close(vm->fd));
		OK(close(v->fd));
		if (!i)
			OK(munmap(vm->mem, vm->size));
	}
}

TEST(dup, "a duplicate of a vCPU's fd is the same vCPU")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	int copy = dup(v->fd), first = v->fd;

	REPORT(v, 1);
	OK(close(first));
	v->fd = copy;
	DONE(v);
}

static void *finish_elsewhere(void *arg)
{
	DONE((struct vcpu *)arg);
	return NULL;
}

TEST(other_thread, "a vCPU begun in one thread goes on in another")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	pthread_t t;

	REPORT(v, 1);
	EQ(pthread_create(&t, NULL, finish_elsewhere, v), 0);
	EQ(pthread_join(t, NULL), 0);
}

TEST(fork_eio, "in a child process every ioctl of the parent's VM and vCPU gives EIO; the parent goes on")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	int status;
	pid_t pid;

	REPORT(v, 1);
	pid = fork();
	if (!pid) {
		struct kvm_regs regs;

		ERR(ioctl(v->fd, KVM_RUN, 0), EIO);
		ERR(ioctl(v->fd, KVM_GET_REGS, &regs), EIO);
		ERR(ioctl(v->vm->fd, KVM_CREATE_VCPU, 5), EIO);
		ERR(vm_slot(v->vm, 5, MEM_SIZE, 0x1000, v->vm->mem, 0), EIO);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
	DONE(v);
}

TEST(fork_mapping, "a child has no hold on its parent's vCPUs: neither their mapping nor a new one")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	unsigned char in_core;
	int status;
	pid_t pid;

	REPORT(v, 1);
	pid = fork();
	if (!pid) {
		ERR(mincore(v->run, 4096, &in_core), ENOMEM);	/* nothing is mapped there */
		TRUE(mmap(NULL, run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0) == MAP_FAILED);
		EQ(errno, EIO);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
	DONE(v);
}

TEST(fork_keeps, "a child that keeps the fds open does not disturb the parent; it may be the last to close")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, simple_guest);
	int go[2], status;
	pid_t pid;
	char c;

	OK(pipe(go));
	REPORT(v, 1);
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 ? 0 : 1);
	}
	DONE(v);
	OK(close(v->vm->fd));
	OK(close(v->fd));
	OK(munmap(v->vm->mem, v->vm->size));
	OK(close(go[1]));
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
}

TEST(exec_closes, "the fds do not survive exec")
{
	struct vcpu *v = vcpu_bare(vm_bare(), 0);

	TRUE(fcntl(v->fd, F_GETFD) & FD_CLOEXEC);
	TRUE(fcntl(v->vm->fd, F_GETFD) & FD_CLOEXEC);
}

/* Starts a child that runs this guest for good; returns when the guest is in it. */
static pid_t child_running(void (*fn)(void), bool irqchip)
{
	int ready[2];
	pid_t pid;
	char c;

	OK(pipe(ready));
	pid = fork();
	if (!pid) {
		struct vm *vm = irqchip ? vm_new_irqchip() : vm_new();
		struct vcpu *v = vcpu_long(vm, 0, fn);

		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		vcpu_run(v);
		_exit(2);
	}
	EQ(read(ready[0], &c, 1), 1);
	usleep(50000);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void check_killed(pid_t pid)
{
	int status;

	OK(kill(pid, SIGKILL));
	OK(waitpid(pid, &status, 0));
	TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(kill_spinning, "SIGKILL while the guest spins, 10 times")
{
	for (int i = 0; i < 10; i++)
		check_killed(child_running(spin_guest, false));
}

TEST(kill_halted, "SIGKILL while the vCPU is halted in the kernel, 10 times")
{
	for (int i = 0; i < 10; i++)
		check_killed(child_running(halt_guest, true));
}

static void *run_once(void *arg)
{
	vcpu_run(arg);
	return NULL;
}

TEST(exit_group, "the process exits while two other threads run vCPUs")
{
	for (int i = 0; i < 5; i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			struct vm *vm = vm_new();
			pthread_t t;

			for (int n = 0; n < 2; n++)
				EQ(pthread_create(&t, NULL, run_once,
						  vcpu_long(vm, n, spin_guest)), 0);
			usleep(30000);
			_exit(0);
		}
		OK(waitpid(pid, &status, 0));
		EQ(status, 0);
	}
}

TEST(close_running, "the VM's and the vCPU's fds are closed while another thread runs the vCPU")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	pthread_t t;

	install_kick(SIGUSR1);
	EQ(pthread_create(&t, NULL, run_once, v), 0);
	while (!*(volatile u64 *)&GUEST(v->vm, guest_spins))
		usleep(1000);
	OK(close(v->vm->fd));
	OK(close(v->fd));
	usleep(10000);
	OK(pthread_kill(t, SIGUSR1));
	EQ(pthread_join(t, NULL), 0);
}

TEST(eventfds_outlive, "eventfds of irqfds and ioeventfds outlive the VM, and are signalled after it")
{
	struct vm *vm = vm_new_irqchip();
	struct kvm_irqfd irq = { .fd = eventfd(0, 0), .gsi = 5 };
	struct kvm_ioeventfd io = { .addr = 0x100, .len = 2, .fd = eventfd(0, 0),
				    .flags = KVM_IOEVENTFD_FLAG_PIO };

	vcpu_new(vm, 0);
	OK(ioctl(vm->fd, KVM_IRQFD, &irq));
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &io));
	OK(eventfd_write(irq.fd, 1));
	vm_free(vm);
	for (int i = 0; i < 5; i++)
		OK(eventfd_write(irq.fd, 1));
	OK(eventfd_write(io.fd, 1));
}

TEST(irqfd_closed, "an eventfd closed under its irqfd is no harm, before and after")
{
	struct vm *vm = vm_new_irqchip();

	vcpu_new(vm, 0);
	for (int i = 0; i < 20; i++) {
		struct kvm_irqfd irq = { .fd = eventfd(i & 1, 0), .gsi = i % 16 };

		OK(ioctl(vm->fd, KVM_IRQFD, &irq));
		OK(close(irq.fd));
	}
	vm_free(vm);
}

TEST(many, "200 VMs, one after the other, each runs once")
{
	time_limit(60);
	for (int i = 0; i < 200; i++) {
		struct vm *vm = vm_new();
		struct vcpu *v = vcpu_long(vm, 0, simple_guest);

		REPORT(v, 1);
		vcpu_free(v);
		vm_free(vm);
	}
}

TEST(no_fds, "out of file descriptors: EMFILE, and nothing is taken")
{
	struct vm *vm = vm_bare();
	struct rlimit limit = { .rlim_cur = 64, .rlim_max = 64 };
	int last = -1, fd;

	OK(setrlimit(RLIMIT_NOFILE, &limit));
	while ((fd = dup(vm->fd)) >= 0)
		last = fd;
	ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0), EMFILE);
	ERR(ioctl(sys_fd(), KVM_CREATE_VM, 0), EMFILE);
	OK(close(last));
	OK(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
}

/* In a child, so that what the process itself still holds does not count. */
static void one_vm(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, simple_guest);

		REPORT(v, 1);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
}

TEST(no_leak, "VMs leave nothing behind: of five times 50, at least once less than 1 MiB is gone")
{
	long least = 1 << 30;

	time_limit(90);
	for (int batch = 0; batch < 5 && least > 1024; batch++) {
		long before = meminfo("MemAvailable"), gone;

		for (int i = 0; i < 50; i++)
			one_vm();
		usleep(500000);
		gone = before - meminfo("MemAvailable");
		if (gone < least)
			least = gone;
	}
	note("%ld KiB gone", least);
	TRUE(least <= 1024);
}
