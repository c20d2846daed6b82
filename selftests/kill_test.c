// SPDX-License-Identifier: GPL-2.0
/*
 * Lifetimes, the second part (lifetime_test.c has the first): fds closed in every order, or sent to
 * another process; death by SIGKILL in every state; and thousands of VMs, after which the kernel's
 * counters of memory are what they were.
 *
 * LODGE_VMS is how many (10,000).
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "group.h"
#include "vm.h"

enum { DATA = 0x10000000 };

static void exit_guest(void)
{
	for (;;)
		report(1, 0, 0, 0);
}

static void touch_guest(void)
{
	report(1, 0, 0, 0);
	*(volatile u64 *)DATA = 1;
	done();
}

/* ---- closing ---- */

enum { FDS = 5 };

/* A VM whose routes, irqfd (with resampling) and ioeventfd are all in use. */
static void open_all(int fds[FDS])
{
	struct vm *vm = vm_new_irqchip();
	struct vcpu *v = vcpu_long(vm, 0, simple_guest);
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[2];
	} routes = { .head.nr = 2 };
	struct kvm_irqfd irq = { .gsi = 7, .flags = KVM_IRQFD_FLAG_RESAMPLE };
	struct kvm_ioeventfd io = { .addr = 0x100, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO };

	for (u32 i = 0; i < 2; i++)
		routes.e[i] = (struct kvm_irq_routing_entry) {
			.gsi = 7 + i, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = 7 + i },
		};
	OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes));
	fds[0] = vm->fd;
	fds[1] = v->fd;
	irq.fd = fds[2] = eventfd(0, EFD_NONBLOCK);
	irq.resamplefd = fds[3] = eventfd(0, EFD_NONBLOCK);
	io.fd = fds[4] = eventfd(0, EFD_NONBLOCK);
	OK(ioctl(vm->fd, KVM_IRQFD, &irq));
	OK(ioctl(vm->fd, KVM_IOEVENTFD, &io));
	REPORT(v, 1);
	munmap(v->run, run_size());
	munmap(vm->mem, vm->size);
	free(v);
	free(vm);
}

/* The n-th permutation of 0 .. FDS - 1; what is open meanwhile is used. */
static void close_in_order(int fds[FDS], u32 n)
{
	int left[FDS] = { 0, 1, 2, 3, 4 };

	for (int count = FDS; count; count--) {
		int i = n % count, which = left[i];

		n /= count;
		left[i] = left[count - 1];
		for (int e = 2; e < FDS; e++)
			if (fds[e] >= 0)
				OK(eventfd_write(fds[e], 1));
		OK(close(fds[which]));
		fds[which] = -1;
	}
}

TEST(close_orders, "VM, vCPU, irqfd, its resampler and ioeventfd, closed in all 120 orders, each used until it is closed")
{
	int fds[FDS];

	time_limit(60);
	for (u32 n = 0; n < 120; n++) {
		open_all(fds);
		close_in_order(fds, n);
	}
}

