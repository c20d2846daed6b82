// SPDX-License-Identifier: GPL-2.0
/*
 * LODGE_TEMPLATE: many VMs from one. A guest that has done something is frozen with its memory on a memfd; VMs are made of
 * it in this process and in others, and each goes on from there as the source would have, with memory of its own.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "group.h"
#include "msr.h"
#include "template.h"

enum { READY = 1, TURN = 2, COUNTER_GPA = HIGH_SCRATCH, OTHER_GPA = 0x40000000, OTHER_SIZE = 0x200000 };

/* It counts in memory, in the second slot and in a register; what was loaded before the template is still there. */
static void counting_guest(void)
{
	volatile u64 *count = (u64 *)COUNTER_GPA, *other = (u64 *)OTHER_GPA;
	u64 n = 0x1234;

	wrmsr(LSTAR, 0x123456780000);
	asm volatile("movq %0, %%xmm7" : : "r"(0xfeedull));
	report(READY, 0, 0, 0);
	for (;;) {
		u64 xmm;

		++*count;
		*other += *count;
		n += 3;
		asm volatile("movq %%xmm7, %0" : "=r"(xmm));
		GUEST_IS(xmm, 0xfeed);
		GUEST_IS(rdmsr(LSTAR), 0x123456780000);
		report(TURN, *count, *other, n);
	}
}

struct source {
	struct vm *vm;
	struct vcpu *v, *w;
	int memfd, other;
	u64 offset;		/* of the second slot in its memfd */
	u8 *memory, *second;
};

static struct source source_on(u32 kind, u64 page)
{
	struct source s = { .memfd = memory_file(kind, MEM_SIZE), .other = memory_file(kind, OTHER_SIZE + page) };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	s.offset = page;
	s.memory = map_file(s.memfd, MEM_SIZE, 0, MAP_SHARED);
	s.second = map_file(s.other, OTHER_SIZE, page, MAP_SHARED);
	s.vm = vm_bare();
	OK(ioctl(s.vm->fd, KVM_CREATE_IRQCHIP, 0));
	OK(ioctl(s.vm->fd, KVM_CREATE_PIT2, &pit));
	s.vm->irqchip = true;
	vm_fill(s.vm, s.memory);
	OK(vm_slot(s.vm, 7, OTHER_GPA, OTHER_SIZE, s.second, 0));
	s.v = vcpu_long(s.vm, 0, counting_guest);
	s.w = vcpu_long(s.vm, 3, counting_guest);
	REPORT(s.v, READY);
	for (u64 i = 1; i < 5; i++)
		EQ(REPORT(s.v, TURN).a, i);
	return s;
}

static struct source source(void)
{
	return source_on(0, 0x1000);
}

/* The VM of a template, its memory mapped privately; vcpus gets two. -errno. */
static int try_from(int fd, u8 *first, u8 *second, int *vcpus)
{
	return vm_from(fd, (u8 *[]){ first, second }, 2, vcpus, 2);
}

static struct vcpu *child_on(const struct source *s, int fd, int flags)
{
	u8 *at[] = { map_file(s->memfd, MEM_SIZE, 0, flags), map_file(s->other, OTHER_SIZE, s->offset, flags) };
	struct vcpu *v[2];

	child_of(fd, at, 2, v, (u32[]){ 0, 3 }, 2)->irqchip = true;
	return v[0];
}

static struct vcpu *child(const struct source *s, int fd)
{
	return child_on(s, fd, MAP_PRIVATE);
}

/* Five turns more, from the template's point. */
static void goes_on(struct vcpu *v)
{
	u64 other = 10, n = 0x1234 + 12;

	for (u64 i = 5; i < 10; i++) {
		struct words w = REPORT(v, TURN);

		other += i;
		n += 3;
		EQ(w.a, i);
		EQ(w.b, other);
		EQ(w.c, n);
	}
}

