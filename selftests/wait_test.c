// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU waits for a page that its own program has to bring (userfaultfd), perhaps for ever: nothing else may wait with
 * it, in its VM or in another's, and a signal calls it back where the kernel can do that.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "vm.h"

enum { FAR = 0x40000000, PAGES = 16 };

struct waiting {
	struct vm *vm;
	struct vcpu *v;
	pthread_t thread;
	u8 *far;
	int uffd;
	volatile int ret;		/* of KVM_RUN; 1 while it runs */
	volatile pid_t tid;
};

static void touch_guest(void)
{
	report(1, *(volatile u64 *)FAR, 0, 0);
	done();
}

static void *run(void *arg)
{
	struct waiting *w = arg;

	w->tid = syscall(SYS_gettid);
	w->ret = vcpu_run(w->v);
	return NULL;
}

/* 2 MiB pages at 1 GiB, in the tables that vcpu_long() has made. */
static void map_far(struct vm *vm)
{
	u64 *pdpt = (u64 *)(vm->mem + (((u64 *)(vm->mem + PAGE_TABLES))[0] & ~0xfffull));
	u64 *pd = (u64 *)(vm->mem + SCRATCH);

	pd[0] = FAR | 0x83;
	pdpt[FAR >> 30] = SCRATCH | 3;
}

/* A vCPU that hangs in a fault on its first page of far memory. */
static struct waiting *start_waiting(void)
{
	static struct waiting w;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg;
	struct uffd_msg msg;

	w.uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (w.uffd < 0)
		test_skip("no userfaultfd");
	OK(ioctl(w.uffd, UFFDIO_API, &api));
	w.far = host_pages(PAGES * 4096);
	reg = (struct uffdio_register) {
		.range = { .start = (u64)w.far, .len = PAGES * 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	OK(ioctl(w.uffd, UFFDIO_REGISTER, &reg));
	w.vm = vm_new_irqchip();
	w.v = vcpu_long(w.vm, 0, touch_guest);
	OK(vm_slot(w.vm, 1, FAR, PAGES * 4096, w.far, 0));
	map_far(w.vm);
	w.ret = 1;
	EQ(pthread_create(&w.thread, NULL, run, &w), 0);
	EQ(read(w.uffd, &msg, sizeof(msg)), sizeof(msg));	/* it hangs */
	EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	return &w;
}

static void bring_page(struct waiting *w)
{
	static u64 page[512] = { 0x1234 };
	struct uffdio_copy copy = { .dst = (u64)w->far, .src = (u64)page, .len = 4096 };

	OK(ioctl(w->uffd, UFFDIO_COPY, &copy));
}

static void end_waiting(struct waiting *w)
{
	bring_page(w);
	EQ(pthread_join(w->thread, NULL), 0);
	EQ(w->ret, 0);
	EQ(w->v->run->exit_reason, KVM_EXIT_IO);
}

TEST(own_vm, "while a vCPU waits for its program: irqfds end, routes and slots change, the clock is set")
{
	struct waiting *w = start_waiting();
	struct kvm_irqfd f = { .fd = eventfd(0, 0), .gsi = 5 };
	struct kvm_irq_routing none = { .nr = 0 };
	struct kvm_clock_data clock = {};

	time_limit(10);
	OK(ioctl(w->vm->fd, KVM_IRQFD, &f));
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	OK(ioctl(w->vm->fd, KVM_IRQFD, &f));
	OK(ioctl(w->vm->fd, KVM_SET_GSI_ROUTING, &none));
	if (!device_is_kvm())			/* whose slots wait */
		OK(vm_slot(w->vm, 2, 1ull << 32, 4096, host_pages(4096), 0));
	OK(ioctl(w->vm->fd, KVM_SET_CLOCK, &clock));
	EQ(w->ret, 1);				/* it waits still */
	end_waiting(w);
}

/* A program with an irqfd that runs, until it is killed. */
TEST(slot_gone, "while a vCPU waits for its program, the slot and the memory go: then a device is there, and KVM_RUN has no error")
{
	struct uffdio_range range = { .len = PAGES * 4096 };
	struct waiting *w;

	if (device_is_kvm())
		test_skip("KVM's slots wait");
	w = start_waiting();
	time_limit(10);
	OK(vm_slot(w->vm, 1, FAR, 0, w->far, 0));
	OK(munmap(w->far, PAGES * 4096));
	range.start = (u64)w->far;
	OK(ioctl(w->uffd, UFFDIO_WAKE, &range));
	EQ(pthread_join(w->thread, NULL), 0);
	EQ(w->ret, 0);
	EQ(w->v->run->exit_reason, KVM_EXIT_MMIO);
	EQ(w->v->run->mmio.phys_addr, FAR);
}

static pid_t other_program(void)
{
	pid_t child = fork();

	if (!child) {
		struct vm *vm = vm_new_irqchip();
		struct vcpu *v = vcpu_long(vm, 0, spin_guest);
		struct kvm_irqfd f = { .fd = eventfd(0, 0), .gsi = 5 };

		ioctl(vm->fd, KVM_IRQFD, &f);
		vcpu_run(v);
		_exit(1);
	}
	return child;
}

static void *deassign(void *arg)
{
	struct waiting *w = arg;
	struct kvm_irqfd f = { .fd = eventfd(0, 0), .gsi = 5 };

	ioctl(w->vm->fd, KVM_IRQFD, &f);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	ioctl(w->vm->fd, KVM_IRQFD, &f);
	return NULL;
}

TEST(other_vm, "while a vCPU waits for its program and an irqfd of its VM ends, another program can be killed")
{
	pid_t other = other_program();
	struct waiting *w = start_waiting();
	pthread_t t;
	int status, i;

	EQ(pthread_create(&t, NULL, deassign, w), 0);
	usleep(200000);
	OK(kill(other, SIGKILL));
	for (i = 0; waitpid(other, &status, WNOHANG) == 0; i++) {
		TRUE(i < 500 * slowness());
		usleep(10000);
	}
	TRUE(WIFSIGNALED(status));
	end_waiting(w);
	EQ(pthread_join(t, NULL), 0);
}

static void nothing(int sig)
{
	(void)sig;
}

TEST(signal, "a signal ends KVM_RUN that waits for its program, and the next one goes on")
{
	struct sigaction act = { .sa_handler = nothing };
	struct waiting *w;
	struct utsname u;
	int major, minor, i;
	char *end;

	uname(&u);
	major = strtol(u.release, &end, 10);
	minor = strtol(end + 1, NULL, 10);
	if (major < 6 || (major == 6 && minor < 2))
		test_skip("this kernel waits until the program is killed");
	OK(sigaction(SIGUSR1, &act, NULL));
	w = start_waiting();
	OK(syscall(SYS_tgkill, getpid(), w->tid, SIGUSR1));
	for (i = 0; w->ret == 1; i++) {
		TRUE(i < 500 * slowness());
		usleep(10000);
	}
	EQ(w->ret, -EINTR);
	EQ(w->v->run->exit_reason, KVM_EXIT_INTR);
	EQ(pthread_join(w->thread, NULL), 0);
	bring_page(w);
	EQ(REPORT(w->v, 1).a, 0x1234);
	DONE(w->v);
}
