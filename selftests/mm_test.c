// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory is the host's memory: what its memory manager does to pages while a guest is at them, that memory_test
 * and memory_race_test leave out: nodes and migration between them, compaction, userfaultfd as post-copy and live
 * snapshots use it, MADV_FREE, broken memory, DAMON; and how many pages of each size the tables map.
 *
 * The guest of most of them goes over its pages for ever, checks each against a ledger in other memory, and writes it anew.
 */
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "group.h"
#include "stats.h"

enum { DATA = 0x10000000, PAGES = 1024, SIZE = PAGES * 4096, HUGE = 0x200000 };

static volatile u64 stop, visits, ledger[PAGES];

static void ledger_guest(void)
{
	spin_openly();
	for (u64 n = 1; !stop; n++) {
		u64 i = (n * 0x9e3779b1 >> 7) % PAGES;
		volatile u64 *p = (volatile u64 *)(DATA + i * 4096);

		GUEST_IS(p[0], ledger[i]);
		GUEST_IS(p[511], ledger[i]);
		p[0] = n;
		p[511] = n;
		ledger[i] = n;
		visits = n;
	}
	done();
}

struct runner {
	struct vcpu *v;
	pthread_t thread;
	u8 *mem;
};

static void *run(void *arg)
{
	struct vcpu *v = arg;

	EQ(vcpu_run(v), 0);
	fail_if_guest_failed(v, __FILE__, __LINE__);
	EQ(v->run->exit_reason, KVM_EXIT_IO);
	return NULL;
}

static u64 visited(struct runner *r)
{
	return *(volatile u64 *)&GUEST(r->v->vm, visits);
}

/* Until it has been at so many pages more. */
static void let_run(struct runner *r, u64 more)
{
	u64 until = visited(r) + more;

	while (visited(r) < until)
		usleep(1000);
}

static struct runner start(u8 *mem)
{
	struct runner r = { .v = vcpu_long(vm_new(), 0, ledger_guest), .mem = mem };

	OK(vm_slot(r.v->vm, 1, DATA, SIZE, mem, 0));
	EQ(pthread_create(&r.thread, NULL, run, r.v), 0);
	return r;
}

static void finish(struct runner *r)
{
	*(volatile u64 *)&GUEST(r->v->vm, stop) = 1;
	EQ(pthread_join(r->thread, NULL), 0);
	for (u64 i = 0; i < PAGES; i++) {
		u64 want = GUEST(r->v->vm, ledger[i]);

		EQ(*(u64 *)(r->mem + i * 4096), want);
		EQ(*(u64 *)(r->mem + i * 4096 + 4088), want);
	}
}

static u8 *small_pages(void)
{
	u8 *mem = host_pages(SIZE);

	advise_pages(mem, SIZE, MADV_NOHUGEPAGE);
	return mem;
}

/* ---- nodes ---- */

static void need_nodes(void)
{
	if (access("/sys/devices/system/node/node1", F_OK))
		test_skip("one node");
}

/* How many of the pages are on this node. */
static u32 on_node(u8 *mem, int node)
{
	static void *page[PAGES];
	static int status[PAGES];
	u32 n = 0;

	for (u32 i = 0; i < PAGES; i++)
		page[i] = mem + i * 4096;
	OK(syscall(SYS_move_pages, 0, (long)PAGES, page, NULL, status, 0));
	for (u32 i = 0; i < PAGES; i++)
		n += status[i] == node;
	return n;
}

TEST(numa_bind, "a policy of the VMM's: what a guest touches first is on the node that mbind() names")
{
	need_nodes();
	for (int node = 0; node < 2; node++) {
		unsigned long mask = 1ul << node;
		u8 *mem = small_pages();
		struct runner r;

		OK(syscall(SYS_mbind, mem, (long)SIZE, MPOL_BIND, &mask, 8ul, 0));
		r = start(mem);
		let_run(&r, 20000);
		EQ(on_node(mem, node), PAGES);
		finish(&r);
	}
}