static void same_state(struct vcpu *a, struct vcpu *b)
{
	struct kvm_regs ra = get_regs(a), rb = get_regs(b);
	struct kvm_sregs sa = get_sregs(a), sb = get_sregs(b);
	struct kvm_lapic_state la, lb;
	struct kvm_cpuid2 *ca = calloc(1, sizeof(*ca) + 256 * sizeof(struct kvm_cpuid_entry2));
	struct kvm_cpuid2 *cb = calloc(1, sizeof(*cb) + 256 * sizeof(struct kvm_cpuid_entry2));
	struct kvm_irqchip ia = { .chip_id = 2 }, ib = { .chip_id = 2 };

	TRUE(!memcmp(&ra, &rb, sizeof(ra)));
	TRUE(!memcmp(&sa, &sb, sizeof(sa)));
	OK(ioctl(a->fd, KVM_GET_LAPIC, &la));
	OK(ioctl(b->fd, KVM_GET_LAPIC, &lb));
	TRUE(!memcmp(&la, &lb, sizeof(la)));
	OK(ioctl(a->vm->fd, KVM_GET_IRQCHIP, &ia));
	OK(ioctl(b->vm->fd, KVM_GET_IRQCHIP, &ib));
	TRUE(!memcmp(&ia, &ib, sizeof(ia)));
	ca->nent = cb->nent = 256;
	OK(ioctl(a->fd, KVM_GET_CPUID2, ca));
	OK(ioctl(b->fd, KVM_GET_CPUID2, cb));
	EQ(ca->nent, cb->nent);
	TRUE(!memcmp(ca->entries, cb->entries, ca->nent * sizeof(ca->entries[0])));
	EQ(get_msr(a, LSTAR), get_msr(b, LSTAR));
}

TEST(children, "VMs of a template go on from where the source was, each with memory of its own")
{
	struct lodge_template_slot slots[2];
	struct lodge_template_info info = { .nslots = 1, .slots = (u64)slots };
	struct source s;
	struct vcpu *v[3];
	int fd;

	needs_template();
	s = source();
	fd = template_of(s.vm);
	ERR(ioctl(fd, LODGE_TEMPLATE_INFO, &info), E2BIG);
	EQ(info.nslots, 2);
	EQ(info.nvcpus, 2);
	OK(ioctl(fd, LODGE_TEMPLATE_INFO, &info));
	EQ(slots[0].slot, 0);
	EQ(slots[0].memory_size, MEM_SIZE);
	EQ(slots[1].slot, 7);
	EQ(slots[1].guest_phys_addr, OTHER_GPA);
	EQ(slots[1].offset, 0x1000);
	for (int i = 0; i < 3; i++) {
		v[i] = child(&s, fd);
		same_state(s.v, v[i]);
	}
	for (int i = 0; i < 3; i++) {
		goes_on(v[i]);
		EQ(*(u64 *)(v[i]->vm->mem + COUNTER_GPA), 9);
	}
	EQ(*(u64 *)(s.memory + COUNTER_GPA), 4);
	OK(close(fd));
	EQ(REPORT(v[0], TURN).a, 10);
	EQ(REPORT(v[2], TURN).a, 10);
}

TEST(source_goes_on, "the source maps its memory privately over itself and goes on as a sibling")
{
	struct source s;
	struct vcpu *v;
	int fd;

	needs_template();
	s = source();
	fd = template_of(s.vm);
	TRUE(mmap(s.memory, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, s.memfd, 0) == s.memory);
	TRUE(mmap(s.second, OTHER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, s.other, 0x1000) == s.second);
	goes_on(s.v);
	v = child(&s, fd);
	goes_on(v);
	REPORT(s.v, TURN);
	EQ(*(u64 *)(v->vm->mem + COUNTER_GPA), 9);
	EQ(*(u64 *)(s.memory + COUNTER_GPA), 10);
	/* what it has now is in no memfd */
	ERR(ioctl(s.vm->fd, LODGE_TEMPLATE, 0), EINVAL);
}

static void send_fds(int to, const int *fds, int n)
{
	char control[CMSG_SPACE(4 * sizeof(int))] = { }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	OK(sendmsg(to, &m, 0));
}

static void receive_fds(int from, int *fds, int n)
{
	char control[CMSG_SPACE(4 * sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };

	OK(recvmsg(from, &m, 0));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), n * sizeof(int));
}

