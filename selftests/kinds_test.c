// SPDX-License-Identifier: GPL-2.0
/*
 * Kinds of memory under a snapshot and behind a template: what fork leaves out, what a program's own fault handler fills
 * or protects, huge pages, memfds that were cut, punched, sealed or replaced, and addresses where something else lies.
 *
 * uapi/API.md says what is refused and what works ("Kinds of memory"); each sentence there has a subtest here.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "group.h"
#include "reset.h"
#include "template.h"

#ifndef UFFDIO_WRITEPROTECT_MODE_WP
#define UFFDIO_WRITEPROTECT_MODE_WP 1
#endif

enum { WROTE = 1, PAGES = 64, SIZE = PAGES << 12, AREA = 0x40000000, HUGE = 2 << 20 };

/* ---- a guest that adds 1 to the first word of so many pages of a second slot, each turn ---- */

static u64 pages, first_page;

static void adding_guest(void)
{
	for (;;) {
		u64 sum = 0;

		for (u64 i = first_page; i < first_page + pages; i++)
			sum += ++*(volatile u64 *)(AREA + (i << 12));
		report(WROTE, sum, 0, 0);
	}
}

static struct vcpu *guest_on(u8 *area, u64 size)
{
	struct vcpu *v = vcpu_long(vm_new(), 0, adding_guest);

	OK(vm_slot(v->vm, 1, AREA, size, area, 0));
	GUEST(v->vm, pages) = PAGES;
	return v;
}

static u64 *word(u8 *area, u64 page)
{
	return (u64 *)(area + (page << 12));
}

/* Page i has `base` + i in its first word. */
static void fill(u8 *area, u64 base)
{
	for (u64 i = 0; i < PAGES; i++)
		*word(area, i) = base + i;
}

static void is_filled(u8 *area, u64 base)
{
	for (u64 i = 0; i < PAGES; i++)
		EQ(*word(area, i), base + i);
}

static u64 sum_of(u64 base)
{
	return PAGES * base + PAGES * (PAGES - 1) / 2;
}

static void back(struct vm *vm)
{
	struct lodge_reset r;

	EQ(vm_reset(vm, &r), 0);
}

/* ---- what fork leaves out ---- */

/* The child's status. In the child the memory is what `advice` makes of it, and the VM is not its own. */
static int forked(struct vm *vm, u8 *area, int advice)
{
	struct lodge_reset r = { };
	int status;
	pid_t pid = OK(fork());

	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		if (ioctl(vm->fd, LODGE_RESET, &r) != -1 || errno != EIO)
			_exit(2);
		for (int i = 0; i < PAGES; i++) {
			if (advice == MADV_WIPEONFORK && *word(area, i))
				_exit(3);
			*word(area, i) = 0xbad;
		}
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	return status;
}

static void fork_rounds(int advice, int want)
{
	u8 *area;
	struct vcpu *v;

	needs_snapshot();
	area = host_pages(SIZE);
	fill(area, 1000);
	OK(madvise(area, SIZE, advice));
	v = guest_on(area, SIZE);
	EQ(vm_snapshot(v->vm, 0), 0);
	for (u64 i = 0; i < 10; i++) {
		if (i % 3 == 1)
			EQ(forked(v->vm, area, advice), want);
		EQ(REPORT(v, WROTE).a, sum_of(1001));
		if (i % 3 == 2)
			EQ(forked(v->vm, area, advice), want);
		is_filled(area, 1001);
		back(v->vm);
		is_filled(area, 1000);
	}
}

TEST(dontfork, "MADV_DONTFORK under a snapshot: the VMM forks, its guest and LODGE_RESET do not notice; the child has none of it")
{
	fork_rounds(MADV_DONTFORK, SIGSEGV);
}

TEST(wipeonfork, "MADV_WIPEONFORK: the same, and the child reads zeros")
{
	fork_rounds(MADV_WIPEONFORK, 0);
}

/* ---- userfaultfd ---- */

/* Who answers the faults of a range: with a page whose first word is base + its number, or by allowing the write. */
struct monitor {
	int fd, stop[2];
	u8 *area;
	u64 base, filled, allowed;	/* the last two: how many answers */
	pthread_t thread;
};