TEST(numa_move, "move_pages() and migrate_pages() from node to node under a running guest: it goes on, its pages there")
{
	static void *page[PAGES];
	static int node[PAGES], status[PAGES];
	u8 *mem = small_pages();
	u64 moved = 0;
	struct runner r;

	need_nodes();
	r = start(mem);
	let_run(&r, 20000);
	for (int round = 0; round < 20; round++) {
		unsigned long from = 1ul << !(round & 1), to = 1ul << (round & 1);

		if (round < 10) {
			for (u32 i = 0; i < PAGES; i++) {
				page[i] = mem + i * 4096;
				node[i] = round & 1;
			}
			OK(syscall(SYS_move_pages, 0, (long)PAGES, page, node, status, MPOL_MF_MOVE));
		} else {
			OK(syscall(SYS_migrate_pages, 0, 64ul, &from, &to));
		}
		moved += on_node(mem, round & 1);
		let_run(&r, 1000);
	}
	finish(&r);
	note("%llu of %u moves", (unsigned long long)moved, 20 * PAGES);
	GE(moved, 14 * PAGES);		/* the kernel gives up on a page that is busy each time it looks */
}

/* ---- compaction ---- */

/* The frames behind the pages; 0 where there is none. */
static void read_frames(u8 *mem, u64 *pfn)
{
	int fd = OK(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));

	EQ(pread(fd, pfn, PAGES * 8, (u64)mem / 4096 * 8), PAGES * 8);
	close(fd);
	for (u32 i = 0; i < PAGES; i++)
		pfn[i] = pfn[i] >> 63 ? pfn[i] & ((1ull << 55) - 1) : 0;
}

TEST(compaction, "/proc/sys/vm/compact_memory while a guest runs: pages of it move, and it sees nothing of that")
{
	enum { EACH = 64 * 4096, HOLES = PAGES * EACH };
	static u64 before[PAGES], after[PAGES];
	u8 *mem = small_pages(), *holes = host_pages(HOLES);
	u32 moved = 0;
	struct runner r;

	/* On a busy machine it has not come to its end, with the stock KVM. */
	if (!getenv("LODGE_COMPACTION"))
		test_skip("LODGE_COMPACTION is not set");
	if (access("/proc/sys/vm/compact_memory", W_OK))
		test_skip("no compaction");
	/* The guest's pages lie far apart, and what is between them is free when it runs. */
	advise_pages(holes, HOLES, MADV_NOHUGEPAGE);
	for (u64 i = 0; i < PAGES; i++) {
		mem[i * 4096 + 8] = 1;
		for (u64 k = 0; k < EACH; k += 4096)
			holes[i * EACH + k] = 1;
	}
	OK(munmap(holes, HOLES));
	r = start(mem);
	let_run(&r, 20000);
	for (int round = 0; round < 3; round++) {
		read_frames(mem, before);
		TRUE(put("/proc/sys/vm", "compact_memory", "1"));
		read_frames(mem, after);
		for (u32 i = 0; i < PAGES; i++)
			moved += before[i] && after[i] && before[i] != after[i];
		let_run(&r, 1000);
	}
	finish(&r);
	note("%u pages moved", moved);
	GE(moved, 1);
}

/* ---- userfaultfd ---- */

struct monitor {
	int fd;
	u8 *mem, *copy;		/* guest memory; what comes, or is kept */
	u64 features;
	volatile bool ends;
	u32 answers;
	pthread_t thread;
};

/* A page that somebody waits for: fill it (missing), let it be seen (minor), or keep it and let it be written (WP). */
static void answer(struct monitor *m, u64 flags, u64 offset)
{
	struct uffdio_copy fill = { (u64)m->mem + offset, (u64)m->copy + offset, 4096 };
	struct uffdio_continue go = { .range = { (u64)m->mem + offset, 4096 } };
	struct uffdio_writeprotect wp = { .range = { (u64)m->mem + offset, 4096 } };

	m->answers++;
	if (flags & UFFD_PAGEFAULT_FLAG_WP) {
		memcpy(m->copy + offset, m->mem + offset, 4096);
		OK(ioctl(m->fd, UFFDIO_WRITEPROTECT, &wp));
	} else if (flags & UFFD_PAGEFAULT_FLAG_MINOR) {
		OK(ioctl(m->fd, UFFDIO_CONTINUE, &go));
	} else if (ioctl(m->fd, UFFDIO_COPY, &fill)) {
		EQ(errno, EEXIST);	/* the stream was faster */
	}
}