TEST(other_process, "in other processes: the fd over a socket, inherited, and after the source has gone")
{
	int pair[2], fds[3], status;
	struct source s;
	pid_t maker, pid[2];

	needs_template();
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	maker = OK(fork());
	if (!maker) {
		s = source();
		fds[0] = template_of(s.vm);
		fds[1] = s.memfd;
		fds[2] = s.other;
		send_fds(pair[0], fds, 3);
		_exit(0);
	}
	receive_fds(pair[1], fds, 3);
	OK(waitpid(maker, &status, 0));
	EQ(status, 0);
	s = (struct source) { .memfd = fds[1], .other = fds[2], .offset = 0x1000 };
	for (int i = 0; i < 2; i++) {
		pid[i] = OK(fork());
		if (!pid[i]) {
			goes_on(child(&s, fds[0]));
			_exit(0);
		}
	}
	for (int i = 0; i < 2; i++) {
		OK(waitpid(pid[i], &status, 0));
		EQ(status, 0);
	}
	goes_on(child(&s, fds[0]));
}

TEST(refused, "what is no template, other memory, other numbers: an errno and nothing is left")
{
	struct lodge_template_info info = { .flags = 1 };
	u64 addresses[2] = { };
	struct lodge_vm_from_template a = { .nslots = 2, .nvcpus = 2, .addresses = (u64)addresses };
	int vcpus[2], fd, next, other;
	struct source s;
	u8 *m, *n, *p;

	needs_template();
	s = source();
	fd = template_of(s.vm);
	m = map_file(s.memfd, MEM_SIZE, 0, MAP_PRIVATE);
	n = map_file(s.other, OTHER_SIZE, 0x1000, MAP_PRIVATE);
	next = OK(dup(0));
	OK(close(next));
	ERR(ioctl(s.vm->fd, LODGE_TEMPLATE, 1), EINVAL);
	ERR(ioctl(fd, LODGE_TEMPLATE_INFO, &info), EINVAL);
	ERR(ioctl(fd, KVM_GET_API_VERSION, 0), ENOTTY);
	EQ(try_from(-1, m, n, vcpus), -EBADF);
	EQ(try_from(s.vm->fd, m, n, vcpus), -EINVAL);
	EQ(try_from(s.memfd, m, n, vcpus), -EINVAL);
	EQ(try_from(fd, m + 1, n, vcpus), -EINVAL);
	EQ(try_from(fd, n, m, vcpus), -EINVAL);
	EQ(try_from(fd, s.memory, n, vcpus), -EINVAL);			/* shared */
	EQ(try_from(fd, host_pages(MEM_SIZE), n, vcpus), -EINVAL);	/* anonymous */
	EQ(try_from(fd, m, map_file(s.other, OTHER_SIZE, 0, MAP_PRIVATE), vcpus), -EINVAL);
	EQ(try_from(fd, (u8 *)-4096ul, n, vcpus), -EINVAL);
	EQ(try_from(fd, m, n, (int *)8), -EFAULT);
	p = map_file(s.memfd, MEM_SIZE, 0, MAP_PRIVATE);
	OK(munmap(p + 0x5000, 0x1000));
	EQ(try_from(fd, p, n, vcpus), -EINVAL);
	OK(mprotect(n + 0x1000, 0x1000, PROT_READ));
	EQ(try_from(fd, m, n, vcpus), -EINVAL);
	OK(mprotect(n + 0x1000, 0x1000, PROT_READ | PROT_WRITE));
	other = memory_file(0, MEM_SIZE);
	EQ(try_from(fd, map_file(other, MEM_SIZE, 0, MAP_PRIVATE), n, vcpus), -EINVAL);
	OK(close(other));
	a.fd = fd;
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a), EINVAL);
	addresses[0] = (u64)m;
	addresses[1] = (u64)n;
	a.nslots = 1;
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a), EINVAL);
	a.nslots = 2;
	a.nvcpus = 1;
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a), EINVAL);
	a.nvcpus = 2;
	a.flags = 1;
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a), EINVAL);
	a.flags = 0;
	a.addresses = 8;
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, &a), EFAULT);
	ERR(ioctl(sys_fd(), LODGE_VM_FROM_TEMPLATE, NULL), EFAULT);
	EQ(OK(dup(0)), next);			/* no fd was left */
	OK(close(next));
	OK(ftruncate(s.other, OTHER_SIZE));	/* a page too short now */
	EQ(try_from(fd, m, n, vcpus), -EINVAL);
	OK(ftruncate(s.other, OTHER_SIZE + 0x1000));
	goes_on(child(&s, fd));
}

