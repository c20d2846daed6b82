// SPDX-License-Identifier: GPL-2.0
/*
 * Getting out of KVM_RUN: signals, KVM_SET_SIGNAL_MASK, immediate_exit, from a guest that spins
 * and from one that is halted; and two threads at one vCPU.
 */
#include <signal.h>
#include <sys/time.h>

#include "vm.h"

static void halt_guest(void)
{
	cli();
	for (;;)
		hlt();
}

/* A signal every 20 ms. It takes the timer of the subtest's limit; main() still has its own. */
static void kick_repeatedly(void)
{
	struct itimerval it = { { 0, 20000 }, { 0, 20000 } };

	install_kick(SIGALRM);
	OK(setitimer(ITIMER_REAL, &it, NULL));
}

static void no_kicks(void)
{
	OK(setitimer(ITIMER_REAL, &(struct itimerval) { 0 }, NULL));
}

TEST(immediate_exit, "immediate_exit: EINTR without entering the guest")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	u64 rip = get_regs(v).rip;

	v->run->immediate_exit = 1;
	for (int i = 0; i < 10; i++)
		EQ(vcpu_run(v), -EINTR);
	EQ(get_regs(v).rip, rip);
	EQ(GUEST(v->vm, guest_spins), 0);
}

TEST(signal_spin, "a signal ends KVM_RUN of a spinning guest: EINTR, exit reason INTR")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	u64 last = 0;

	kick_repeatedly();
	for (int i = 0; i < 5; i++) {
		EQ(vcpu_run(v), -EINTR);
		EQ(v->run->exit_reason, KVM_EXIT_INTR);
		TRUE(GUEST(v->vm, guest_spins) > last);
		last = GUEST(v->vm, guest_spins);
	}
	no_kicks();
}

TEST(signal_halted, "a signal ends KVM_RUN of a halted vCPU with an in-kernel APIC")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, halt_guest);

	kick_repeatedly();
	for (int i = 0; i < 3; i++)
		EQ(vcpu_run(v), -EINTR);
	no_kicks();
}

TEST(signal_uninitialized, "a signal ends KVM_RUN of a vCPU that waits for INIT")
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v;

	vcpu_new(vm, 0);
	v = vcpu_new(vm, 1);
	kick_repeatedly();
	EQ(vcpu_run(v), -EINTR);
	no_kicks();
}

TEST(halted_sleeps, "a halted vCPU does not burn the host's CPU time")
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, halt_guest);
	struct itimerval it = { { 0 }, { 0, 300000 } };
	clock_t before;

	install_kick(SIGALRM);
	before = clock();
	OK(setitimer(ITIMER_REAL, &it, NULL));
	EQ(vcpu_run(v), -EINTR);
	LE(clock() - before, CLOCKS_PER_SEC / 10);
}

TEST(signal_mask_pending, "KVM_SET_SIGNAL_MASK: a signal blocked outside but not inside ends KVM_RUN, and stays pending")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) mask = { .head.len = 8, .set = 0 };
	sigset_t blocked, pending, old;

	install_kick(SIGUSR1);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &blocked, NULL));
	OK(ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask));
	OK(raise(SIGUSR1));
	EQ(vcpu_run(v), -EINTR);
	EQ(v->run->exit_reason, KVM_EXIT_INTR);
	OK(sigpending(&pending));
	TRUE(sigismember(&pending, SIGUSR1));
	OK(sigprocmask(SIG_BLOCK, NULL, &old));
	TRUE(sigismember(&old, SIGUSR1));
}

TEST(signal_mask_blocked, "KVM_SET_SIGNAL_MASK: a signal blocked inside does not end KVM_RUN")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) mask = { .head.len = 8, .set = 1ull << (SIGUSR1 - 1) };
	sigset_t blocked;
	u64 start = now_us();

	install_kick(SIGUSR1);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &blocked, NULL));
	OK(ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask));
	OK(raise(SIGUSR1));
	kick_repeatedly();
	EQ(vcpu_run(v), -EINTR);		/* SIGALRM's doing */
	GE(now_us() - start, 10000);
	TRUE(GUEST(v->vm, guest_spins) > 0);
	no_kicks();
}

static void *run_forever(void *arg)
{
	struct vcpu *v = arg;

	while (v->run->immediate_exit == 0)
		vcpu_run(v);
	return NULL;
}

TEST(other_thread, "immediate_exit and a signal from another thread end KVM_RUN")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	pthread_t t;

	install_kick(SIGUSR1);
	EQ(pthread_create(&t, NULL, run_forever, v), 0);
	while (!*(volatile u64 *)&GUEST(v->vm, guest_spins))
		usleep(1000);
	v->run->immediate_exit = 1;
	OK(pthread_kill(t, SIGUSR1));
	EQ(pthread_join(t, NULL), 0);
	EQ(v->run->exit_reason, KVM_EXIT_INTR);
}

TEST(busy_ioctl, "an ioctl on a running vCPU waits until KVM_RUN has returned")
{
	struct vcpu *v = vcpu_long(vm_new(), 0, spin_guest);
	struct kvm_regs regs;
	pthread_t t;

	install_kick(SIGUSR1);
	EQ(pthread_create(&t, NULL, run_forever, v), 0);
	while (!*(volatile u64 *)&GUEST(v->vm, guest_spins))
		usleep(1000);
	v->run->immediate_exit = 1;
	OK(pthread_kill(t, SIGUSR1));
	OK(ioctl(v->fd, KVM_GET_REGS, &regs));
	TRUE(regs.rip >= (u64)spin_guest && regs.rip < (u64)spin_guest + 64);
	EQ(pthread_join(t, NULL), 0);
}

TEST(preemption, "two vCPUs in two threads share the host's CPUs with the test")
{
	struct vm *vm = vm_new();
	struct vcpu *v[2];
	pthread_t t[2];

	install_kick(SIGUSR1);
	for (int i = 0; i < 2; i++) {
		v[i] = vcpu_long(vm, i, spin_guest);
		EQ(pthread_create(&t[i], NULL, run_forever, v[i]), 0);
	}
	usleep(300000);
	TRUE(GUEST(vm, guest_spins) > 0);
	for (int i = 0; i < 2; i++) {
		v[i]->run->immediate_exit = 1;
		OK(pthread_kill(t[i], SIGUSR1));
		EQ(pthread_join(t[i], NULL), 0);
		EQ(v[i]->run->exit_reason, KVM_EXIT_INTR);
	}
}