static void send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	EQ(sendmsg(sock, &m, 0), 1);
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };
	int fd;

	EQ(recvmsg(sock, &m, 0), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

TEST(sent_fd, "fds sent to another process: EIO there, no harm here; the receiver may be the last to close them")
{
	int socks[2], status;
	struct vcpu *v;
	pid_t pid;
	char c;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	if (!pid) {
		int vm, vcpu;
		struct kvm_regs regs;

		close(socks[0]);
		vm = receive_fd(socks[1]);
		vcpu = receive_fd(socks[1]);
		ERR(ioctl(vcpu, KVM_RUN, 0), EIO);
		ERR(ioctl(vcpu, KVM_GET_REGS, &regs), EIO);
		ERR(ioctl(vm, KVM_CREATE_VCPU, 3), EIO);
		TRUE(mmap(NULL, run_size(), PROT_READ, MAP_SHARED, vcpu, 0) != NULL);
		EQ(write(socks[1], "x", 1), 1);
		EQ(read(socks[1], &c, 1), 0);	/* until the owner has closed all */
		ERR(ioctl(vcpu, KVM_RUN, 0), EIO);
		_exit(0);
	}
	close(socks[1]);
	v = vcpu_long(vm_new(), 0, simple_guest);
	send_fd(socks[0], v->vm->fd);
	send_fd(socks[0], v->fd);
	REPORT(v, 1);
	EQ(read(socks[0], &c, 1), 1);
	DONE(v);
	OK(close(v->fd));
	OK(close(v->vm->fd));
	OK(munmap(v->vm->mem, v->vm->size));
	OK(close(socks[0]));
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
}

/* ---- SIGKILL ---- */

/* A child in which fn() tells by the pipe that it is where it is to die, and goes on. */
static void kill_in(void (*fn)(int ready), int times)
{
	for (int i = 0; i < times; i++) {
		int ready[2], status;
		pid_t pid;
		char c;

		OK(pipe(ready));
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			fn(ready[1]);
			_exit(2);
		}
		close(ready[1]);
		EQ(read(ready[0], &c, 1), 1);
		usleep(i * 1500);
		OK(kill(pid, SIGKILL));
		OK(waitpid(pid, &status, 0));
		TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		close(ready[0]);
	}
}

static void tell(int ready)
{
	if (write(ready, "x", 1) != 1)
		_exit(1);
}

static void in_user_exits(int ready)
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, exit_guest);

	tell(ready);
	while (!vcpu_run(v))
		;
}

TEST(kill_exits, "SIGKILL while a vCPU goes to userspace and back")
{
	kill_in(in_user_exits, 10);
}

static void in_fault(int ready)
{
	struct vcpu *v = vcpu_long(vm_new_irqchip(), 0, touch_guest);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	u8 *page = host_pages(0x1000);
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	reg.range.start = (u64)page;
	reg.range.len = 0x1000;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		_exit(3);
	OK(vm_slot(v->vm, 1, DATA, 0x1000, page, 0));
	REPORT(v, 1);
	tell(ready);
	vcpu_run(v);		/* nobody ever answers the fault */
}

TEST(kill_fault, "SIGKILL while a vCPU waits for a page that userfaultfd holds back")
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		test_skip("userfaultfd: %s", strerror(errno));
	kill_in(in_fault, 10);
}

static void in_create(int ready)
{
	tell(ready);
	for (;;) {
		struct vm *vm = vm_bare();

		ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0);
		for (u32 i = 0; i < 4; i++)
			vcpu_free(vcpu_bare(vm, i));
		vm_free(vm);
	}
}

TEST(kill_create, "SIGKILL while VMs and vCPUs are created and destroyed")
{
	kill_in(in_create, 15);
}

static void *move_slots(void *arg)
{
	struct vm *vm = arg;
	u8 *page = host_pages(0x4000);

	for (;;) {
		vm_slot(vm, 1, DATA, 0x4000, page, 0);
		vm_slot(vm, 1, DATA + 0x100000, 0x4000, page, KVM_MEM_LOG_DIRTY_PAGES);
		vm_slot(vm, 1, 0, 0, 0, 0);
	}
	return NULL;
}

static void *run_on(void *arg)
{
	vcpu_run(arg);
	return NULL;
}

static void in_slots(int ready)
{
	struct vm *vm = vm_new_irqchip();
	pthread_t t;

	for (u32 i = 0; i < 2; i++) {
		struct vcpu *v = vcpu_long(vm, i, spin_guest);
		struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

		ioctl(v->fd, KVM_SET_MP_STATE, &mp);
		pthread_create(&t, NULL, run_on, v);
	}
	pthread_create(&t, NULL, move_slots, vm);
	tell(ready);
	for (;;)
		pause();
}

TEST(kill_slots, "SIGKILL while a thread changes slots and two others run vCPUs")
{
	time_limit(60);
	kill_in(in_slots, 10);
}