TEST(no_memfd, "a VM with memory that is on no memfd is no template")
{
	struct vcpu *v;

	needs_template();
	v = vcpu_long(vm_new(), 0, counting_guest);
	ERR(ioctl(v->vm->fd, LODGE_TEMPLATE, 0), EINVAL);
}

TEST(settings, "what was chosen for the source holds for its children: seals, capabilities, filters")
{
	static u64 none[1];
	struct kvm_msr_filter filter = { .ranges[0] = { KVM_MSR_FILTER_READ, 64, LSTAR, (u8 *)none } };
	struct kvm_enable_cap cap = { .cap = LODGE_CAP_BATCH_OUTS };
	u64 seal = LODGE_SEAL_CONFIG;
	struct source s;
	struct vcpu *v;

	needs_template();
	s = source();
	OK(ioctl(s.vm->fd, KVM_X86_SET_MSR_FILTER, &filter));
	OK(ioctl(s.vm->fd, LODGE_SEAL, &seal));
	v = child(&s, template_of(s.vm));
	ERR(ioctl(v->vm->fd, KVM_ENABLE_CAP, &cap), EPERM);
	EQ(vcpu_run(v), 0);
	EQ(get_regs(v).rax, REPORT_TRAP);	/* the RDMSR that is filtered */
	EQ(get_regs(v).rdi, 13);
}

TEST(huge_pages, "memory on hugetlb: children of it; one that finds the pool empty ends with EFAULT, and no other")
{
	enum { HUGE = 0x200000 };
	struct vcpu *v, *w;
	struct source s;
	int fd;

	needs_template();
	if (!put("/proc/sys/vm", "nr_hugepages", "40") || meminfo("HugePages_Free") < 32)
		test_skip("no huge pages");
	s = source_on(MFD_HUGETLB, HUGE);
	fd = template_of(s.vm);
	v = child(&s, fd);
	same_state(s.v, v);
	w = child_on(&s, fd, MAP_PRIVATE | MAP_NORESERVE);
	put("/proc/sys/vm", "nr_hugepages", "1");	/* those in use, or promised, stay */
	EQ(vcpu_run(w), -EFAULT);
	goes_on(v);
	EQ(*(u64 *)(s.memory + COUNTER_GPA), 4);
	put("/proc/sys/vm", "nr_hugepages", "0");
}

/* ---- very many ---- */

/* Every page of the child's memory becomes its own. */
static void write_all(struct vcpu *v)
{
	for (size_t i = HIGH_SCRATCH; i < MEM_SIZE; i += 4096)
		v->vm->mem[i + 8] = i >> 12;
	goes_on(v);
	for (;;)
		pause();
}

TEST(crowd, "200 children in a memory cgroup that has room for a few: those that write too much die, and no one else")
{
	enum { CHILDREN = 200 };
	struct memory_group g;
	int status, fd, killed = 0;
	pid_t pid[CHILDREN];
	struct source s;

	needs_template();
	time_limit(120);
	g = group_new("lodge-crowd", 100000000);
	s = source();
	fd = template_of(s.vm);
	for (int i = 0; i < CHILDREN; i++) {
		pid[i] = OK(fork());
		if (pid[i])
			continue;
		if (!group_join(&g))
			_exit(3);
		write_all(child(&s, fd));
	}
	for (u64 end = now_us() + 60000000ull * slowness(); killed < CHILDREN - 40 && now_us() < end; usleep(10000))
		for (int i = 0; i < CHILDREN; i++) {
			if (!pid[i] || waitpid(pid[i], &status, WNOHANG) != pid[i])
				continue;
			TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
			pid[i] = 0;
			killed++;
		}
	note("%d killed", killed);
	GE(killed, CHILDREN - 40);
	for (int i = 0; i < CHILDREN; i++)
		if (pid[i]) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], &status, 0);
		}
	group_end(&g);
	goes_on(child(&s, fd));
}