static void answer(struct monitor *m, u64 flags, u8 *page)
{
	if (flags & UFFD_PAGEFAULT_FLAG_WP) {
		struct uffdio_writeprotect wp = { .range = { (u64)page, 4096 } };

		__atomic_add_fetch(&m->allowed, 1, __ATOMIC_SEQ_CST);
		OK(ioctl(m->fd, UFFDIO_WRITEPROTECT, &wp));
	} else {
		static u64 content[512] __attribute__((aligned(4096)));
		struct uffdio_copy copy = { .dst = (u64)page, .src = (u64)content, .len = 4096 };

		__atomic_add_fetch(&m->filled, 1, __ATOMIC_SEQ_CST);
		content[0] = m->base + ((page - m->area) >> 12);
		OK(ioctl(m->fd, UFFDIO_COPY, &copy));
	}
}

static void *watch(void *arg)
{
	struct monitor *m = arg;
	struct pollfd p[2] = { { m->fd, POLLIN }, { m->stop[0], POLLIN } };
	struct uffd_msg msg;

	while (poll(p, 2, -1) > 0 && !p[1].revents)
		if (read(m->fd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT)
			answer(m, msg.arg.pagefault.flags, (u8 *)(msg.arg.pagefault.address & -4096ull));
	return NULL;
}

static struct monitor *monitor(u8 *area, u64 size, u64 mode, u64 base)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register r = { .range = { (u64)area, size }, .mode = mode };

	*m = (struct monitor) { .fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), .area = area, .base = base };
	if (m->fd < 0)
		test_skip("userfaultfd: %s", strerror(errno));
	OK(ioctl(m->fd, UFFDIO_API, &api));
	if (ioctl(m->fd, UFFDIO_REGISTER, &r) || !(r.ioctls >> _UFFDIO_COPY & 1) ||
	    (mode & UFFDIO_REGISTER_MODE_WP && !(r.ioctls >> _UFFDIO_WRITEPROTECT & 1)))
		test_skip("userfaultfd has no such mode for this memory: %s", strerror(errno));
	OK(pipe2(m->stop, O_CLOEXEC));
	EQ(pthread_create(&m->thread, NULL, watch, m), 0);
	return m;
}

static u64 count(u64 *n)
{
	return __atomic_exchange_n(n, 0, __ATOMIC_SEQ_CST);
}