/* ---- out of memory ---- */

enum { BIG = 256 << 20, ALLOWED = 64 << 20 };

static void fill_guest(void)
{
	for (u64 at = 0; at < BIG; at += 4096)
		*(volatile u64 *)(DATA + at) = at;
	done();
}

TEST(oom, "a guest that fills more memory than its cgroup has: the OOM killer ends that process and no other")
{
	struct memory_group g = group_new("lodge-oom", ALLOWED);
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct vm *vm = vm_new();
		u8 *mem = host_pages(BIG);
		struct vcpu *v = vcpu_long(vm, 0, fill_guest);

		OK(vm_slot(vm, 1, DATA, BIG, mem, 0));
		if (!group_join(&g))
			_exit(3);
		_exit(vcpu_run(v) ? 4 : 5);
	}
	OK(waitpid(pid, &status, 0));
	group_end(&g);
	TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	REPORT(vcpu_long(vm_new(), 0, simple_guest), 1);
}

/* ---- thousands ---- */

/* Objects in use in all slab caches: a leak of one for each VM is as many. */
static u64 slab_objects(void)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	char line[256];
	u64 sum = 0;

	if (!f)
		test_skip("/proc/slabinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		unsigned long long active;
		char name[64];

		/* what programs and files come and go with */
		if (sscanf(line, "%63s %llu", name, &active) != 2 || !strcmp(name, "dentry") ||
		    strstr(name, "inode") || !strcmp(name, "radix_tree_node"))
			continue;
		sum += active;
	}
	fclose(f);
	return sum;
}

/* A kernel with KASAN keeps what was freed, until a cache is told to shrink; no others have much to drop. */
static void shrink_slabs(void)
{
	if (system("for f in /sys/kernel/slab/*/shrink; do echo 1 >$f; done 2>/dev/null"))
		note("slab caches cannot be shrunk");
}

static void create_and_destroy(u64 n)
{
	while (n--) {
		int vm = OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)), vcpu;

		OK(ioctl(vm, KVM_CREATE_IRQCHIP, 0));
		vcpu = OK(ioctl(vm, KVM_CREATE_VCPU, 0));
		close(n & 1 ? vm : vcpu);
		close(n & 1 ? vcpu : vm);
	}
}

/* Caches are warm after some; what is freed by RCU takes its time. */
TEST(thousands, "10,000 VMs made and destroyed: slab objects, page tables, per-CPU memory and pages are what they were")
{
	static const char *const keys[] = { "SUnreclaim", "PageTables", "Percpu", "KernelStack", "VmallocUsed" };
	const char *s = getenv("LODGE_VMS");
	u64 n = s ? strtoull(s, NULL, 0) : 10000, before[ARRAY_SIZE(keys)], objects, available, start;

	time_limit(240);
	create_and_destroy(200);
	sleep(1);
	shrink_slabs();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		before[i] = meminfo(keys[i]);
	available = meminfo("MemAvailable");
	objects = slab_objects();
	start = now_us();
	create_and_destroy(n);
	note("%llu VMs in %llu ms", (unsigned long long)n, (unsigned long long)(now_us() - start) / 1000);
	sleep(2);
	shrink_slabs();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		u64 now = meminfo(keys[i]);

		note("%s: %llu, %llu KiB", keys[i], (unsigned long long)before[i], (unsigned long long)now);
		LE(now, before[i] + 64 + n * 32 / 1024);
	}
	note("slab objects: %llu, %llu; MemAvailable: %llu, %llu KiB", (unsigned long long)objects,
	     (unsigned long long)slab_objects(), (unsigned long long)available,
	     (unsigned long long)meminfo("MemAvailable"));
	LE(slab_objects(), objects + n / 2 + 500);
	/* A page of each would be four times that; the host's own use moves by some MiB. */
	GE(meminfo("MemAvailable") + 1024 + n, available);
}