static void *watch(void *arg)
{
	struct monitor *m = arg;
	struct pollfd p = { m->fd, POLLIN };
	struct uffd_msg msg;

	while (!m->ends)
		if (poll(&p, 1, 20) > 0 && read(m->fd, &msg, sizeof(msg)) == sizeof(msg))
			answer(m, msg.arg.pagefault.flags, (msg.arg.pagefault.address & -4096ull) - (u64)m->mem);
	return NULL;
}

static void monitor(struct monitor *m, u64 mode, u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = { .range = { (u64)m->mem, SIZE }, .mode = mode };

	m->fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (m->fd < 0 || ioctl(m->fd, UFFDIO_API, &api) || ioctl(m->fd, UFFDIO_REGISTER, &reg))
		test_skip("userfaultfd has no such mode: %s", strerror(errno));
	EQ(pthread_create(&m->thread, NULL, watch, m), 0);
}

static void end(struct monitor *m)
{
	m->ends = true;
	EQ(pthread_join(m->thread, NULL), 0);
	OK(close(m->fd));
	note("%u faults were answered", m->answers);
}

/* What the source of a migration has: a ledger of its own numbers. */
static void came_from(struct runner *r, u8 *copy)
{
	for (u64 i = 0; i < PAGES; i++) {
		GUEST(r->v->vm, ledger[i]) = 0x5000000000 + i;
		*(u64 *)(copy + i * 4096) = *(u64 *)(copy + i * 4096 + 4088) = 0x5000000000 + i;
	}
}

static struct runner prepared(u8 *mem)
{
	struct runner r = { .v = vcpu_long(vm_new(), 0, ledger_guest), .mem = mem };

	OK(vm_slot(r.v->vm, 1, DATA, SIZE, mem, 0));
	return r;
}

TEST(post_copy, "post-copy: the guest runs before its memory is there, which comes page by page, and where it waits at once")
{
	struct monitor m = { .mem = small_pages(), .copy = host_pages(SIZE) };
	struct runner r = prepared(m.mem);

	came_from(&r, m.copy);
	monitor(&m, UFFDIO_REGISTER_MODE_MISSING, 0);
	EQ(pthread_create(&r.thread, NULL, run, r.v), 0);
	let_run(&r, 100);
	for (u64 i = 0; i < PAGES; i++) {	/* the stream beside it */
		struct uffdio_copy fill = { (u64)m.mem + i * 4096, (u64)m.copy + i * 4096, 4096 };

		if (ioctl(m.fd, UFFDIO_COPY, &fill))
			EQ(errno, EEXIST);
	}
	let_run(&r, 5000);
	finish(&r);
	end(&m);
	GE(m.answers, 50);
}