static void protect(struct monitor *m, bool on)
{
	struct uffdio_writeprotect wp = { .range = { (u64)m->area, SIZE },
					  .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

	OK(ioctl(m->fd, UFFDIO_WRITEPROTECT, &wp));
}

static void end_of(struct monitor *m)
{
	OK(close(m->stop[1]));
	EQ(pthread_join(m->thread, NULL), 0);
	OK(close(m->fd));
}

TEST(missing, "userfaultfd, missing pages: the guest, LODGE_SNAPSHOT_TOUCH and LODGE_RESET wait for who fills them")
{
	struct monitor *m;
	struct vcpu *v;
	u8 *area;

	needs_snapshot();
	area = host_pages(SIZE);
	m = monitor(area, SIZE, UFFDIO_REGISTER_MODE_MISSING, 1000);
	v = guest_on(area, SIZE);
	EQ(vm_snapshot(v->vm, 0), 0);
	EQ(vm_touch(v->vm, AREA, 3 << 12), 0);		/* reads what it keeps */
	EQ(count(&m->filled), 3);
	*word(area, 1) = 5;				/* the VMM, which has said so */
	back(v->vm);
	is_filled(area, 1000);				/* and here asks for the rest of them */
	EQ(count(&m->filled), PAGES - 3);
	OK(madvise(area, SIZE, MADV_DONTNEED));
	for (int i = 0; i < 5; i++) {
		EQ(REPORT(v, WROTE).a, sum_of(1001));
		EQ(count(&m->filled), i ? 0 : PAGES);
		back(v->vm);
		is_filled(area, 1000);
	}
	/* Pages that are gone since they were written: the reset has them filled, and puts the snapshot's content there. */
	REPORT(v, WROTE);
	OK(madvise(area, SIZE, MADV_DONTNEED));
	m->base = 2000;
	back(v->vm);
	EQ(count(&m->filled), PAGES);
	is_filled(area, 1000);
	EQ(REPORT(v, WROTE).a, sum_of(1001));
	end_of(m);
	EQ(REPORT(v, WROTE).a, sum_of(1002));
}

TEST(protected, "userfaultfd, pages protected against writes: whoever writes waits, LODGE_RESET too; reading does not")
{
	struct monitor *m;
	struct vcpu *v;
	u8 *area;

	needs_snapshot();
	area = host_pages(SIZE);
	fill(area, 1000);
	m = monitor(area, SIZE, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, 0);
	v = guest_on(area, SIZE);
	protect(m, true);
	EQ(vm_snapshot(v->vm, 0), 0);
	EQ(vm_touch(v->vm, AREA, 3 << 12), 0);
	EQ(count(&m->allowed), 0);
	*word(area, 1) = 5;
	EQ(count(&m->allowed), 1);
	back(v->vm);			/* those two that LODGE_SNAPSHOT_TOUCH named beside it, too */
	EQ(count(&m->allowed), 2);
	for (int i = 0; i < 8; i++) {
		protect(m, true);
		EQ(REPORT(v, WROTE).a, sum_of(1001));
		EQ(count(&m->allowed), PAGES);
		is_filled(area, 1001);
		if (i & 1)
			protect(m, true);
		back(v->vm);
		EQ(count(&m->allowed), i & 1 ? PAGES : 0);
		is_filled(area, 1000);
	}
	EQ(count(&m->filled), 0);
	end_of(m);
	EQ(REPORT(v, WROTE).a, sum_of(1001));
}

/* ---- huge pages ---- */

static void needs_huge_pages(int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	if (!put("/proc/sys/vm", "nr_hugepages", text) || meminfo("HugePages_Free") < (u64)n)
		test_skip("no huge pages");
}

TEST(huge, "huge pages under a snapshot, anonymous, of a memfd, and private ones of a memfd, and the VMM forks: all comes back")
{
	needs_snapshot();
	needs_huge_pages(12);
	for (int kind = 0; kind < 3; kind++) {
		int fd = kind ? memory_file(MFD_HUGETLB, 2 * HUGE) : -1;
		u8 *area = map_file(fd, 2 * HUGE, 0, kind ? kind == 1 ? MAP_SHARED : MAP_PRIVATE :
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
		u8 *middle = area + HUGE - SIZE / 2;
		struct vcpu *v = guest_on(area, 2 * HUGE);

		GUEST(v->vm, first_page) = (middle - area) >> 12;
		fill(middle, 1000);
		for (int turn = 0; turn < 2; turn++) {
			EQ(vm_snapshot(v->vm, 0), 0);
			for (int i = 0; i < 10; i++) {
				if (kind != 1 && i % 4 == 1)
					EQ(forked(v->vm, middle, 0), 0);
				EQ(REPORT(v, WROTE).a, sum_of(1001 + turn));
				if (kind != 1 && i % 4 == 2)
					EQ(forked(v->vm, middle, 0), 0);
				is_filled(middle, 1001 + turn);
				back(v->vm);
				is_filled(middle, 1000 + turn);
			}
			EQ(vm_drop(v->vm), 0);
			EQ(REPORT(v, WROTE).a, sum_of(1001 + turn));
		}
		vcpu_free(v);
		OK(munmap(area, 2 * HUGE));
		if (fd >= 0)
			OK(close(fd));
	}
	put("/proc/sys/vm", "nr_hugepages", "0");
}

/* ---- behind a template: slot 0 is as ever, slot 1 is what each test is about ---- */

struct source {
	struct vcpu *v;
	int memory, area;	/* memfds */
	u8 *at;			/* of slot 1 */
};

/* The area's file is given; it is mapped as `prot` says, and so is the slot. */
static struct source source_on(int area, int prot)
{
	struct source s = { .memory = memory_file(0, MEM_SIZE), .area = area };
	struct vm *vm = vm_bare();

	vm_fill(vm, map_file(s.memory, MEM_SIZE, 0, MAP_SHARED));
	s.at = mmap(NULL, SIZE, prot, MAP_SHARED, area, 0);
	TRUE(s.at != MAP_FAILED);
	s.v = vcpu_long(vm, 0, adding_guest);
	OK(vm_slot(vm, 1, AREA, SIZE, s.at, prot & PROT_WRITE ? 0 : KVM_MEM_READONLY));
	GUEST(vm, pages) = PAGES;
	return s;
}

static struct source source(u32 flags)
{
	struct source s;

	needs_template();
	s = source_on(memory_file(flags, SIZE), PROT_READ | PROT_WRITE);
	fill(s.at, 1000);
	return s;
}

static u8 *private(const struct source *s)
{
	return map_file(s->area, SIZE, 0, MAP_PRIVATE);
}

static u8 *memory_of(const struct source *s)
{
	return map_file(s->memory, MEM_SIZE, 0, MAP_PRIVATE);
}

static struct vcpu *child_at(const struct source *s, int template, u8 *area)
{
	struct vcpu *v;

	child_of(template, (u8 *[]){ memory_of(s), area }, 2, &v, (u32[]){ 0 }, 1);
	return v;
}

/* What LODGE_VM_FROM_TEMPLATE says of an area that will not do. Nothing is left of it: the next fd is the one it would be. */
static int refusal(const struct source *s, int template, u8 *area)
{
	u8 *memory = memory_of(s);
	int next = OK(dup(0)), vcpu = -1, ret;

	OK(close(next));
	ret = vm_from(template, (u8 *[]){ memory, area }, 2, &vcpu, 1);
	EQ(vcpu, -1);
	EQ(OK(dup(0)), next);
	OK(close(next));
	OK(munmap(memory, MEM_SIZE));
	return ret;
}

TEST(left_out, "MADV_DONTFORK on a template's memory: a forked process maps it for itself; MADV_WIPEONFORK is for no file")
{
	u8 *inherited, *left_out;
	struct source s = source(0);
	int template, status;
	pid_t pid;

	OK(madvise(s.at, SIZE, MADV_DONTFORK));
	template = template_of(s.v->vm);
	inherited = private(&s);
	left_out = private(&s);
	OK(madvise(left_out, SIZE, MADV_DONTFORK));
	ERR(madvise(left_out, SIZE, MADV_WIPEONFORK), EINVAL);
	pid = OK(fork());
	if (!pid) {
		EQ(refusal(&s, template, left_out), -EINVAL);
		EQ(REPORT(child_at(&s, template, inherited), WROTE).a, sum_of(1001));
		EQ(REPORT(child_at(&s, template, private(&s)), WROTE).a, sum_of(1001));
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	EQ(status, 0);
	EQ(REPORT(child_at(&s, template, left_out), WROTE).a, sum_of(1001));
	is_filled(s.at, 1000);
}

TEST(filled_later, "userfaultfd on a child's memory: what the memfd does not have is filled for each child alone")
{
	struct source s;
	struct monitor *m;
	struct vcpu *v;
	int template;
	u8 *at;

	s = source(0);
	OK(fallocate(s.area, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE));
	template = template_of(s.v->vm);
	at = private(&s);
	m = monitor(at, SIZE, UFFDIO_REGISTER_MODE_MISSING, 3000);
	v = child_at(&s, template, at);
	EQ(count(&m->filled), 0);
	EQ(REPORT(v, WROTE).a, sum_of(3001));
	EQ(count(&m->filled), PAGES);
	EQ(REPORT(child_at(&s, template, private(&s)), WROTE).a, PAGES);
	EQ(REPORT(v, WROTE).a, sum_of(3002));
	end_of(m);
}

TEST(allowed_later, "userfaultfd on a child's memory, protected against writes: each first write waits to be allowed")
{
	struct source s;
	struct monitor *m;
	struct vcpu *v;
	int template;
	u8 *at;

	s = source(0);
	template = template_of(s.v->vm);
	at = private(&s);
	m = monitor(at, SIZE, UFFDIO_REGISTER_MODE_WP, 0);
	protect(m, true);
	v = child_at(&s, template, at);
	for (u64 i = 1; i < 4; i++) {
		EQ(REPORT(v, WROTE).a, sum_of(1000 + i));
		EQ(count(&m->allowed), PAGES);
		protect(m, true);
	}
	is_filled(s.at, 1000);
	end_of(m);
}

/* ---- memfds that are not what they were ---- */

TEST(shrunk, "a memfd that is too short: EINVAL; cut under a child: EFAULT where its guest comes there, and grown, it reads zeros")
{
	u64 half = PAGES / 2, left = half * 1001 + half * (half - 1) / 2;
	struct source s = source(0);
	int template = template_of(s.v->vm);
	struct vcpu *v = child_at(&s, template, private(&s));
	u8 *before = private(&s);

	EQ(REPORT(v, WROTE).a, sum_of(1001));
	OK(ftruncate(s.area, SIZE / 2));
	EQ(refusal(&s, template, before), -EINVAL);
	EQ(refusal(&s, template, private(&s)), -EINVAL);
	ERR(ioctl(s.v->vm->fd, LODGE_TEMPLATE, 0), EINVAL);
	EQ(vcpu_run(v), -EFAULT);	/* the child's own copies are gone as well: a cut takes them */
	EQ(vcpu_run(v), -EFAULT);
	EQ(vcpu_run(s.v), -EFAULT);
	OK(ftruncate(s.area, SIZE));
	EQ(REPORT(v, WROTE).a, left + half + half);
	OK(ftruncate(s.area, 0));
	OK(ftruncate(s.area, SIZE));
	EQ(REPORT(child_at(&s, template, before), WROTE).a, PAGES);
}

TEST(punched, "a hole in a memfd is a write to it, which nothing refuses: zeros for who has no copy yet")
{
	struct source s = source(0);
	int template = template_of(s.v->vm);
	struct vcpu *has = child_at(&s, template, private(&s)), *has_not = child_at(&s, template, private(&s));

	EQ(REPORT(has, WROTE).a, sum_of(1001));
	OK(fallocate(s.area, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE));
	EQ(REPORT(has, WROTE).a, sum_of(1002));
	EQ(REPORT(has_not, WROTE).a, PAGES);
	EQ(REPORT(child_at(&s, template, private(&s)), WROTE).a, PAGES);
}

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

TEST(sealed, "seals on a memfd: templates and children do with them, and nobody else writes, cuts or punches")
{
	struct source s = source(MFD_ALLOW_SEALING);
	struct vcpu *v;
	int template;
	u8 *at;

	ERR(fcntl(s.area, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);	/* the source has it mapped */
	OK(fcntl(s.area, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	template = template_of(s.v->vm);
	v = child_at(&s, template, private(&s));
	EQ(REPORT(v, WROTE).a, sum_of(1001));
	ERR(ftruncate(s.area, SIZE / 2), EPERM);
	ERR(fallocate(s.area, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), EPERM);
	ERR(pwrite(s.area, "x", 1, 0), EPERM);
	/* Private mappings, of children that run, too, are in nobody's way. */
	TRUE(mmap(s.at, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, s.area, 0) == s.at);
	OK(fcntl(s.area, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
	EQ(REPORT(v, WROTE).a, sum_of(1002));
	EQ(REPORT(s.v, WROTE).a, sum_of(1001));
	EQ(REPORT(child_at(&s, template, private(&s)), WROTE).a, sum_of(1001));
	/* A slot that only reads, of a file that was sealed before. */
	s = source_on(memory_file(MFD_ALLOW_SEALING, SIZE), PROT_READ | PROT_WRITE);
	OK(munmap(s.at, SIZE));
	OK(fcntl(s.area, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	s = source_on(s.area, PROT_READ);
	template = template_of(s.v->vm);
	at = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, s.area, 0);
	TRUE(at != MAP_FAILED);
	v = child_at(&s, template, at);
	EQ(vcpu_run(v), 0);
	EQ(v->run->exit_reason, KVM_EXIT_MMIO);		/* a write to it goes to the VMM */
	EQ(v->run->mmio.phys_addr, AREA);
}

static int file_in(const char *dir, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = OK(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	OK(ftruncate(fd, SIZE));
	return fd;
}

static void mount_on(char *dir, const char *type)
{
	TRUE(mkdtemp(dir) != NULL);
	if (mount("none", dir, type, 0, NULL))
		test_skip("no %s: %s", type, strerror(errno));
}

TEST(replaced, "another file with the same name, number, size and content is another file: EINVAL; the same one opened again is not")
{
	char dir[] = "/tmp/kindsXXXXXX", other[] = "/tmp/kindsXXXXXX", from[64], to[64];
	int again, kept, now, template;
	struct source s;

	needs_template();
	mount_on(dir, "tmpfs");
	s = source_on(file_in(dir, "memory"), PROT_READ | PROT_WRITE);
	fill(s.at, 1000);
	template = template_of(s.v->vm);
	now = file_in(dir, "new");
	fill(map_file(now, SIZE, 0, MAP_SHARED), 1000);
	snprintf(from, sizeof(from), "%s/new", dir);
	snprintf(to, sizeof(to), "%s/memory", dir);
	OK(rename(from, to));
	EQ(refusal(&s, template, map_file(file_in(dir, "memory"), SIZE, 0, MAP_PRIVATE)), -EINVAL);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", s.area);
	again = OK(open(from, O_RDONLY | O_CLOEXEC));
	EQ(REPORT(child_at(&s, template, map_file(again, SIZE, 0, MAP_PRIVATE)), WROTE).a, sum_of(1001));
	kept = OK(dup(s.area));
	OK(dup2(now, s.area));
	EQ(refusal(&s, template, private(&s)), -EINVAL);
	OK(dup2(kept, s.area));
	EQ(REPORT(child_at(&s, template, private(&s)), WROTE).a, sum_of(1001));
	OK(umount2(dir, MNT_DETACH));
	OK(rmdir(dir));
	/* a file system whose pages are no memfd's */
	mount_on(other, "ramfs");
	s = source_on(file_in(other, "memory"), PROT_READ | PROT_WRITE);
	OK(umount2(other, MNT_DETACH));
	OK(rmdir(other));
	ERR(ioctl(s.v->vm->fd, LODGE_TEMPLATE, 0), EINVAL);
}

/* ---- addresses where something else lies ---- */

TEST(elsewhere, "addresses where something else lies, or something else in part, or nothing: EINVAL, and nothing is left")
{
	static u64 of_program[SIZE / 8] __attribute__((aligned(4096)));
	struct source s = source(0);
	int template = template_of(s.v->vm), zero = OK(open("/dev/zero", O_RDWR | O_CLOEXEC));
	u8 *const kernel[] = {
		(u8 *)0xffff888000000000, (u8 *)0xffffffff81000000, (u8 *)0xffffffffff600000, (u8 *)-4096ul,
		(u8 *)(1ul << 47), (u8 *)(1ul << 63), (u8 *)((1ul << 47) - 4096), NULL,
	};
	u8 *at, *vdso = (u8 *)getauxval(AT_SYSINFO_EHDR);

	for (size_t i = 0; i < ARRAY_SIZE(kernel); i++)
		EQ(refusal(&s, template, kernel[i]), -EINVAL);
	if (vdso)
		EQ(refusal(&s, template, vdso), -EINVAL);
	EQ(refusal(&s, template, (u8 *)s.v->run), -EINVAL);
	EQ(refusal(&s, template, (u8 *)of_program), -EINVAL);
	EQ(refusal(&s, template, (u8 *)((u64)&at & -4096ul)), -EINVAL);		/* the stack */
	EQ(refusal(&s, template, memory_of(&s)), -EINVAL);			/* the other slot's */
	EQ(refusal(&s, template, map_file(zero, SIZE, 0, MAP_PRIVATE)), -EINVAL);
	EQ(refusal(&s, template, map_file(-1, SIZE, 0, MAP_PRIVATE | MAP_ANONYMOUS)), -EINVAL);
	EQ(refusal(&s, template, map_file(-1, SIZE, 0, MAP_SHARED | MAP_ANONYMOUS)), -EINVAL);
	EQ(refusal(&s, template, s.at), -EINVAL);				/* shared */
	for (int i = 0; i < PAGES; i += PAGES / 2 - 1) {	/* the first page, one in the middle, one near the end */
		at = private(&s);
		TRUE(mmap(at + (i << 12), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
		     MAP_FAILED);
		EQ(refusal(&s, template, at), -EINVAL);
		TRUE(mmap(at + (i << 12), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, s.area, i << 12) != MAP_FAILED);
		EQ(refusal(&s, template, at), -EINVAL);
		TRUE(mmap(at + (i << 12), 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE, s.area, i << 12) != MAP_FAILED);
		EQ(refusal(&s, template, at), -EINVAL);
		TRUE(mmap(at + (i << 12), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, s.area, (i ^ 1) << 12) !=
		     MAP_FAILED);
		EQ(refusal(&s, template, at), -EINVAL);
		/* The right file in pieces is the right file. */
		TRUE(mmap(at + (i << 12), 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, s.area, i << 12) !=
		     MAP_FAILED);
		OK(madvise(at + (i << 12), 4096, MADV_DONTFORK));
		EQ(REPORT(child_at(&s, template, at), WROTE).a, sum_of(1001));
	}
	is_filled(s.at, 1000);
}