TEST(post_copy_minor, "the same where the pages are in the page cache, and only wait to be allowed (minor faults)")
{
	int fd = OK(memfd_create("guest", 0));
	struct monitor m = { 0 };
	struct runner r;

	OK(ftruncate(fd, SIZE));
	m.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m.copy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(m.mem != MAP_FAILED && m.copy != MAP_FAILED);
	r = prepared(m.mem);
	came_from(&r, m.copy);
	monitor(&m, UFFDIO_REGISTER_MODE_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	EQ(pthread_create(&r.thread, NULL, run, r.v), 0);
	let_run(&r, 20000);
	end(&m);
	GE(m.answers, PAGES / 2);
	finish(&r);
}

TEST(live_snapshot, "live snapshot: all is protected under a running guest, and what is kept before each write is of one moment")
{
	struct monitor m = { .mem = small_pages(), .copy = host_pages(SIZE) };
	struct uffdio_writeprotect wp = { .range = { (u64)m.mem, SIZE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct runner r = prepared(m.mem);
	u64 now;

	memset(m.copy, 0xff, SIZE);
	memset(m.mem, 0, SIZE);
	EQ(pthread_create(&r.thread, NULL, run, r.v), 0);
	let_run(&r, 20000);
	monitor(&m, UFFDIO_REGISTER_MODE_WP, 0);
	OK(ioctl(m.fd, UFFDIO_WRITEPROTECT, &wp));
	now = visited(&r);
	let_run(&r, 20000);
	finish(&r);
	end(&m);
	GE(m.answers, PAGES / 2);
	/* Of pages that were written since: what they held when they were protected, not a later visit's number. */
	for (u64 i = 0; i < PAGES; i++) {
		u64 kept = *(u64 *)(m.copy + i * 4096);

		if (kept == ~0ull)
			continue;
		EQ(*(u64 *)(m.copy + i * 4096 + 4088), kept);
		LE(kept, now + 1);
	}
}

/* ---- MADV_FREE ---- */

static volatile u64 every;

static void touch_guest(void)
{
	for (;;) {
		for (u64 i = 0; i < PAGES; i += every)
			*(volatile u64 *)(DATA + i * 4096) = i + every;
		report(1, 0, 0, 0);
	}
}

TEST(madv_free, "MADV_FREE: what the guest writes afterwards stays, what it does not may be gone")
{
	u8 *mem = small_pages();
	struct vcpu *v = vcpu_long(vm_new(), 0, touch_guest);
	u32 gone = 0;

	OK(vm_slot(v->vm, 1, DATA, SIZE, mem, 0));
	GUEST(v->vm, every) = 1;
	REPORT(v, 1);
	OK(madvise(mem, SIZE, MADV_FREE));
	GUEST(v->vm, every) = 2;
	REPORT(v, 1);
	/* No swap is needed for what is free: taken at once. What the guest has written is not clean. */
	if (madvise(mem, SIZE, MADV_PAGEOUT))
		test_skip("MADV_PAGEOUT: %s", strerror(errno));
	for (u64 i = 0; i < PAGES; i++) {
		u64 value = *(u64 *)(mem + i * 4096);

		if (i % 2) {
			TRUE(value == 0 || value == i + 1);
			gone += !value;
		} else {
			EQ(value, i + 2);
		}
	}
	note("%u of %u pages were taken", gone, PAGES / 2);
	GE(gone, 1);
	REPORT(v, 1);
	for (u64 i = 0; i < PAGES; i += 2)
		EQ(*(u64 *)(mem + i * 4096), i + 2);
}

/* ---- broken memory ---- */

static volatile sig_atomic_t bus_code;
static void *volatile bus_addr;
static volatile short bus_lsb;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	bus_code = info->si_code;
	bus_addr = info->si_addr;
	bus_lsb = info->si_addr_lsb;
}

static volatile u64 where;

static void read_guest(void)
{
	for (;;)
		report(1, *(volatile u64 *)where, 0, 0);
}

TEST(poison, "a page whose memory broke: SIGBUS with BUS_MCEERR_AR where the guest reads it; mapped anew, it goes on")
{
	struct sigaction sa = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct vcpu *v = vcpu_long(vm_new(), 0, read_guest);
	u8 *mem = small_pages();

	OK(vm_slot(v->vm, 1, DATA, SIZE, mem, 0));
	for (u64 i = 0; i < PAGES; i++)
		*(u64 *)(mem + i * 4096) = i;
	for (u64 i = 0; i < 16; i++) {
		GUEST(v->vm, where) = DATA + i * 4096;
		EQ(REPORT(v, 1).a, i);
	}
	OK(sigaction(SIGBUS, &sa, NULL));
	if (madvise(mem + 5 * 4096, 4096, MADV_HWPOISON))
		test_skip("MADV_HWPOISON: %s", strerror(errno));
	bus_code = 0;		/* it may have been told already that there is such a page */
	GUEST(v->vm, where) = DATA + 4 * 4096;
	EQ(REPORT(v, 1).a, 4);
	EQ(bus_code, 0);
	GUEST(v->vm, where) = DATA + 5 * 4096;
	for (int i = 0; i < 2; i++) {
		bus_code = 0;
		EQ(vcpu_run(v), -EINTR);
		EQ(bus_code, BUS_MCEERR_AR);
		TRUE(bus_addr == mem + 5 * 4096);
		EQ(bus_lsb, 12);
	}
	TRUE(mmap(mem + 5 * 4096, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	     mem + 5 * 4096);
	*(u64 *)(mem + 5 * 4096) = 0x55;
	EQ(REPORT(v, 1).a, 0x55);
}

/* ---- DAMON ---- */

#define DAMON "/sys/kernel/mm/damon/admin/kdamonds"
#define CONTEXT DAMON "/0/contexts/0"

static void set(const char *dir, const char *file, u64 value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	if (!put(dir, file, text))
		FAIL("%s/%s does not take %s", dir, file, text);
}

static u64 sz_tried(void)
{
	u64 value = 0;
	FILE *f;

	TRUE(put(DAMON "/0", "state", "update_schemes_stats"));
	f = fopen(CONTEXT "/schemes/0/stats/sz_tried", "r");
	TRUE(f && fscanf(f, "%lu", &value) == 1);
	fclose(f);
	return value;
}

static void watch_range(u8 *mem, u64 size)
{
	put("/sys/module/damon_stat/parameters", "enabled", "N");	/* it lets nobody else, where it is on */
	set(DAMON, "nr_kdamonds", 1);
	set(DAMON "/0/contexts", "nr_contexts", 1);
	TRUE(put(CONTEXT, "operations", "vaddr"));
	set(CONTEXT "/monitoring_attrs/intervals", "sample_us", 5000);
	set(CONTEXT "/monitoring_attrs/intervals", "aggr_us", 50000);
	set(CONTEXT "/monitoring_attrs/intervals", "update_us", 10000000);
	set(CONTEXT "/targets", "nr_targets", 1);
	set(CONTEXT "/targets/0", "pid_target", getpid());
	set(CONTEXT "/targets/0/regions", "nr_regions", 1);
	set(CONTEXT "/targets/0/regions/0", "start", (u64)mem);
	set(CONTEXT "/targets/0/regions/0", "end", (u64)mem + size);
	/* Count what was used, in all of two or more samples. */
	set(CONTEXT "/schemes", "nr_schemes", 1);
	TRUE(put(CONTEXT "/schemes/0", "action", "stat"));
	set(CONTEXT "/schemes/0/access_pattern/sz", "max", ~0ul);
	set(CONTEXT "/schemes/0/access_pattern/nr_accesses", "min", 2);
	set(CONTEXT "/schemes/0/access_pattern/nr_accesses", "max", ~0u);
	set(CONTEXT "/schemes/0/access_pattern/age", "max", ~0u);
	if (!put(DAMON "/0", "state", "on"))
		FAIL("DAMON does not begin: %s", strerror(errno));
}

TEST(damon, "DAMON sees what a guest uses, and that it uses nothing when it does not run")
{
	u8 *mem = small_pages();
	u64 used, idle;
	struct runner r;

	if (access(DAMON "/nr_kdamonds", W_OK))
		test_skip("no DAMON");
	r = start(mem);
	let_run(&r, 20000);
	watch_range(mem, SIZE);
	sleep(2);
	used = sz_tried();
	finish(&r);		/* it reads all of it once */
	sleep(1);
	idle = sz_tried();
	sleep(2);
	idle = sz_tried() - idle;
	put(DAMON "/0", "state", "off");
	set(DAMON, "nr_kdamonds", 0);
	note("%llu KiB used while it ran, %llu behind that", used / 1024ull, idle / 1024ull);
	GE(used, SIZE);
	LE(idle, used / 10);
}

/* ---- what the tables map ---- */

static u64 counter(struct vm *vm, const char *name)
{
	int fd = OK(ioctl(vm->fd, KVM_GET_STATS_FD, NULL));
	u64 value = stats_counter_of(fd, name, KVM_STATS_TYPE_INSTANT);

	close(fd);
	return value;
}

TEST(page_counts, "pages_4k, pages_2m and pages_1g of the VM's statistics: what is mapped, and no more what is not")
{
	struct vm *vm = vm_bare();
	u8 *own = host_pages(MEM_SIZE), *mem = (u8 *)(((u64)host_pages(SIZE + HUGE) + HUGE - 1) & -(u64)HUGE), *few = small_pages();
	u64 small, large, bits[PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bits };
	struct vcpu *v;

	need_stats();
	advise_pages(own, MEM_SIZE, MADV_NOHUGEPAGE);
	vm_fill(vm, own);
	v = vcpu_long(vm, 0, touch_guest);
	advise_pages(mem, SIZE, MADV_HUGEPAGE);
	OK(vm_slot(vm, 1, DATA, SIZE, mem, 0));
	EQ(counter(vm, "pages_4k") + counter(vm, "pages_2m") + counter(vm, "pages_1g"), 0);
	GUEST(vm, every) = 1;
	REPORT(v, 1);
	small = counter(vm, "pages_4k");
	large = counter(vm, "pages_2m");
	note("%llu of 4K, %llu of 2M", (unsigned long long)small, (unsigned long long)large);
	EQ(counter(vm, "pages_1g"), 0);
	if (large) {		/* there were huge pages to be had */
		EQ(large, SIZE / HUGE);
		LE(small, 200);		/* the guest's own tables, code and stack */
	} else {
		GE(small, PAGES);
	}
	/* Logged, large ones are split. */
	OK(vm_slot(vm, 1, DATA, SIZE, mem, KVM_MEM_LOG_DIRTY_PAGES));
	REPORT(v, 1);
	OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	REPORT(v, 1);
	EQ(counter(vm, "pages_2m"), 0);
	GE(counter(vm, "pages_4k"), PAGES);
	LE(counter(vm, "pages_4k"), PAGES + 200);
	OK(vm_slot(vm, 1, DATA, 0, mem, 0));
	/* Small ones, one by one, and by the table. */
	OK(vm_slot(vm, 1, DATA, SIZE, few, 0));
	REPORT(v, 1);
	small = counter(vm, "pages_4k");
	GE(small, PAGES);
	OK(madvise(few + 0x5000, 4096, MADV_DONTNEED));
	EQ(counter(vm, "pages_4k"), small - 1);
	OK(madvise(few, SIZE / 2, MADV_DONTNEED));
	EQ(counter(vm, "pages_4k"), small - PAGES / 2);
	OK(vm_slot(vm, 1, DATA, 0, few, 0));
	LE(counter(vm, "pages_4k"), 200);
	OK(madvise(vm->mem, vm->size, MADV_DONTNEED));
	LE(counter(vm, "pages_4k") + counter(vm, "pages_2m"), 8);
}

TEST(page_counts_1g, "a page of 1 GiB counts as one")
{
	struct vm *vm = vm_new();
	struct vcpu *v = vcpu_long(vm, 0, read_guest);
	u8 *mem = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 30 << 26, -1, 0);

	if (mem == MAP_FAILED)
		test_skip("no page of 1 GiB");
	need_stats();
	*(u64 *)(mem + 0x1000) = 0x1717;
	OK(vm_slot(vm, 1, 0x40000000, 1ul << 30, mem, 0));
	GUEST(vm, where) = 0x40001000;
	EQ(REPORT(v, 1).a, 0x1717);
	EQ(counter(vm, "pages_1g"), 1);
	OK(vm_slot(vm, 1, 0x40000000, 0, mem, 0));
	EQ(counter(vm, "pages_1g"), 0);
}
